"""Streams that make no sense, in HTTP that does."""

from gateway.core.errors import ErrorCode
from gateway.core.events import Json
from gateway.wire import json
from tests.e2e.scripted import END, Close, Hang, Step, chunk, delta, event, finish
from tests.faults.fault import (
    CANARY,
    CREDITS,
    DONE,
    ERROR,
    FAILED,
    FINISH,
    HEAD,
    LIMITED,
    MALFORMED,
    OVERSIZED,
    REFUSED,
    REJECTED,
    REST,
    TEXT,
    TRUNCATED,
    Fault,
    broken,
    complete,
    measured,
    refused,
)


def _data(data: bytes) -> bytes:
    return chunk(b"data: " + data + b"\n\n")


def _error(**said: Json) -> bytes:
    return chunk(event({"error": {"message": f"pod {CANARY}", **said}}))


# In the place of the first event, and between a word and the rest.

_MALFORMED: dict[str, bytes] = {
    "no JSON": _data(b"oops " + CANARY.encode()),
    "half a JSON": _data(b'{"choices":[{"delta":{"content":"Hel'),
    "a number": _data(b"42"),
    "a string": _data(b'"Hello"'),
    "a list": _data(b"[]"),
    "a zero byte in a string": _data(b'{"choices":[{"delta":{"content":"\0"}}]}'),
    "too deep": _data(b'{"x":' + b"[" * 500 + b"]" * 500 + b"}"),
    "a page": _data(b"<html></html>"),
    "two JSONs": _data(b'{"choices":[]} {"choices":[]}'),
    "two events without a blank line": chunk(event(delta("a"))[:-1] + event(delta("b"))),
}
_NOTHING: dict[str, bytes] = {
    "a comment": chunk(b": " + CANARY.encode() + b"\n\n"),
    "an event without data": chunk(b"event: ping\n\n"),
    "empty data": chunk(b"data:\n\n"),
    "an empty object": _data(b"{}"),
    "an empty chunk": _data(b'{"choices":[]}'),
    "null for the choices": _data(b'{"choices":null,"error":null,"usage":null}'),
    "a number for the choices": _data(b'{"choices":7}'),
    "null for a choice": _data(b'{"choices":[null,7]}'),
    "a list for the delta": _data(b'{"choices":[{"delta":[]}]}'),
    "a number for the content": _data(b'{"choices":[{"delta":{"content":7}}]}'),
    "null for the content": _data(b'{"choices":[{"delta":{"content":null}}]}'),
    "an object for the reason": _data(b'{"choices":[{"delta":{},"finish_reason":{}}]}'),
    "numbers for the usage": _data(b'{"choices":[],"usage":[7]}'),
    "calls that are none": _data(
        b'{"choices":[{"delta":{"tool_calls":[7,null,{"index":"x"},{"function":5}]}}]}'
    ),
    "no number for the usage": _data(b'{"choices":[],"usage":{"prompt_tokens":NaN}}'),
    "another choice": _data(b'{"choices":[{"index":1,"delta":{"content":"no"}}]}'),
    "fields that nobody knows": chunk(b"oops: 7\nhello\n\n"),
    "random bytes": chunk(bytes(range(128, 256)) + b"\n\n"),
    "zero bytes": chunk(bytes(100) + b"\n\n"),
    "line ends": chunk(b"\r\n\r\r\n\n\r" * 20),
    "a retry": chunk(b"retry: 99999999999999999999999999\n\n"),
}
_ERRORS: dict[str, tuple[bytes, ErrorCode]] = {
    "an error": (chunk(event(ERROR)), FAILED),
    "an error that is a string": (chunk(event({"error": CANARY})), FAILED),
    "an error that is a list": (chunk(event({"error": [CANARY]})), FAILED),
    "an error that is true": (chunk(event({"error": True})), FAILED),
    "an error by name": (chunk(b"event: error\n" + event({"message": CANARY})), FAILED),
    "an error by name, no JSON": (
        chunk(b"event: error\ndata: " + CANARY.encode() + b"\n\n"),
        FAILED,
    ),
    "an error that is a field": (chunk(b"error: " + json.dumps(ERROR) + b"\n\n"), FAILED),
    "an error beside choices": (
        chunk(event({"choices": [{"delta": {}, "finish_reason": "error"}], **ERROR})),
        FAILED,
    ),
    "a finish that is an error": (chunk(event(finish("error"))), FAILED),
    "an error 429": (_error(code=429), LIMITED),
    "an error '429'": (_error(code="429"), LIMITED),
    "a rate limit": (_error(type="rate_limit_error"), LIMITED),
    "an error 402": (_error(code=402), CREDITS),
    "an error 401": (_error(code=401), REFUSED),
    "an error 503": (_error(code=503), FAILED),
    "too large a context": (
        chunk(event({"error": {"message": "too long", "code": "context_length_exceeded"}})),
        REJECTED,
    ),
    "too large an event": (_data(b'"' + b"x" * 40_000 + b'"'), OVERSIZED),
}


