"""Who asks."""

from gateway.auth.keyring import Principal
from gateway.config.model import Tier
from gateway.core.conversation import Owner
from gateway.core.frozen import frozen


@frozen
class Caller:
    """Who asks, and which limits they share with whom."""

    owner: Owner
    subject: str
    """The limiter's name for them."""
    tier_name: str
    tier: Tier
    principal: Principal | None = None

    @property
    def user(self) -> str | None:
        """The only end user that they speak for; None: any."""
        return self.principal.user if self.principal else None
