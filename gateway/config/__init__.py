"""The configuration: gateway.toml in, one immutable value out."""
