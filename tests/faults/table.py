"""The faults: what an upstream does, and how a turn with it must end.

Each is tried with the clients of all dialects. That one ends well is said here as that one does
not: an answer that was cut off and is told as complete is the worst of all.
"""

import gzip

from gateway.core.errors import ErrorCode
from gateway.core.events import Json
from tests.e2e.scripted import (
    END,
    Close,
    Endless,
    Hang,
    Reset,
    Slowly,
    Step,
    at_once,
    chunk,
    document,
    head,
)
from tests.e2e.stories import FORMS, UNTOLD, streamed
from tests.faults.broken_http import BROKEN_HTTP
from tests.faults.broken_streams import BROKEN_STREAMS
from tests.faults.fault import (
    CANARY,
    COMMENT,
    CREDITS,
    DONE,
    ERROR,
    FAILED,
    FINISH,
    HEAD,
    LIMITED,
    MALFORMED,
    OVERSIZED,
    PAGE,
    PLAIN,
    REFUSED,
    REJECTED,
    TEXT,
    TRUNCATED,
    UNREACHABLE,
    WHOLE,
    Fault,
    broken,
    complete,
    kind_of,
    measured,
    refused,
    whole,
)

# Where an upstream may stop: what it has said by then, and what a client has heard.

_PLACES: dict[str, tuple[list[Step], str]] = {
    "before the head": ([], ""),
    "in the head": ([HEAD[:40]], ""),
    "after the head": ([HEAD], ""),
    "in a chunk's size": ([HEAD, TEXT[:1]], ""),
    "in the first event": ([HEAD, TEXT[:30]], ""),
    "after an event": ([HEAD, TEXT], "Hello"),
    "in the middle of an event": ([HEAD, TEXT, FINISH[:30]], "Hello"),
    "in the middle of a letter": ([HEAD, TEXT, chunk(b'data: {"x":"\xf0\x9f')], "Hello"),
}
_ENOUGH: dict[str, bytes] = {
    "before [DONE]": HEAD + TEXT + FINISH,
    "in [DONE]": HEAD + TEXT + FINISH + DONE[:10],
    "before the end": HEAD + TEXT + FINISH + DONE,
    "in the end": HEAD + TEXT + FINISH + DONE + END[:2],
}
"""The upstream has said why it ended: from there on it can only fail to hang up. In one piece, so
that no clock runs out in between."""


def _stopped(way: Step, place: str) -> Fault:
    said, text = _PLACES[place]
    if way is not Hang:
        return broken(TRUNCATED, *said, way, text=text)
    clock = "idle" if text else "first"
    code = ErrorCode.IDLE_TIMEOUT if text else ErrorCode.FIRST_EVENT_TIMEOUT
    return broken(code, *said, way, text=text, clock=clock)


def _stops() -> dict[str, Fault]:
    ways: dict[str, Step] = {"stall": Hang, "reset": Reset, "close": Close}
    faults = {f"{name} {place}": _stopped(ways[name], place) for name in ways for place in _PLACES}
    for name, way in ways.items():
        for place, said in _ENOUGH.items():
            faults[f"{name} {place}"] = complete(said, way, clock="idle" if way is Hang else "")
    return faults


_ALL = b"".join(step for step in WHOLE if isinstance(step, bytes))

_SLOW: dict[str, Fault] = {
    "byte by byte": complete(Slowly(_ALL)),
    "byte by byte, with pauses": complete(Slowly(_ALL, 0.001)),
    "the head byte by byte, without end": refused(
        ErrorCode.FIRST_EVENT_TIMEOUT, HEAD[:-2], Endless(b"X: y\r\n", 0.01), clock="first"
    ),
    "an event byte by byte, without end": refused(
        ErrorCode.FIRST_EVENT_TIMEOUT, HEAD, b"ffff\r\ndata: ", Endless(b"x", 0.01), clock="first"
    ),
    "comments before the first event": refused(
        ErrorCode.FIRST_EVENT_TIMEOUT, HEAD, Endless(COMMENT, 0.01), clock="first"
    ),
    "comments after an event": broken(
        ErrorCode.TOTAL_TIMEOUT, HEAD, TEXT, Endless(COMMENT, 0.01), clock="total"
    ),
    "an event byte by byte, after another": broken(
        ErrorCode.TOTAL_TIMEOUT,
        HEAD,
        TEXT,
        b"ffff\r\ndata: ",
        Endless(b"x", 0.01),
        clock="total",
    ),
    "comments after the finish": complete(
        HEAD, TEXT, FINISH, Endless(COMMENT, 0.01), clock="total"
    ),
    "an error's body stalls": refused(
        FAILED, head(500, "text/html"), chunk(PAGE), Hang, clock="head"
    ),
    "a rate limit's body stalls": refused(
        LIMITED, head(429, Retry_After="7"), Hang, clock="head", retry_after="7"
    ),
}

