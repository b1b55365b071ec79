"""oc-gateway: an edge proxy that translates between agent-chat protocols."""

__version__ = "0.1.0"
