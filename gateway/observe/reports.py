"""Reports of what one process has counted, for another one that shows the sum of several.

Every figure in a report is the sum since the start. So a report that is lost or comes twice costs
nothing, and one that comes late hides nothing newer.
"""

from collections.abc import Callable, Mapping
from itertools import count
from typing import Any, TypedDict, cast

from gateway.core.events import Json
from gateway.observe.readings import Readings
from gateway.observe.tallies import Family, Figure, Gauges, Labels


class Report(TypedDict):
    """As JSON has it."""

    number: int
    """Counted by its worker."""
    figures: dict[str, list[tuple[list[str], Figure]]]
    """By family, the labels of series and what they have come to."""
    readings: list[Any] | None


class Reports:
    """Those that one process takes of its own, and those of workers that it absorbs."""

    def __init__(
        self,
        families: Mapping[str, Family[Any]],
        family: Callable[[str], Family[Any] | None],
        readings: Readings,
    ) -> None:
        """`family` makes those that are rare and not there yet."""
        self._families = families
        self._family = family
        self._readings = readings
        self._numbers = count(1)
        self._taken: dict[str, dict[Labels, Figure]] = {}
        """By family, what the last report knew."""
        self._last: dict[str, int] = {}
        """By worker, the number of the newest that has come."""

    def take(self, *, whole: bool) -> Json:
        """See `Metrics.take_report`. Two at once in two threads do each other no harm."""
        number, figures = next(self._numbers), {}
        for name, family in dict(self._families).items():
            known, now = {} if whole else self._taken.get(name, {}), family.figures()
            self._taken[name] = now
            if new := [(list(at), figure) for at, figure in now.items() if figure != known.get(at)]:
                figures[name] = new
        readings = self._readings.take() if whole else None
        return cast(Json, Report(number=number, figures=figures, readings=readings))

    def absorb(self, report: Json, worker: str) -> None:
        """See `Metrics.absorb`."""
        taken = cast(Report, report)
        # What is so now is in the last one taken, which need not be the last to come.
        late = taken["number"] < self._last.get(worker, 0)
        for name, figures in taken["figures"].items():
            family = self._family(name)
            if family is None or (late and isinstance(family, Gauges)):
                continue
            for labels, figure in figures:
                family.absorb(worker, labels, figure)
        if not late:
            self._last[worker] = taken["number"]
            if (readings := taken["readings"]) is not None:
                self._readings.absorb(worker, readings)

    def forget(self, worker: str) -> None:
        """See `Metrics.forget`."""
        for family in self._families.values():
            family.forget(worker)
        self._readings.forget(worker)
        self._last.pop(worker, None)
