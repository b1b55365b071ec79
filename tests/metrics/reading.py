"""What was counted, by name and labels."""

import re
from collections.abc import Callable

from tests.e2e.running import Running

Total = Callable[..., float]

_LABEL = re.compile(r'([a-z_]+)="([^"]*)"')


def labels_of(series: str) -> dict[str, str]:
    """Of a line of the exposition."""
    return dict(_LABEL.findall(series))


async def scraped(gateway: Running) -> Total:
    """The sum of a name's series with these labels, as of now."""
    values = await gateway.metrics()

    def total(name: str, **labels: str) -> float:
        return sum(
            value
            for series, value in values.items()
            if series.partition("{")[0] == name and labels.items() <= labels_of(series).items()
        )

    return total