def _first_and_later() -> dict[str, Fault]:
    faults: dict[str, Fault] = {}
    told = {name: (said, MALFORMED) for name, said in _MALFORMED.items()} | _ERRORS
    for name, (said, code) in told.items():
        faults[f"{name} first"] = refused(code, HEAD, said, TEXT, *REST)
        faults[f"{name} after a word"] = broken(code, HEAD, TEXT, said, *REST)
    for name, said in _NOTHING.items():
        faults[f"{name} first"] = complete(HEAD, said, TEXT, *REST)
        faults[f"{name} after a word"] = complete(HEAD, TEXT, said, *REST)
        faults[f"nothing but {name}"] = refused(TRUNCATED, HEAD, said, END)
    return faults


# How it ends.
_ENDS: dict[str, Fault] = {
    "nothing": refused(TRUNCATED, HEAD, END),
    "nothing but [DONE]": complete(HEAD, DONE, END, text=""),
    "nothing but a finish": complete(HEAD, FINISH, DONE, END, text=""),
    "half an event, then the end": broken(TRUNCATED, HEAD, TEXT, FINISH[:30], Close),
    "half an event, then a clean end": broken(
        TRUNCATED, HEAD, TEXT, chunk(event(delta("world"))[:25]), END
    ),
    "an event without its blank line": complete(HEAD, TEXT, chunk(event(finish())[:-2]), END),
    "no finish, no [DONE]": broken(TRUNCATED, HEAD, TEXT, END),
    "[DONE] without a finish": complete(HEAD, TEXT, DONE, END),
    "a finish without [DONE]": complete(HEAD, TEXT, FINISH, END),
    "a finish, then silence": complete(HEAD + TEXT + FINISH, Hang, clock="idle"),
    "two finishes": complete(HEAD, TEXT, FINISH, FINISH, DONE, END),
    "text after the finish": complete(HEAD, TEXT, FINISH, TEXT, DONE, END, text="HelloHello"),
    "an error after the finish": broken(FAILED, HEAD, TEXT, FINISH, chunk(event(ERROR)), END),
    "no JSON after the finish": broken(MALFORMED, HEAD, TEXT, FINISH, _data(b"oops"), END),
    "text after [DONE]": complete(HEAD, TEXT, FINISH, DONE, TEXT, END),
    "an error after [DONE]": complete(HEAD, TEXT, FINISH, DONE, chunk(event(ERROR)), END),
    "no JSON after [DONE]": complete(HEAD, TEXT, FINISH, DONE, _data(b"oops"), END),
    "[DONE] twice": complete(HEAD, TEXT, FINISH, DONE, DONE, END),
    "[done]": broken(MALFORMED, HEAD, TEXT, _data(b"[done]"), END),
    "an error, then [DONE]": broken(FAILED, HEAD, TEXT, chunk(event(ERROR)), DONE, END),
    "two errors": broken(FAILED, HEAD, TEXT, chunk(event(ERROR)) * 2, END),
}


def _documents() -> dict[str, Fault]:
    said: dict[str, tuple[bytes, ErrorCode]] = {
        "an empty object": (b"{}", MALFORMED),
        "an empty list": (b"[]", MALFORMED),
        "null": (b"null", TRUNCATED),
        "a string": (b'"Hello"', TRUNCATED),
        "no choices": (b'{"choices":[]}', MALFORMED),
        "half a document": (b'{"choices":[{"message":{"content":"Hel', MALFORMED),
        "two documents": (b'{"choices":[]}{"choices":[]}', MALFORMED),
        "an error": (json.dumps(ERROR), FAILED),
        "errors in a list": (json.dumps([ERROR]), MALFORMED),
        "a broken bracket": (b"<", MALFORMED),
        "a byte order mark alone": (b"\xef\xbb\xbf", TRUNCATED),
        "UTF-16": ('{"choices":[]}'.encode("utf-16"), TRUNCATED),
    }
    return {
        f"{name} as the body": refused(code, measured(body, Content_Type="application/json"))
        for name, (body, code) in said.items()
    }


def _text(data: bytes) -> Step:
    return _data(b'{"choices":[{"delta":{"content":"' + data + b'"}}]}')


# Text that is none.
_LETTERS: dict[str, Fault] = {
    "no UTF-8": complete(HEAD, _text(b"He\xff\xfello"), *REST, text="He\ufffd+llo"),
    "half a letter": complete(HEAD, _text(b"Hello\xf0\x9f"), *REST, text="Hello\ufffd+"),
    "half a pair of escapes": complete(HEAD, _text(rb"Hello\ud83d"), *REST, text="Hello\ufffd"),
    "a zero as an escape": complete(HEAD, _text(rb"Hello\u0000"), *REST, text="Hello\0"),
    "line ends of other people's": complete(
        HEAD, _text("He\u2028l\u0085lo".encode()), *REST, text="He\u2028l\u0085lo"
    ),
    "a byte order mark": complete(HEAD, chunk(b"\xef\xbb\xbf"), TEXT, *REST),
}

BROKEN_STREAMS: dict[str, Fault] = {
    **_first_and_later(),
    **_ENDS,
    **_documents(),
    **_LETTERS,
}
