"""What is known of each backend from turn to turn: whether to ask it, and how many may."""