_ENDLESS: dict[str, Fault] = {
    "headers": refused(MALFORMED, HEAD[:-2], Endless(b"X: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n")),
    "one header": refused(MALFORMED, HEAD[:-2] + b"X: ", Endless(b"y" * 1000)),
    "a status line": refused(MALFORMED, b"HTTP/1.1 200 ", Endless(b"y" * 1000)),
    "empty lines before the head": refused(MALFORMED, Endless(b"\r\n" * 500)),
    "interim answers": refused(MALFORMED, Endless(b"HTTP/1.1 100 Continue\r\n\r\n" * 20)),
    "a first event": refused(OVERSIZED, HEAD, chunk(b"data: "), Endless(chunk(b"x" * 1000))),
    "another event": broken(OVERSIZED, HEAD, TEXT, chunk(b"data: "), Endless(chunk(b"x" * 1000))),
    "a line of no field": broken(OVERSIZED, HEAD, TEXT, Endless(chunk(b"x" * 1000))),
    "lines of one event": broken(OVERSIZED, HEAD, TEXT, Endless(chunk(b"data: x\n" * 100))),
    "text": broken(OVERSIZED, HEAD, Endless(TEXT), text="(Hello)+"),
    "comments": broken(OVERSIZED, HEAD, TEXT, Endless(chunk(b": tick\n\n" * 100))),
    "blank lines": refused(OVERSIZED, HEAD, Endless(chunk(b"\n" * 1000))),
    "a document": refused(OVERSIZED, HEAD, chunk(b'{"choices": "'), Endless(chunk(b"x" * 1000))),
    "a web page": refused(OVERSIZED, HEAD, chunk(PAGE), Endless(chunk(b"x" * 1000))),
    "an error's body": refused(FAILED, head(500, "text/html"), Endless(chunk(b"x" * 1000))),
    "a chunk's extension": refused(OVERSIZED, HEAD, b"5;", Endless(b"x" * 1000)),
    "a trailer": broken(OVERSIZED, HEAD, TEXT, b"0\r\n", Endless(b"X: y\r\n" * 100)),
    "comments behind [DONE]": complete(HEAD, TEXT, FINISH, DONE, Endless(COMMENT)),
    "a bomb": refused(
        OVERSIZED, measured(gzip.compress(b": nothing\n\n" * 100_000), Content_Encoding="gzip")
    ),
}

_CONNECTIONS: dict[str, Fault] = {
    "nobody listens": refused(UNREACHABLE, Hang, at="closed"),
    "nobody accepts": refused(ErrorCode.CONNECT_TIMEOUT, Hang, at="full", clock="connect"),
    "no such host": refused(UNREACHABLE, Hang, at="unnamed"),
    "plain HTTP where TLS is spoken": refused(
        UNREACHABLE,
        Hang,
        at="tls",
        greeting=[whole(b"", "400 Bad Request"), Close],
    ),
    "silence where TLS is spoken": refused(
        ErrorCode.CONNECT_TIMEOUT, Hang, at="tls", clock="connect"
    ),
    "closed once accepted": refused(TRUNCATED, Hang, or_fails=UNREACHABLE, greeting=[Close]),
    "reset once accepted": refused(TRUNCATED, Hang, or_fails=UNREACHABLE, greeting=[Reset]),
    "a banner": refused(
        MALFORMED, Hang, or_fails=UNREACHABLE, greeting=[b"SSH-2.0-OpenSSH_9.6\r\n"]
    ),
}

_SAID: dict[int, Json] = {
    400: {"error": {"message": "max_tokens is too large"}},
    401: {"error": {"message": f"bad key {CANARY}", "code": "invalid_api_key"}},
    429: {"error": {"message": f"org {CANARY} is over its limit"}},
}
_BY_STATUS: dict[int, ErrorCode] = {
    **dict.fromkeys((400, 413, 422), REJECTED),
    **dict.fromkeys((401, 403), REFUSED),
    402: CREDITS,
    429: LIMITED,
}
_OTHERS = (404, 405, 406, 408, 409, 410, 411, 418, 425, 431, 451)
_THEIRS = (500, 501, 502, 503, 504, 505, 520, 524, 529, 599, 600, 999)
_ELSEWHERE = (300, 301, 302, 303, 307, 308)


