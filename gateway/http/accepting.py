"""Giving up a listening socket without losing a connection.

The kernel completes handshakes by itself: a client may have sent its request on a connection that
nobody has accepted yet, and closing the socket would reset it. So first no handshake may begin any
more, then what has queued up is accepted, and only then is the socket closed.
"""

import asyncio
import contextlib
import ctypes
import select
import socket
import struct
import sys
from collections.abc import Iterable

# A filter in the kernel's own words (socket(7), bpf(2)): of the segments that reach the socket it
# drops those that ask for a new connection. Their senders ask again a second later, and then meet
# whoever listens at the address next, or nobody.
_SO_ATTACH_FILTER = 26  # the module socket does not name it
_FLAGS, _SYN, _ACK = 13, 0x02, 0x10
_NO_NEW = [
    (0x30, 0, 0, _FLAGS),  # load the byte with the flags
    (0x54, 0, 0, _SYN | _ACK),  # of which these two count
    (0x15, 0, 1, _SYN),  # only the first of them? else skip one line
    (0x06, 0, 0, 0),  # drop it
    (0x06, 0, 0, 0xFFFFFFFF),  # keep all of it
]

# How long a handshake that has begun may take to be completed.
_HANDSHAKE = 0.05

# How long accepting may take: with no file descriptors left it would never end.
_AT_MOST = 1.0

# Turns of the event loop without anybody in the queue: asyncio's own loop takes two to hand a
# connection over.
_QUIET = 3


async def settle(sockets: Iterable[int], *, busy: bool) -> None:
    """Have all that is queued at these listening sockets accepted, by file descriptor, and nothing
    queue up any more. `busy`: somebody is connected, so others may be about to."""
    poll = select.poll()
    for number in sockets:
        _take_no_new(number)
        poll.register(number, select.POLLIN)
    if busy or poll.poll(0):
        await asyncio.sleep(_HANDSHAKE)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_AT_MOST):
            await _accepted(poll)


def _take_no_new(number: int) -> None:
    if sys.platform != "linux":
        return
    # The loop's own object for it has no options to set; and one with a descriptor of its own would
    # take one more, where there may be none left.
    listening = socket.socket(fileno=number)
    filter_ = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in _NO_NEW))
    program = struct.pack("@HP", len(_NO_NEW), ctypes.addressof(filter_))
    with contextlib.suppress(OSError):  # a sandbox that knows no filters: a small gap is left
        listening.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
    listening.detach()


async def _accepted(poll: "select.poll") -> None:
    quiet = 0
    while quiet < _QUIET:
        quiet = 0 if poll.poll(0) else quiet + 1
        await asyncio.sleep(0)
