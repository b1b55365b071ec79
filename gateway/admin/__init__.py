"""The admin listener: health and metrics, never on the public one."""