def _answered() -> dict[str, Fault]:
    faults = {
        f"status {status}": refused(
            _BY_STATUS.get(status, FAILED), *document(_SAID.get(status, ERROR), status)
        )
        for status in (*_BY_STATUS, *_OTHERS, *_THEIRS)
    }
    for status in _ELSEWHERE:
        elsewhere = document(ERROR, status, Location=f"http://127.0.0.1:1/{CANARY}")
        faults[f"redirect {status}"] = refused(FAILED, *elsewhere)
    for status in (401, 429, 500, 503):
        code = _BY_STATUS.get(status, FAILED)
        faults[f"status {status}, a page"] = refused(code, measured(PAGE, f"{status} Oh"))
        faults[f"status {status}, empty"] = refused(code, measured(b"", f"{status} Oh"))
        faults[f"status {status}, cut off"] = refused(
            code, whole(PAGE, f"{status} Oh", Content_Length="500"), Close
        )
        faults[f"status {status}, reset"] = refused(code, head(status), chunk(PAGE), Reset)
    return faults


_STATUSES: dict[str, Fault] = {
    **_answered(),
    "status 304": refused(FAILED, whole(b"", "304 Not Modified"), Close),
    "status 429, Retry-After": refused(
        LIMITED, *document(_SAID[429], 429, Retry_After="7"), retry_after="7"
    ),
    "status 503, Retry-After": refused(
        FAILED, *document(ERROR, 503, Retry_After="7"), retry_after="7"
    ),
    "status 429, no quota": refused(
        CREDITS, *document({"error": {"code": "insufficient_quota", "message": CANARY}}, 429)
    ),
    "status 204": refused(TRUNCATED, whole(b"", "204 No Content")),
    "status 205": refused(TRUNCATED, measured(b"", "205 Reset Content")),
    "status 206": complete(measured(PLAIN, "206 Partial Content")),
    "status 101": refused(
        MALFORMED,
        whole(b"", "101 Switching Protocols", Upgrade="h2c", Connection="upgrade"),
        Hang,
    ),
}


def _streams(form: str, story: str, *after: Step) -> list[Step]:
    return [HEAD, *map(chunk, streamed(form, story)), *after]


def _of_kinds() -> dict[str, Fault]:
    """What the other kinds may do, each in all of its forms."""
    faults: dict[str, Fault] = {}
    for form in FORMS:
        kind = kind_of(form)
        faults |= {
            f"{form}: text": complete(*_streams(form, "text", END), text="Your order", kind=kind),
            f"{form}: nothing": refused(TRUNCATED, HEAD, END, kind=kind),
            f"{form}: a web page": refused(MALFORMED, measured(PAGE), kind=kind),
            f"{form}: status 500": refused(FAILED, *document(ERROR, 500), kind=kind),
            f"{form}: redirect": refused(
                FAILED, *document(ERROR, 302, Location="http://127.0.0.1:1/"), kind=kind
            ),
            f"{form}: closed": broken(
                TRUNCATED, *_streams(form, "truncated", Close), text="Your ", kind=kind
            ),
            f"{form}: reset": broken(
                TRUNCATED, *_streams(form, "truncated", Reset), text="Your ", kind=kind
            ),
            f"{form}: stall": broken(
                ErrorCode.IDLE_TIMEOUT,
                at_once(_streams(form, "truncated")),
                Hang,
                text="Your ",
                kind=kind,
                clock="idle",
            ),
        }
        if (form, "error") not in UNTOLD:
            faults[f"{form}: an error"] = refused(FAILED, *_streams(form, "error"), kind=kind)
            faults[f"{form}: an error after text"] = broken(
                FAILED, *_streams(form, "late-error"), text="Your ", kind=kind
            )
    return faults


TRANSPORT: dict[str, Fault] = {
    **_stops(),
    **{f"slow: {name}": fault for name, fault in _SLOW.items()},
    **{f"endless: {name}": fault for name, fault in _ENDLESS.items()},
    **{f"connection: {name}": fault for name, fault in _CONNECTIONS.items()},
    **{f"HTTP: {name}": fault for name, fault in BROKEN_HTTP.items()},
}
"""What event loops have a hand in."""

CONTENT: dict[str, Fault] = {
    **_STATUSES,
    **{f"stream: {name}": fault for name, fault in BROKEN_STREAMS.items()},
    **_of_kinds(),
}

FAULTS = {**TRANSPORT, **CONTENT}
