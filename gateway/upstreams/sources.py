"""The sources of one answer. Upstreams repeat them; an event names each one once."""

from collections.abc import Iterable

from gateway.core.events import Citation, Citations, Event, Json
from gateway.wire import json


class Sources:
    """What has been cited in one turn."""

    def __init__(self) -> None:
        self._cited: set[str] = set()

    def new(self, citations: Iterable[Citation]) -> list[Event]:
        """An event of those not named before, if there are any; one without a name is none."""
        new = []
        for citation in citations:
            key = citation.url or citation.title
            if key and key not in self._cited:
                self._cited.add(key)
                new.append(citation)
        return [Citations(new)] if new else []

    def read(self, items: Json) -> list[Event]:
        """The same for an array of `{"url", "title", "snippet"}` objects, or of bare URLs."""
        return self.new(_citation(item) for item in json.array(items))


def _citation(item: Json) -> Citation:
    if isinstance(item, str):
        return Citation(item)
    said = json.mapping(item)
    url, title, snippet = (json.text(said.get(key)) for key in ("url", "title", "snippet"))
    return Citation(url or None, title or None, snippet or None)
