"""What agents and their clients have said: the interface of the stores, and the one in memory."""
