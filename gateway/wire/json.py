"""JSON, on one line: the one import of orjson."""

import orjson

from gateway.core.events import Json

# Line ends to str.splitlines() and to httpx's iter_lines(), though not to SSE: clients built on
# those would cut a frame in two. Escaped, they mean the same and every client bears them.
_LINE_ENDS = (
    ("\u0085".encode(), b"\\u0085"),
    ("\u2028".encode(), b"\\u2028"),
    ("\u2029".encode(), b"\\u2029"),
)


class InvalidJson(ValueError):
    """The bytes are not JSON."""


def loads(data: bytes) -> Json:
    """The value; bytes that are not UTF-8 become U+FFFD. Raises `InvalidJson`."""
    try:
        return orjson.loads(data)  # type: ignore[no-any-return]
    except orjson.JSONDecodeError:
        pass
    try:
        return orjson.loads(data.decode("utf-8", "replace"))  # type: ignore[no-any-return]
    except orjson.JSONDecodeError as exc:
        raise InvalidJson from exc


def dumps(value: object) -> bytes:
    """The value on one line, by anybody's idea of a line. Raises `TypeError`."""
    data = orjson.dumps(value)
    if not data.isascii():
        for character, escape in _LINE_ENDS:
            data = data.replace(character, escape)
    return data


# What a peer sends is read leniently, one field at a time: a field of the wrong type counts as
# absent, and one odd field never costs a turn.


def mapping(value: Json) -> dict[str, Json]:
    """The value if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def array(value: Json) -> list[Json]:
    """The value if it is an array, else an empty one."""
    return value if isinstance(value, list) else []


def text(value: Json) -> str:
    """The value if it is a string, else `""`."""
    return value if isinstance(value, str) else ""


def identifier(value: Json) -> str | None:
    """A string or an integer as text; None for anything else and for `""`."""
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        return None
    return str(value) or None


def count(value: Json) -> int | None:
    """A whole number from 0, else None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0:
        return None
    return int(value)


def amount(value: Json) -> float | None:
    """A number from 0, whole where it is whole, else None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0:
        return None
    return value
