"""From a reading of the config to what requests are served by: at the start, and later on."""
