"""What every part of the gateway speaks: events, errors, turns and the seam between codecs."""
