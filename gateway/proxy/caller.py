"""Who asks."""

from msgspec import Struct

from gateway.auth.keyring import Principal
from gateway.config.values import Rate
from gateway.core.conversation import Owner


class Caller(Struct, frozen=True):
    """Who asks, and which limits they share with whom."""

    owner: Owner
    subject: str
    """The limiter's name for them."""
    tier_name: str
    rate: Rate
    concurrency: int | None
    """Of the tier: how many turns may be open."""
    principal: Principal | None = None

    @property
    def user(self) -> str | None:
        """The only end user that they speak for; None: any."""
        return self.principal.user if self.principal else None
