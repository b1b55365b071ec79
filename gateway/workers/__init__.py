"""Several processes that serve as one gateway, and the one that looks after them."""
