"""How tables give way in a terminal that is too small for them."""

from collections.abc import Sequence

import pytest
from rich.console import Console, Group
from rich.text import Text

from gateway.cli.top_layout import Listing, fitted, flowing, shares, word

NAME, PLACE = "customer-support-eu", "workspace-of-acme"


def listing(count: int = 2, spare: Sequence[str] = ("place", "p50"), called: str = "") -> Listing:
    rows = [[word(NAME), word(PLACE), word("1.0"), word(f"{row} ms")] for row in range(count)]
    return Listing(
        columns=("name", "place", "p50", "p95"),
        count=count,
        rows=lambda room: rows[:room],
        numbers={"p50", "p95"},
        names={"name", "place"},
        spare=spare,
        called=called,
    )


def shown(*listings: Listing, width: int = 80, lines: int | None = None) -> list[str]:
    console = Console(width=width, height=1000)
    with console.capture() as captured:
        console.print(Group(*fitted(listings, width, lines)))
    return [line.rstrip() for line in captured.get().splitlines()]


@pytest.mark.parametrize(
    ("width", "first"),
    [
        (52, "customer-support-eu   workspace-of-acme   1.0   0 ms"),
        (51, "customer-support-eu workspace-of-acme 1.0 0 ms"),
        (46, "customer-support-eu workspace-of-acme 1.0 0 ms"),
        (45, "customer-support-eu 1.0 0 ms"),
        (27, "customer-support-eu 0 ms"),
        (12, "custom\N{HORIZONTAL ELLIPSIS} 0 ms"),
    ],
)
def test_widths(width: int, first: str) -> None:
    """What stands between columns gives way first, then columns, then names, and never a number."""
    lines = shown(listing(), width=width)
    assert lines[3] == first
    assert max(map(len, lines)) <= width


def test_a_short_row_has_empty_cells() -> None:
    """As of a target whose upstream another one stands for."""
    short = Listing(
        columns=("name", "p50"),
        count=2,
        rows=lambda _room: [[word("a"), word("1.0")], [word("b")]],
        numbers={"p50"},
        names=(),
    )
    assert shown(short)[3:] == ["a      1.0", "b"]


def test_markup_is_text() -> None:
    odd = Listing(
        columns=("name",), count=1, rows=lambda _: [[word("[red]x")]], numbers=(), names=()
    )
    assert shown(odd)[3:] == ["[red]x"]


@pytest.mark.parametrize(
    ("counts", "lines", "given"),
    [
        ([3, 1, 9], 100, [3, 1, 9]),
        ([3, 1, 9], 13, [3, 1, 9]),
        ([3, 1, 9], 8, [3, 1, 4]),
        ([3, 3], 3, [2, 1]),
        ([3, 3], -5, [1, 1]),
        ([], 5, []),
    ],
)
def test_shares(counts: list[int], lines: int, given: list[int]) -> None:
    """In turns, and what one does not want is for the others."""
    assert shares(counts, lines) == given


def test_what_there_is_no_room_for_is_told() -> None:
    """The line that tells of it is one of those there are."""
    lines = shown(listing(9, called="agents"), listing(0), listing(9), lines=14)
    assert len(lines) == 14
    assert lines[6] == "and 6 more agents"
    assert sum(line.startswith(NAME) for line in lines) == 3 + 4
    assert len(shown(listing(9, called="agents"))) == 3 + 9


def test_lines_flow() -> None:
    """A part that does not fit begins the next line, and one that never fits has a line."""
    parts = [Text(part) for part in ("aaaa", "bb", "cc", "much too long", "d")]
    lines = [line.plain for line in flowing(parts, 9)]
    assert lines == ["aaaa  bb", "cc", "much too long", "d"]
