"""The sources of one answer. Upstreams repeat them; an event names each one once."""

import re
from collections.abc import Iterable

from gateway.core.events import Citation, Citations, Event, Json
from gateway.wire import json

# A widget makes links of what it is given, so a URL is one that may be followed: `javascript:` is
# not. Browsers and servers agree on no longer ones.
_URL = re.compile(r"https?://[^\x00-\x1f\x7f]+", re.IGNORECASE)
MAX_URL = 2048

# What a client may be expected to show of one, in characters.
MAX_TITLE = 500
MAX_SNIPPET = 2000

# Each costs many times the bytes that name it, and nobody reads so many: the rest is left out.
MAX_SOURCES = 1000


class Sources:
    """What has been cited in one turn: at most `MAX_SOURCES`, each within its bounds."""

    def __init__(self) -> None:
        self._cited: set[str] = set()

    def new(self, citations: Iterable[Citation]) -> list[Event]:
        """An event of those not named before, if there are any; one without a name is none."""
        new = []
        for citation in map(_bounded, citations):
            if len(self._cited) >= MAX_SOURCES:
                break
            key = citation.url or citation.title
            if key and key not in self._cited:
                self._cited.add(key)
                new.append(citation)
        return [Citations(new)] if new else []

    def read(self, items: Json) -> list[Event]:
        """The same for an array of `{"url", "title", "snippet"}` objects, or of bare URLs."""
        return self.new(_citation(item) for item in json.array(items))


def _bounded(said: Citation) -> Citation:
    url = (said.url or "").strip()
    fit = len(url) <= MAX_URL and _URL.fullmatch(url)
    return Citation(
        url if fit else None,
        said.title and said.title[:MAX_TITLE],
        said.snippet and said.snippet[:MAX_SNIPPET],
    )


def _citation(item: Json) -> Citation:
    if isinstance(item, str):
        return Citation(item)
    said = json.mapping(item)
    url, title, snippet = (json.text(said.get(key)) for key in ("url", "title", "snippet"))
    return Citation(url or None, title or None, snippet or None)
