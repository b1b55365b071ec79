"""What it ran on."""

import os
import platform
import re
import subprocess
from importlib.metadata import version
from pathlib import Path

from tests.bench import nginx
from tests.bench.process import Cpus

_MODEL = re.compile(r"^model name\s*: (.+)$", re.MULTILINE)


def machine(cpus: Cpus) -> str:
    """A paragraph."""
    shared = " (shared: the figures say little)" if cpus.gateway == cpus.load else ""
    return (
        f"{platform.system()} {platform.release().partition('-')[0]} on {platform.machine()}, "
        f"{os.cpu_count()} CPUs ({_processor()}), {_memory()} GiB; the gateway on "
        f"CPU {cpus.gateway}, mock and client on CPU {cpus.load}{shared}; "
        f"Python {platform.python_version()}, aiohttp {version('aiohttp')}, "
        f"uvloop {version('uvloop')}, {_nginx()}; load average {os.getloadavg()[0]:.2f} before "
        "the first round."
    )


def _processor() -> str:
    found = _MODEL.search(Path("/proc/cpuinfo").read_text())
    return found[1] if found else "of an unknown model"


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 30


def _nginx() -> str:
    binary = nginx.binary()
    if binary is None:
        return "no nginx"
    said = subprocess.run([binary, "-v"], capture_output=True, text=True, check=True).stderr
    return said.rpartition(":")[2].strip().replace("/", " ")
