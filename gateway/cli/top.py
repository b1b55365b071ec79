"""`oc-gateway top`: what a running gateway does, live, in a terminal."""

import argparse
import os
import select
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from gateway.cli.loading import fail

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

_TOKEN = "OC_ADMIN_TOKEN"  # noqa: S105 - the variable's name

_EPILOG = f"""\
examples:
  oc-gateway top                                  the gateway of this machine
  oc-gateway top --once                           one frame, for a script or a note
  OC_ADMIN_TOKEN=... oc-gateway top --url http://10.0.0.7:9090

It asks the admin listener ([admin] in the configuration) for /status and /metrics; where that wants
a token, it is read from the environment variable {_TOKEN}. Rates are of the last 10 seconds,
p50 and p95, the time to the first event, of the last minute. The key q ends it. It takes the extra
oc-gateway[top].

Exit code: 0 done, 1 nobody answers (--once) or it refuses, 2 there is no terminal, 143 SIGTERM.
"""

_NO_RICH = "oc-gateway top needs rich: pip install 'oc-gateway[top]'"
_NO_TERMINAL = "oc-gateway top needs a terminal; --once prints one frame without one"

# Of a frame that no terminal shows.
_WIDTH = 160


def define(parser: argparse.ArgumentParser) -> None:
    parser.description = "Watch a running gateway: streams, rates, targets, agents, what fails."
    parser.epilog = _EPILOG
    parser.add_argument(
        "--url", default="http://127.0.0.1:9090", help="its admin listener (%(default)s)"
    )
    parser.add_argument(
        "--token-env",
        default=_TOKEN,
        metavar="NAME",
        help="the environment variable with [admin] token (%(default)s)",
    )
    parser.add_argument(
        "--interval", type=_interval, default=2.0, help="between two frames (2s)", metavar="TIME"
    )
    parser.add_argument("--once", action="store_true", help="print one frame and end")
    parser.set_defaults(run=run)


def _interval(value: str) -> float:
    from gateway.config.values import duration

    try:
        found = duration(value)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(str(exc)) from None
    assert isinstance(found, float)
    if not 0.1 <= found <= 3600:
        raise argparse.ArgumentTypeError("from 100ms to 1h")
    return found


def run(args: argparse.Namespace) -> int:
    """Exit code 1 if there is nothing to show, 2 without a terminal to show it in."""
    try:
        from rich.console import Console
    except ModuleNotFoundError:
        return fail(_NO_RICH)
    from gateway.cli.top_asking import Refused

    # Into a pipe goes all of a frame: nobody can widen that.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else _WIDTH)
    url = args.url if "://" in args.url else f"http://{args.url}"
    watched = _Watched(url, os.environ.get(args.token_env), console)
    try:
        if args.once:
            return _once(watched, args.interval, console)
        if not (console.is_terminal and sys.stdin.isatty()):
            fail(_NO_TERMINAL)
            return 2
        _watch(watched, args.interval, console)
    except Refused as exc:
        return fail(f"{url}: {exc}")
    except KeyboardInterrupt:
        pass
    return 0


class _Watched:
    """One gateway, looked at again and again."""

    def __init__(self, url: str, token: str | None, console: "Console") -> None:
        from gateway.cli.top_figures import History
        from gateway.cli.top_screen import KEPT

        self.url = url
        self._token = token
        self._console = console
        self._history = History(KEPT)
        self._last: RenderableType | None = None

    def frame(self, *, whole: bool) -> "RenderableType":
        """The next one; `whole`: all of it, else what there is room for. Raises `NoAnswer` and
        `Refused`."""
        from gateway.cli.top_asking import look
        from gateway.cli.top_screen import frame

        seen = look(self.url, self._token)
        self._history.add(seen.scrape, seen.process)
        width, height = self._console.size
        # One line is for the news that nobody is there any more.
        lines = None if whole else height - 1
        self._last = frame(seen, self._history, self.url, width=width, lines=lines)
        return self._last

    def screen(self) -> "RenderableType":
        """The next frame, or while nobody is there the last one below the news of that. Raises
        `Refused`."""
        from rich.console import Group

        from gateway.cli.top_asking import NoAnswer
        from gateway.cli.top_screen import no_answer

        try:
            return self.frame(whole=False)
        except NoAnswer as exc:
            said = no_answer(self.url, str(exc))
            return said if self._last is None else Group(said, self._last)


def _once(watched: _Watched, interval: float, console: "Console") -> int:
    """Rates take two looks."""
    import time

    from gateway.cli.top_asking import NoAnswer

    try:
        watched.frame(whole=True)
        time.sleep(interval)
        frame = watched.frame(whole=True)
    except NoAnswer as exc:
        return fail(f"no answer from {watched.url}: {exc}")
    console.print(frame)
    return 0


def _watch(watched: _Watched, interval: float, console: "Console") -> None:
    from rich.live import Live

    # Whoever ends it, the terminal is to be what it was.
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    with (
        _single_keys(),
        Live(watched.screen(), console=console, screen=True, auto_refresh=False) as live,
    ):
        live.refresh()
        while not _asked_to_end(interval):
            live.update(watched.screen(), refresh=True)


@contextmanager
def _single_keys() -> Iterator[None]:
    """Keys come one by one, unseen, and not line by line."""
    import termios
    import tty

    keyboard = sys.stdin.fileno()
    before = termios.tcgetattr(keyboard)
    tty.setcbreak(keyboard)
    try:
        yield
    finally:
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)


def _asked_to_end(within: float) -> bool:
    """Wait so long for a key; whether it is the one that ends it. A keyboard that has gone does as
    well."""
    keyboard = sys.stdin.fileno()
    if not select.select([keyboard], [], [], within)[0]:
        return False
    key = b""
    with suppress(OSError):
        key = os.read(keyboard, 1)
    return key in (b"q", b"Q", b"")
