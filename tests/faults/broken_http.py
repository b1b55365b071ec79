"""HTTP that is none, or next to none."""

import gzip

from gateway.wire import json
from tests.e2e.scripted import END, Close, Hang, Reset, chunk, document, head
from tests.faults.fault import (
    ANSWER,
    DONE,
    ERROR,
    FAILED,
    FINISH,
    HEAD,
    MALFORMED,
    PAGE,
    PLAIN,
    TEXT,
    TRUNCATED,
    WHOLE,
    Fault,
    broken,
    complete,
    measured,
    refused,
    whole,
)

_JOINED = b"".join(step for step in WHOLE if isinstance(step, bytes))
_ZIPPED = gzip.compress(PLAIN)
_SAID = PLAIN[: PLAIN.index(b"\n\n") + 2]
"""Its first event."""

# Instead of a head.
_HEADS: dict[str, Fault] = {
    "zeros": refused(MALFORMED, bytes(200), Hang),
    "random bytes": refused(MALFORMED, bytes(range(255, 0, -1)), Hang),
    "SSH": refused(MALFORMED, b"SSH-2.0-OpenSSH_9.6\r\n", Hang),
    "a TLS alert": refused(MALFORMED, bytes.fromhex("15030300020228"), Close),
    "a TLS hello": refused(MALFORMED, bytes.fromhex("1603010200010001fc0303"), Hang),
    "HTTP/2": refused(MALFORMED, bytes.fromhex("000006040000000000000300000064"), Hang),
    "a request": refused(MALFORMED, b"POST /v1 HTTP/1.1\r\nHost: x\r\n\r\n", Hang),
    "a page without a head": refused(MALFORMED, PAGE, Close),
    "a stream without a head": refused(MALFORMED, PLAIN, Close),
    "HTTP/9.9": refused(MALFORMED, _JOINED.replace(b"HTTP/1.1", b"HTTP/9.9", 1), Hang),
    "ICY": refused(MALFORMED, _JOINED.replace(b"HTTP/1.1", b"ICY", 1), Hang),
    "no status": refused(MALFORMED, b"HTTP/1.1 \r\n\r\n", Hang),
    "a status in letters": refused(MALFORMED, b"HTTP/1.1 abc OK\r\n\r\n", Hang),
    "a status of five digits": refused(MALFORMED, b"HTTP/1.1 20000 OK\r\n\r\n", Hang),
    "no reason": complete(_JOINED.replace(b"200 Scripted", b"200 ", 1)),
    "no reason, no blank": complete(_JOINED.replace(b" Scripted", b"", 1)),
    "line ends without CR": refused(MALFORMED, measured(PLAIN).replace(b"\r\n", b"\n"), Hang),
    "a field on two lines": refused(MALFORMED, measured(PLAIN, X="a\r\n b"), Hang),
    "a field without a colon": refused(MALFORMED, whole(b"", X="y\r\noops"), Hang),
    "a field without a name": refused(MALFORMED, whole(b"", X="y\r\n: oops"), Hang),
    "a blank before the colon": refused(MALFORMED, whole(b"", X="y\r\nX : y"), Hang),
    "a zero in a field": refused(MALFORMED, whole(b"", X="\0"), Hang),
    "Latin-1 in a field": complete(measured(PLAIN).replace(b"OK\r\n", b"OK\r\nX: \xe9\xff\r\n")),
}

