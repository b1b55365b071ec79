"""What a process that serves does before anything else."""

import gc
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

# Where OpenSSL looks for the certificates that it believes.
_PLACES = ("SSL_CERT_FILE", "SSL_CERT_DIR")


def begin() -> None:
    """Before there is a thread, and before aiohttp is imported."""
    # What is made at the start stays, so looking for what does not is a quarter of the start: not
    # before `collect_less`.
    gc.set_threshold(0)
    # Until they are listened to: a hangup would end the process, and the first process of a
    # container would never hear that it is to end.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP, signal.SIGTERM})
    # aiohttp loads the system's certificates when it is imported, for clients that bring no `ssl`
    # of their own: a tenth of a start, and a megabyte. No client here is such a one, and from now
    # on none could be: it would believe nobody.
    with _no_certificates():
        import_module("aiohttp")


@contextmanager
def _no_certificates() -> Iterator[None]:
    before = {name: os.environ.get(name) for name in _PLACES}
    os.environ.update(dict.fromkeys(_PLACES, os.devnull))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
