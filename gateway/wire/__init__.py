"""Bytes on the wire: Server-Sent Events and JSON."""
