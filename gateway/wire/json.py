"""JSON, on one line: the one import of orjson."""

import re
from collections.abc import Sequence

import orjson

from gateway.core.events import Json

# A stream cut between the two halves of an emoji, as JavaScript counts characters, writes each half
# as an escape of its own. No UTF-8 can hold it, and orjson refuses the whole document.
_ESCAPE = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    r"|(?P<half>\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
    r"|\\."
)

# What Python's json and its like write for a float that is no number, which JSON does not know: as
# a value, and not in a string. (A string need not end, lest each quote in it be looked at as one.)
_NO_NUMBER = re.compile(
    r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|(?<=[:,\[\s])(?P<number>-?Infinity|NaN)', re.DOTALL
)

# Line ends to str.splitlines() and to httpx's iter_lines(), though not to SSE: clients built on
# those would cut a frame in two. Escaped, they mean the same and every client bears them.
_LINE_ENDS = (
    ("\u0085".encode(), b"\\u0085"),
    ("\u2028".encode(), b"\\u2028"),
    ("\u2029".encode(), b"\\u2029"),
)


# What orjson writes before, between and after the strings of an indented array.
_FIRST, _NEXT, _LAST = b"[\n  ", b'",\n  "', b"\n]"

# orjson reads 1024 levels and writes 254. What is read may have to be written again, inside an
# object of ours, so what is nested deeper than this counts as no JSON.
MAX_DEPTH = 200
_WRITABLE_DEPTH = 254


_STRINGS = {str}

# An id is kept and sent back: nobody needs more characters, and nobody may make us keep more.
MAX_IDENTIFIER = 512


class InvalidJson(ValueError):
    """The bytes are not JSON, or deeper than `MAX_DEPTH`."""


def loads(data: bytes | bytearray) -> Json:
    """The value; what no UTF-8 can hold becomes U+FFFD. Raises `InvalidJson`."""
    try:
        value: Json = orjson.loads(data)
    except orjson.JSONDecodeError:
        value = _loads_mended(data)
    # Most events are too short to be deep: each level takes two brackets.
    if len(data) > 2 * MAX_DEPTH and _brackets(data) > MAX_DEPTH:
        _check_depth(value)
    return value


def string(data: bytes) -> str | None:
    """What stands between the quotes of one string; None if it cannot."""
    quoted = b'"%b"' % data
    try:
        text: str = orjson.loads(quoted)
    except orjson.JSONDecodeError:
        return _string_mended(quoted)
    return text


def strings(pieces: list[bytes]) -> list[str] | None:
    """What stands between the quotes of several strings; None if one of them needs mending."""
    try:
        # No string holds a line end as it stands: none begins in one piece and ends in another.
        texts: list[str] = orjson.loads(b'["%b"]' % b'",\n"'.join(pieces))
    except orjson.JSONDecodeError:
        return None
    # Quotes in a piece make more of it than one string, or what holds the strings behind it.
    alone = len(texts) == len(pieces) and set(map(type, texts)) == _STRINGS
    return texts if alone else None


def loads_own(data: bytes | str) -> Json:
    """The value of what `dumps` wrote and we have kept: however deep."""
    value: Json = orjson.loads(data)
    return value


def _loads_mended(data: bytes | bytearray) -> Json:
    try:
        value: Json = orjson.loads(_mended(data))
    except orjson.JSONDecodeError as exc:
        raise InvalidJson from exc
    return value


def _string_mended(quoted: bytes) -> str | None:
    try:
        value = _loads_mended(quoted)
    except InvalidJson:
        return None
    return value if type(value) is str else None


def _mended(data: bytes | bytearray) -> str:
    """As text: bytes that are not UTF-8, and half surrogate pairs, as U+FFFD; NaN as null."""
    text = data.decode("utf-8", "replace")
    text = _ESCAPE.sub(lambda found: "\\ufffd" if found["half"] else found[0], text)
    return _NO_NUMBER.sub(lambda found: "null" if found["number"] else found[0], text)


def _brackets(data: bytes | bytearray) -> int:
    # `count` looks at each byte; `replace` leaps from one bracket to the next.
    objects = len(data) - len(data.replace(b"{", b""))
    return objects + len(data) - len(data.replace(b"[", b""))


def _check_depth(value: Json) -> None:
    # Writing it is how orjson counts, and far quicker than to count here.
    for _ in range(_WRITABLE_DEPTH - MAX_DEPTH):
        value = [value]
    try:
        orjson.dumps(value)
    except TypeError as exc:
        raise InvalidJson from exc


def dumps(value: object) -> bytes:
    """The value on one line, by anybody's idea of a line. Raises `TypeError`."""
    data = orjson.dumps(value)
    return data if data.isascii() else _escaped(data)


def _escaped(data: bytes) -> bytes:
    for character, escape in _LINE_ENDS:
        data = data.replace(character, escape)
    return data


def joined(texts: Sequence[str], between: bytes) -> bytes:
    """Strings as `dumps` writes each, and this between them. Raises `TypeError`."""
    data = orjson.dumps(texts, option=orjson.OPT_INDENT_2)[len(_FIRST) : -len(_LAST)]
    if not data.isascii():
        data = _escaped(data)
    # A line end as it stands is nowhere but between two strings, next to a quote that ends one.
    return data.replace(_NEXT, b'"' + between + b'"') if len(texts) > 1 else data


def dumps_indented(value: Json) -> str:
    """The value for people's eyes and for files, with a final line end."""
    return orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode()


# What a peer sends is read leniently, one field at a time: a field of the wrong type counts as
# absent, and one odd field never costs a turn.


def mapping(value: Json) -> dict[str, Json]:
    """The value if it is an object, else an empty one."""
    return value if type(value) is dict else {}


def array(value: Json) -> list[Json]:
    """The value if it is an array, else an empty one."""
    return value if type(value) is list else []


def text(value: Json) -> str:
    """The value if it is a string, else `""`."""
    return value if type(value) is str else ""


def identifier(value: Json) -> str | None:
    """A string or an integer as text; None for anything else, for `""`, and for what is longer
    than `MAX_IDENTIFIER`."""
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        return None
    written = str(value)
    return written if 0 < len(written) <= MAX_IDENTIFIER else None


def count(value: Json) -> int | None:
    """A whole number from 0 that JavaScript can hold, else None."""
    if type(value) is int:  # as nearly every one
        return value if 0 <= value < 1 << 53 else None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return int(value) if 0 <= value < 1 << 53 else None


def amount(value: Json) -> float | None:
    """A number from 0, whole where it is whole, else None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0:
        return None
    return value
