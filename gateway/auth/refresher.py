"""A key set at a URL, fetched again and again in the background.

Requests read `keys` and never wait. Whatever goes wrong with a fetch, the last good set stays: an
outage of who publishes the keys must not be ours. `fetched_at` says how old it is.
"""

import asyncio
import contextlib
import random
import ssl
import time
from collections.abc import Callable, Mapping

import aiohttp

from gateway.auth.jwks import KeySet, Trust, parse_jwks
from gateway.auth.verification import VerificationKey
from gateway.config.addresses import key_set_url

# A set of a hundred RSA keys with their certificates has about this.
MAX_SIZE = 256 << 10
# Unknown `kid`s are free to make up: they may not make us a nuisance to the publisher.
MIN_HINT_INTERVAL = 60.0

_RETRY = 30.0
_JITTER = (0.9, 1.1)
_HEADERS = {"Accept": "application/jwk-set+json, application/json", "Accept-Encoding": "identity"}


class JwksRefresher:
    """Keeps a key set fresh between `start` and `stop`.

    For metrics: `fetched_at` (Unix seconds of the last good fetch, None before it), `failures`
    (since the start), `problem` (the last failure in words fit for a log, None once it is over),
    `skipped` (why keys of the set are not used).
    """

    def __init__(
        self,
        url: str,
        trust: Trust,
        *,
        refresh: float,
        timeout: float = 10.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`refresh` and `timeout` in seconds; raises `ValueError` for a URL that is not safe."""
        self.url = key_set_url(url)
        self._trust = trust
        self._refresh = refresh
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self._clock = clock
        self._set = KeySet()
        self.fetched_at: float | None = None
        self.failures = 0
        self.problem: str | None = None
        self._wanted = asyncio.Event()
        self._tried = asyncio.Event()
        self._hinted_at = -MIN_HINT_INTERVAL
        self._task: asyncio.Task[None] | None = None

    @property
    def keys(self) -> Mapping[str, VerificationKey]:
        """The last good set by `kid`; empty before the first."""
        return self._set.keys

    @property
    def skipped(self) -> tuple[str, ...]:
        """Why keys of the set are not used."""
        return self._set.skipped

    def want(self, now: float) -> None:
        """Fetches soon for a key that is missing, at most once a minute. Never waits."""
        if now - self._hinted_at >= MIN_HINT_INTERVAL:
            self._hinted_at = now
            self._wanted.set()

    def adopt(self, other: "JwksRefresher") -> None:
        """Takes over the set of an earlier config, if it is trusted with the same."""
        if (self.url, self._trust) == (other.url, other._trust):
            self._set, self.fetched_at = other._set, other.fetched_at

    async def start(self, patience: float | None = None) -> None:
        """Fetches the set in the background, at once and then again and again.

        Returns when it has been tried once, or after `patience` seconds; or at once, if a set was
        adopted. Never fails: without a set its keys are unknown.
        """
        self._wanted.set()
        self._task = asyncio.create_task(self._run(), name="jwks")
        if self.fetched_at is None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(patience):
                    await self._tried.wait()

    async def stop(self) -> None:
        """Ends the background task."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None

    async def refresh(self) -> None:
        """Fetches the set once; a failure is counted and changes nothing."""
        try:
            fetched = parse_jwks(await self._fetch(), self._trust)
        # Whatever it is: a task that died of it would leave the set to grow old in silence.
        except Exception as exc:
            self.failures += 1
            self.problem = str(exc) if type(exc) is ValueError else type(exc).__name__
            return
        self._set, self.fetched_at, self.problem = fetched, self._clock(), None

    async def _run(self) -> None:
        while True:
            await self._pause()
            await self.refresh()
            self._tried.set()

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(self._delay()):
                await self._wanted.wait()
        except TimeoutError:
            pass
        self._wanted.clear()

    def _delay(self) -> float:
        """Seconds to the next fetch; spread, so that a fleet does not come all at once."""
        delay = self._refresh if self.problem is None else min(self._refresh, _RETRY)
        return delay * random.SystemRandom().uniform(*_JITTER)

    async def _fetch(self) -> bytes:
        # A session each: minutes lie between two fetches, and no connection lives so long.
        # The certificates are read each time as well, by a thread: it takes 30 ms.
        believed = await asyncio.to_thread(ssl.create_default_context)
        async with (
            aiohttp.ClientSession(timeout=self._timeout, headers=_HEADERS) as session,
            session.get(self.url, allow_redirects=False, ssl=believed) as answer,
        ):
            if answer.status != 200:
                raise ValueError(f"the publisher of the key set answered {answer.status}, not 200")
            return await _read(answer.content)


async def _read(content: aiohttp.StreamReader) -> bytes:
    data = bytearray()
    async for chunk in content.iter_any():
        data += chunk
        if len(data) > MAX_SIZE:
            raise ValueError(f"the key set is larger than {MAX_SIZE >> 10} KiB")
    return bytes(data)
