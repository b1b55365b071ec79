"""What an operator would rehearse: an outage, and everything going wrong at once."""
