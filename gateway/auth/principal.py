"""Who a request comes from."""

from msgspec import Struct


class Principal(Struct, frozen=True):
    """The bearer of a key.

    `key_id` is unique within its workspace only: the subject of a signed key may be any text that
    its signer likes, so what is counted per key is counted per (`workspace`, `key_id`).
    """

    key_id: str
    workspace: str
    agents: frozenset[int] | None
    """None: every agent of the workspace."""
    tier: str
    user: str | None = None
    """The end user that a signed key was made for."""
    expires: float | None = None
    """Unix seconds."""
    signed: bool = False
    """Whether the key is not in the config: its `key_id` is its signer's choice."""
