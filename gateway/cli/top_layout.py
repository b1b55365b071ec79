"""How a frame of `oc-gateway top` is fitted into a terminal: into its width, and into its lines.

A number is never cut, for half of one is another number, nor is a request's id, which is there to
be looked up. What gives way are the columns that a narrow terminal can do without, and then the
ends of names.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

from msgspec import Struct
from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

# Between two columns of a table, where there is room, and where there is not.
_WIDE, _NARROW = 3, 1

# Lines of a table beside its rows: an empty one above, the names of its columns, and a rule.
_AROUND = 3

Row = Sequence[Text]
"""In the order of the columns; the last of them may be missing."""


class Listing(Struct, frozen=True, kw_only=True):
    """A table before it is fitted."""

    columns: Sequence[str]
    count: int
    """How many rows there are."""
    rows: Callable[[int], Iterable[Row]]
    """So many of them, those that matter most."""
    numbers: Collection[str]
    """The columns that stand to the right."""
    names: Collection[str]
    """Those that may be cut."""
    spare: Sequence[str] = ()
    """Those that can be done without, from the first on."""
    called: str = ""
    """What the others are, which there is no room for; `""`: nothing is said of them."""


def word(text: str, style: str = "") -> Text:
    """What stands in a table. It is `Text`, for in a plain string rich would look for markup."""
    return Text(text, style, no_wrap=True, overflow="ellipsis")


def flowing(parts: Iterable[Text], width: int) -> list[Text]:
    """Lines of these parts, none of which is broken."""
    lines: list[Text] = []
    for part in parts:
        if lines and lines[-1].cell_len + 2 + part.cell_len <= width:
            lines[-1].append("  ").append_text(part)
        else:
            lines.append(part.copy())
    return lines


def fitted(listings: Sequence[Listing], width: int, lines: int | None) -> Iterator[RenderableType]:
    """Those that have rows, within so many lines if that can be; None: with all of their rows."""
    filled = [listing for listing in listings if listing.count]
    counts = [listing.count for listing in filled]
    rooms = counts if lines is None else shares(counts, lines - _AROUND * len(filled))
    for listing, room in zip(filled, rooms, strict=True):
        yield Text()
        yield _table(listing, width, room)


def shares(counts: Sequence[int], lines: int) -> list[int]:
    """So many lines dealt out to those who want this many each, in turns; one for each in any
    case."""
    given = [min(count, 1) for count in counts]
    left = lines - sum(given)
    while left > 0 and given != [*counts]:
        for place, count in enumerate(counts):
            if left > 0 and given[place] < count:
                given[place] += 1
                left -= 1
    return given


def _table(listing: Listing, width: int, room: int) -> Table:
    told = bool(listing.called) and 1 < room < listing.count
    rows = [*listing.rows(room - told)]
    columns, gap = _columns(listing, rows, width)
    table = Table(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, (gap - 1) // 2),
        caption=f"and {listing.count - len(rows)} more {listing.called}" if told else None,
        caption_justify="left",
    )
    for name in columns:
        number, cut = name in listing.numbers, name in listing.names
        table.add_column(word(name), justify="right" if number else "left", no_wrap=not cut)
    for row in rows:
        cells = dict(zip(listing.columns, row, strict=False))
        table.add_row(*(cells.get(name, "") for name in columns))
    return table


def _columns(listing: Listing, rows: Sequence[Row], width: int) -> tuple[list[str], int]:
    """Those that fit, and what stands between them."""
    widths = {name: len(name) for name in listing.columns}
    for row in rows:
        for name, cell in zip(listing.columns, row, strict=False):
            widths[name] = max(widths[name], cell.cell_len)
    if sum(widths.values()) + _WIDE * (len(widths) - 1) <= width:
        return [*widths], _WIDE
    for name in listing.spare:
        if sum(widths.values()) + _NARROW * (len(widths) - 1) <= width:
            break
        del widths[name]
    return [*widths], _NARROW
