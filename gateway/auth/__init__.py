"""Who is asking: opaque keys by their hash, signed keys offline, widget identity."""
