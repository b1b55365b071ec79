"""What is known of targets from turn to turn: breakers, slots, retries, order, leases."""
