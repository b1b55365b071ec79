"""A real PostgreSQL for the tests, of this machine's binaries and nothing else of this machine's.

It listens on 127.0.0.1. The role `gateway` gets in without a password, and may do nothing outside
of its databases; `guarded` needs one. As root the server runs as the user `postgres`.
"""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import TypedDict

PASSWORD = "a test's own"

# Fast: what it has told the system to write outlives the server's death, though not the machine's.
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "32MB",
    "max_connections": "200",
    "autovacuum": "off",
    "log_min_messages": "warning",
}
_HBA = """
local all all trust
host all gateway 127.0.0.1/32 trust
host all all 127.0.0.1/32 scram-sha-256
"""
_ROLES = f"""
CREATE ROLE gateway LOGIN;
CREATE ROLE guarded LOGIN PASSWORD $${PASSWORD}$$ IN ROLE gateway;
"""

_TIMEOUT = 30.0


class _As(TypedDict, total=False):
    """Whom a process runs as."""

    user: str
    group: str
    extra_groups: list[str]


def _run_as() -> _As:
    """PostgreSQL refuses to run as root."""
    return {"user": "postgres", "group": "postgres", "extra_groups": []} if not os.getuid() else {}


def _binaries() -> Path:
    """Debian's have a folder for each version, which is not in the path."""
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3])
    )
    path = found[-1] if found else shutil.which("postgres")
    assert path, "PostgreSQL is missing: run tests/install"
    return Path(path).parent


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


@dataclass(slots=True)
class Postgres:
    """A server, which a test may stop, kill or make hang: it should run again after the test."""

    folder: Path
    port: int = field(default_factory=_free_port)
    _binaries: Path = field(default_factory=_binaries)
    _process: subprocess.Popen[bytes] | None = None
    _names: Iterator[int] = field(default_factory=count)

    def make(self) -> None:
        """Its files, and the roles; it runs afterwards."""
        self._run("initdb", f"--pgdata={self._data}", "--no-sync", "--encoding=UTF8",
                  "--locale=C", "--username=postgres", "--auth=trust")  # fmt: skip
        (self._data / "pg_hba.conf").write_text(_HBA)
        self.start()
        self.sql(_ROLES)

    def start(self) -> None:
        """Returns when it takes connections; nothing if it runs."""
        assert threading.current_thread() is threading.main_thread()
        if self._process is not None:
            return
        deadline = time.monotonic() + _TIMEOUT
        while not self._started():
            # After a kill, as long as another of its processes has not noticed.
            assert time.monotonic() < deadline, (self.folder / "log").read_text()
            time.sleep(0.02)

    def stop(self) -> None:
        """As an operator does, who does not wait for clients to go."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """All of it at once, as when the machine's power goes."""
        for pid in self._pids():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._end(signal.SIGKILL)

    @contextmanager
    def hung(self) -> Iterator[None]:
        """It takes connections and answers nothing, as when the machine stands still."""
        pids = self._pids()
        self._signal(pids, signal.SIGSTOP)
        try:
            yield
        finally:
            self._signal(pids, signal.SIGCONT)

    def create(self) -> str:
        """The URL of a new and empty database."""
        name = f"test{next(self._names)}"
        self.sql(f"CREATE DATABASE {name} OWNER gateway")
        return self.url(name)

    def drop(self, url: str) -> None:
        """And all that are connected to it."""
        self.sql(f"DROP DATABASE {url.rpartition('/')[2]} WITH (FORCE)")

    def url(self, database: str, user: str = "gateway") -> str:
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def sql(self, statements: str, database: str = "postgres") -> str:
        """Done by the superuser, each on its own; what the last one returns, without a frame."""
        arguments = [f"--host={self.folder}", f"--port={self.port}", "--username=postgres"]
        return self._run("psql", *arguments, "--no-psqlrc", "--quiet", "--no-align",
                         "--tuples-only", "--set=ON_ERROR_STOP=1", f"--dbname={database}",
                         said=statements)  # fmt: skip

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def _started(self) -> bool:
        settings = [f"--{name}={value}" for name, value in _SETTINGS.items()]
        place = [f"-D{self._data}", f"-k{self.folder}", f"-p{self.port}"]
        with (self.folder / "log").open("ab") as log:
            self._process = process = subprocess.Popen(
                # Whatever becomes of the tests, it ends with them: with the thread that starts
                # it, to be exact, so that has to be the main one.
                ["setpriv", "--pdeathsig=INT", self._binaries / "postgres", *place, *settings],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # not for the Ctrl-C that ends the tests
                **_run_as(),
            )
        # What it says of itself in its first file, when it takes connections.
        ready = self._data / "postmaster.pid"
        while process.poll() is None:
            with suppress(FileNotFoundError):
                lines = ready.read_text().split()
                if lines[:1] == [str(process.pid)] and lines[-1] in ("ready", "standby"):
                    return True
            time.sleep(0.005)
        self._process = None
        return False

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(number)
            process.wait(_TIMEOUT)

    def _pids(self) -> list[int]:
        """The server's and its children's: each of these has left its group."""
        if self._process is None:
            return []
        parent = self._process.pid
        return [parent, *(pid for pid, above in _processes() if above == parent)]

    def _signal(self, pids: Iterable[int], number: signal.Signals) -> None:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def _run(self, program: str, *arguments: str, said: str = "") -> str:
        done = subprocess.run(
            [self._binaries / program, *arguments],
            input=said,
            capture_output=True,
            text=True,
            cwd=self.folder,
            timeout=_TIMEOUT,
            check=False,
            **_run_as(),
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


def _processes() -> Iterator[tuple[int, int]]:
    """All that run: each one's id and its parent's."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            # The name, in parentheses, may have any character in it.
            parent = stat.read_text().rpartition(")")[2].split()[1]
            yield int(stat.parent.name), int(parent)


@contextmanager
def running() -> Iterator[Postgres]:
    """A server for a while; nothing is left of it."""
    # Under /tmp, for the path of a Unix socket is short, and another user has to get there.
    folder = Path(tempfile.mkdtemp(prefix="oc-gateway-postgres-"))
    try:
        if user := _run_as().get("user"):
            shutil.chown(folder, user, user)
        server = Postgres(folder)
        try:
            server.make()
            yield server
        finally:
            server.kill()
    finally:
        shutil.rmtree(folder)