# How long a body is said to be, and how it is divided.
_LENGTHS: dict[str, Fault] = {
    "a length": complete(measured(PLAIN)),
    "until the close": complete(whole(PLAIN), Close),
    "HTTP/1.0": complete(whole(PLAIN).replace(b"HTTP/1.1", b"HTTP/1.0"), Close),
    "longer than its length": complete(measured(PLAIN) + b"garbage"),
    "two answers": complete(_JOINED + _JOINED),
    "an error behind it": complete(_JOINED, *document(ERROR, 500)),
    "shorter than its length": complete(whole(PLAIN, Content_Length="5000"), Close),
    "cut before its length": broken(TRUNCATED, whole(_SAID, Content_Length="5000"), Close),
    "no end, until the close": broken(TRUNCATED, whole(_SAID), Close),
    "reset, until the close": broken(TRUNCATED, whole(_SAID), Reset),
    "a finish and a reset, until the close": complete(whole(PLAIN[:-14]), Reset),
    "a document, until the close": complete(whole(json.dumps(ANSWER)), Close),
    "half a document, until the close": refused(MALFORMED, whole(json.dumps(ANSWER)[:-9]), Close),
    "text, until the close": complete(whole(b"Hello"), Close, kind="agentsgt"),
    "text reset, until the close": broken(TRUNCATED, whole(b"Hello"), Reset, kind="agentsgt"),
    "text cut before its length": broken(
        TRUNCATED, whole(b"Hello", Content_Length="6"), Close, kind="agentsgt"
    ),
    "cut in an event, until the close": broken(TRUNCATED, whole(PLAIN[: len(_SAID) + 20]), Close),
    "a length of nothing": refused(TRUNCATED, measured(b"")),
    "a negative length": refused(MALFORMED, whole(PLAIN, Content_Length="-1"), Hang),
    "a length in letters": refused(MALFORMED, whole(PLAIN, Content_Length="many"), Hang),
    "a length with a sign": refused(MALFORMED, whole(PLAIN, Content_Length="+5"), Hang),
    "two lengths in one": refused(MALFORMED, whole(PLAIN, Content_Length="5, 6"), Hang),
    "two lengths": refused(MALFORMED, whole(PLAIN, Content_Length="5\r\nContent-Length: 6"), Hang),
    "the same length twice": refused(
        MALFORMED, whole(PLAIN, Content_Length="5\r\nContent-Length: 5"), Hang
    ),
    "a length of years": complete(whole(PLAIN, Content_Length="9" * 15), Hang),
    "a length without end": refused(MALFORMED, whole(PLAIN, Content_Length="9" * 40), Hang),
    "a length and chunks": refused(
        MALFORMED, whole(PLAIN, Content_Length="5", Transfer_Encoding="chunked"), Hang
    ),
    "bad size of a chunk": broken(MALFORMED, HEAD, TEXT, b"zz\r\n", Hang),
    "no size of a chunk": broken(MALFORMED, HEAD, TEXT, b"\r\n\r\n", Hang),
    "negative size of a chunk": broken(MALFORMED, HEAD, TEXT, b"-5\r\nhello\r\n", Hang),
    "size of a chunk with 0x": broken(MALFORMED, HEAD, TEXT, b"0x5\r\nhello\r\n", Hang),
    "enormous size of a chunk": broken(MALFORMED, HEAD, TEXT, b"f" * 40 + b"\r\n", Hang),
    "a chunk longer than its size": broken(MALFORMED, HEAD, TEXT, b"2\r\nhello\r\n", Hang),
    "a chunk shorter than its size": broken(TRUNCATED, HEAD, TEXT, b"ff\r\nhello\r\n", Close),
    "bad size of the first chunk": refused(MALFORMED, HEAD, b"zz\r\n", Hang),
    "no last chunk": complete(HEAD, TEXT, FINISH, DONE, Close),
    "no last chunk, no finish": broken(TRUNCATED, HEAD, TEXT, Close),
    "no chunks where they were said": refused(MALFORMED, HEAD, PLAIN, Hang),
    "garbage behind the end": complete(*WHOLE, b"\x00garbage"),
    "a bad chunk behind [DONE]": complete(HEAD, TEXT, FINISH, DONE, b"zz\r\n", Hang),
    "a trailer": complete(HEAD, TEXT, FINISH, DONE, b"0\r\nContent-Encoding: gzip\r\n\r\n"),
}

# What comes before the answer, and what it is said to be.
_FORMS: dict[str, Fault] = {
    "interim answers": complete(
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: x\r\n\r\n", *WHOLE
    ),
    "an interim answer that is coded": complete(
        b"HTTP/1.1 103 Hints\r\nContent-Encoding: gzip\r\n\r\n", *WHOLE
    ),
    "an interim answer that is none": refused(MALFORMED, whole(b"", "101 Oh"), Hang),
    "nothing but an interim answer": refused(TRUNCATED, b"HTTP/1.1 100 Continue\r\n\r\n", Close),
    "an error behind an interim answer": refused(
        FAILED, b"HTTP/1.1 100 Continue\r\n\r\n", *document(ERROR, 500)
    ),
    "gzip": complete(measured(_ZIPPED, Content_Encoding="gzip")),
    "gzip, its end missing": complete(measured(_ZIPPED[:-8], Content_Encoding="gzip")),
    "gzip, cut": refused(TRUNCATED, measured(_ZIPPED[:20], Content_Encoding="gzip")),
    "gzip, broken": refused(
        MALFORMED, measured(b"\x1f\x8b" + _ZIPPED[::-1], Content_Encoding="gzip")
    ),
    "gzip that is none": refused(MALFORMED, measured(PLAIN, Content_Encoding="gzip")),
    "gzip that is not said": refused(TRUNCATED, measured(_ZIPPED)),
    "an unknown coding": refused(MALFORMED, measured(PLAIN, Content_Encoding="rot13")),
    "JSON that is a stream": complete(measured(PLAIN, Content_Type="application/json")),
    "a page that is a stream": complete(measured(PLAIN, Content_Type="text/html")),
    "no content type": complete(measured(PLAIN)),
    "a picture that is a stream": complete(measured(PLAIN, Content_Type="image/png")),
    "another charset": complete(
        measured(PLAIN, Content_Type="text/event-stream; charset=iso-8859-15")
    ),
    "a document": complete(*document(ANSWER)),
    "a stream that is a document": complete(
        head(), chunk(b'{"choices":[{"message":'), chunk(b'{"content":"Hello"}}]}'), END
    ),
    "a page": refused(MALFORMED, measured(PAGE, Content_Type="text/html")),
    "a page that is a stream's": refused(MALFORMED, HEAD, chunk(PAGE), END),
}

BROKEN_HTTP: dict[str, Fault] = {**_HEADS, **_LENGTHS, **_FORMS}
