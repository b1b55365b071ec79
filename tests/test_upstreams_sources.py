"""The sources of an answer: what a client may be given to show and to follow."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.codec import Target
from gateway.core.events import Citation, Citations, Event, Json
from gateway.upstreams import UPSTREAMS
from gateway.upstreams.sources import MAX_SNIPPET, MAX_SOURCES, MAX_TITLE, MAX_URL, Sources
from gateway.wire import json
from tests.golden_cases import decoded

LONGEST = "https://a.example/" + "x" * (MAX_URL - 18)


def cited(*items: Json) -> list[Citation]:
    return found(Sources().read(list(items)))


def found(events: list[Event]) -> list[Citation]:
    return [item for event in events if isinstance(event, Citations) for item in event.items]


@pytest.mark.parametrize("url", ["http://a.example", "HTTPS://a.example/b?c=d#é", LONGEST])
def test_a_url_that_may_be_followed(url: str) -> None:
    """It passes as it stands, also where it stands alone."""
    assert cited(url) == [Citation(url)]
    assert cited({"url": url, "title": "A"}) == [Citation(url, "A")]


BAD = [
    "javascript:alert(1)",
    "JavaScript:alert(1)//https://a.example",
    "data:text/html,<script>",
    "file:///etc/passwd",
    "//a.example",
    "/a",
    "a.example",
    "https://",
    "https:a.example",
    "https://a.example/\nb",
    "java\tscript:alert(1)",
    LONGEST + "x",
]


@pytest.mark.parametrize("url", BAD)
def test_a_url_that_may_not(url: str) -> None:
    """The title alone remains; a citation that has none is none."""
    assert cited(url, {"url": url}, {"url": url, "snippet": "s"}) == []
    assert cited({"url": url, "title": "A", "snippet": "s"}) == [Citation(None, "A", "s")]


@pytest.mark.parametrize("url", BAD)
@pytest.mark.parametrize(
    ("kind", "before"),
    [
        ("openai", '{"citations":[%s]}'),
        ("openai", '{"search_results":[{"url":%s}]}'),
        (
            "openai",
            '{"choices":[{"delta":{"annotations":'
            '[{"type":"url_citation","url_citation":{"url":%s}}]}}]}',
        ),
        ("bookbag-v1", '{"type":"citations","citations":[{"url":%s}]}'),
        ("bookbag-v2", '{"type":"citations","citations":[{"url":%s}]}'),
        ("chatbase", '{"type":"source-url","sourceId":"1","url":%s}'),
    ],
)
def test_every_kind_knows_the_difference(kind: str, before: str, url: str) -> None:
    """No upstream has a way around."""
    decoder = UPSTREAMS[kind].decoder(Target(upstream="any"))
    good, bad = (
        ("data: " + before % json.dumps(said).decode() + "\n\n").encode()
        for said in ("https://a.example", url)
    )

    assert found(decoded(decoder, [bad, good])) == [Citation("https://a.example")]


def test_titles_and_snippets_are_cut() -> None:
    """At what may be expected of a client to show."""
    [one] = cited({"title": "t" * (MAX_TITLE + 1), "snippet": "s" * (MAX_SNIPPET + 1)})

    assert one == Citation(None, "t" * MAX_TITLE, "s" * MAX_SNIPPET)


def test_the_sources_of_a_turn_are_bounded() -> None:
    """Many more are no failure: the rest is left out."""
    sources = Sources()
    urls: list[Json] = [f"https://a.example/{number}" for number in range(MAX_SOURCES + 5)]

    assert len(found(sources.read(urls))) == MAX_SOURCES
    assert sources.read(["https://b.example"]) == []


@given(st.lists(st.text() | st.text().map(lambda rest: "https://" + rest)))
def test_whatever_is_cited_may_be_followed(urls: list[str]) -> None:
    """Once each, and none that begins like anything else."""
    items = cited(*urls)

    assert all(item.url and item.url.startswith("https://") for item in items)
    assert len({item.url for item in items}) == len(items)
