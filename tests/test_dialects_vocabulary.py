"""What each dialect can say, and the table of it in the README."""

from pathlib import Path

import pytest

from gateway.core.events import Event, Metadata
from gateway.dialects import DIALECTS
from gateway.dialects.vocabulary import SAMPLES, says
from tests.conftest import Golden

README = Path(__file__).parent.parent / "README.md"
BEGIN, END = "<!-- what dialects can say: begin -->\n", "<!-- what dialects can say: end -->\n"

# What a dialect that could not say it would not be one.
ESSENTIAL = ("text", "end", "failure in mid-stream")


def table() -> str:
    """A row for each thing that there is to say, a column for each dialect."""
    rows = [["", *DIALECTS], ["---", *(":---:" for _ in DIALECTS)]]
    rows += [
        [sample.name, *("x" if says(dialect, sample) else "" for dialect in DIALECTS.values())]
        for sample in SAMPLES
    ]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def test_the_readmes_table_is_current(golden: Golden) -> None:
    """It is what the codecs do: `--update-golden` writes it."""
    before, _, rest = README.read_text("utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    golden(README, (before + BEGIN + "\n" + table() + "\n" + END + after).encode())


def test_every_event_has_a_sample() -> None:
    """An event that is new is a row of the table. A call's start is told with its arguments."""
    events = {event.__name__ for event in Event.__args__}
    assert {type(sample.event).__name__ for sample in SAMPLES} == events - {"ToolCallStart"}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_what_every_dialect_says(dialect: str) -> None:
    """The text, that it is complete, and that it failed."""
    said = {sample.name for sample in SAMPLES if says(DIALECTS[dialect], sample)}
    assert said >= set(ESSENTIAL)


def test_what_v1_says() -> None:
    """Bookbag's v1 by hand, so that the table is seen to tell yes from no."""
    v1 = DIALECTS["bookbag-v1"]
    assert [sample.name for sample in SAMPLES if says(v1, sample)] == [
        "text",
        "citation of a web page",
        "citation of a document without a URL",
        "usage in tokens",
        "usage in credits",
        "end",
        "failure in mid-stream",
    ]


def test_what_is_told_at_the_end_only() -> None:
    """Metadata says nothing where it comes: it is seen in the last frame."""
    usage = next(sample for sample in SAMPLES if type(sample.event) is Metadata)
    assert says(DIALECTS["bookbag-v2"], usage)
