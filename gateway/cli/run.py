"""`oc-gateway run`: serve."""

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.app import Gateway
    from gateway.config.model import Config, Key
    from gateway.workers.supervisor import Supervisor

# The key of the gateway.toml that comes with the gateway. Whoever keeps its hash in their own file
# has a public key, so `run` says so.
DEMO_KEY = "oc_test_demo"

_EPILOG = """\
Health and metrics are on a listener of their own ([admin], 127.0.0.1:9090 by default):
/healthz, /readyz, /metrics, /status and /reload. Logs are lines on standard error, one per request:
JSON, or text on a terminal.
"""


def define(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Serve until stopped (SIGTERM or Ctrl-C). A change of the configuration is\n"
        "taken up at once; SIGHUP has it read again."
    )
    parser.epilog = _EPILOG
    add_options(parser)
    parser.set_defaults(run=run)


def add_options(parser: argparse.ArgumentParser) -> None:
    """What comes before the file, and the option that names it."""
    add_config(parser)
    parser.add_argument("--host", help="address to listen on, instead of [server] host")
    parser.add_argument(
        "--port", type=_port, help="port, instead of [server] port; 0: any free one"
    )
    parser.add_argument(
        "--log-level",
        choices=("debug", "info", "warning", "error"),
        help="instead of [logs] level",
    )
    parser.add_argument(
        "--log-format", choices=("auto", "json", "text"), help="instead of [logs] format"
    )


def add_config(parser: argparse.ArgumentParser) -> None:
    """The option that names the file."""
    parser.add_argument(
        "--config",
        type=Path,
        default=default_config(),
        metavar="FILE",
        help="the configuration (default: $OC_GATEWAY_CONFIG or gateway.toml)",
    )


def _port(text: str) -> int:
    port = int(text) if text.isdecimal() else -1
    if not 0 <= port <= 65535:
        raise argparse.ArgumentTypeError("a port is a number from 0 to 65535")
    return port


def default_config() -> Path:
    return Path(os.environ.get("OC_GATEWAY_CONFIG") or "gateway.toml")


def run(args: argparse.Namespace) -> int:
    """Exit code 2 for a wrong configuration, 1 if the address cannot be had."""
    from gateway.cli.beginning import begin

    begin()

    from gateway.config.problems import ConfigError

    try:
        gateway = _built(args)
    except ConfigError as exc:  # also of what the file refers to: it is this file that is told of
        print(ConfigError(args.config, exc.problems), file=sys.stderr)
        return 2
    except ValueError as exc:
        print(f"{args.config}: {exc}", file=sys.stderr)
        return 2
    return _serve(gateway)


def _built(args: argparse.Namespace) -> "Gateway | Supervisor":
    """One process, or what starts several. Raises `ConfigError`, and `ValueError` for what the file
    refers to."""
    from gateway.config.file import ConfigFile
    from gateway.observe.logs import build_logger
    from gateway.observe.strays import collect_strays
    from gateway.workers.count import wanted

    file = ConfigFile(args.config, lambda config: with_options(config, args))
    text = file.text()
    config = file.parsed(text)
    logs = config.logs
    logger = build_logger(logs.level, form=logs.format, sample=logs.sample)
    collect_strays(logger)
    count = wanted(config)
    if count == 1:
        from gateway.app import Gateway

        return Gateway(config, file.base, logger, file=file)

    from gateway.workers.supervisor import Supervisor, checked

    return Supervisor(checked(config, file, count), text, count, _options(args), logger)


def _options(args: argparse.Namespace) -> list[str]:
    """As a worker's process takes them."""
    names = ("config", "host", "port", "log_level", "log_format")
    given = {name: getattr(args, name) for name in names}
    return [f"--{n.replace('_', '-')}={v}" for n, v in given.items() if v is not None]


def with_options(config: "Config", args: argparse.Namespace) -> "Config":
    """The options hold against the file, also after a reload."""
    given = {
        "server": {"host": args.host, "port": args.port},
        "logs": {"level": args.log_level, "format": args.log_format},
    }
    tables = {}
    for name, options in given.items():
        said = {option: value for option, value in options.items() if value is not None}
        tables[name] = getattr(config, name).model_copy(update=said)
    return config.model_copy(update=tables)


def _serve(gateway: "Gateway | Supervisor") -> int:
    import asyncio

    import uvloop

    from gateway.conversations.store import StoreError
    from gateway.http.server import CannotListen
    from gateway.workers.starting import NotStarted

    collect_less()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_until_stopped(gateway))
    except (CannotListen, StoreError) as exc:
        print(exc, file=sys.stderr)
        return 1
    except NotStarted as exc:
        print(exc, file=sys.stderr)
        return exc.code
    return 0


def collect_less() -> None:
    """What is there by now stays for good, and turns leave no cycles behind (which
    tests/faults/test_garbage.py holds them to). What does is rare: a reload, a path that is not
    there. To look for that as often as Python does by default would be to go through the objects of
    all open streams again and again."""
    import gc

    gc.freeze()  # without a look first: the start leaves 2,000 objects, which take longer to find
    gc.set_threshold(10_000, 10, 2)


async def _until_stopped(gateway: "Gateway | Supervisor") -> None:
    import asyncio
    import signal

    from gateway.workers.starting import started

    stop = asyncio.Event()

    def signalled() -> None:
        if stop.is_set():
            gateway.hurry()
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, signalled)
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, gateway.reload)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP, signal.SIGTERM})
    if not await started(gateway, stop):
        return
    _say(greeting(gateway))
    try:
        await stop.wait()
        _say("stopping: open turns may finish; a second signal ends them now")
    finally:
        await gateway.stop()


def _say(text: str) -> None:
    try:
        print(text, flush=True)
    except OSError:
        # Who read it has gone, and that is no reason to stop. Python keeps what was not written,
        # and would fail of it at the end.
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)


def greeting(gateway: "Gateway | Supervisor") -> str:
    """What is printed at the start: addresses, agents, and a line to try it with."""
    from gateway.config.routes import routing_table

    demo = _demo(gateway.config) is not None
    return "\n".join(
        [
            f"oc-gateway listens on {gateway.public.url}",
            f"health and metrics on {gateway.admin.url} (/healthz /readyz /metrics /status)",
            "",
            routing_table(gateway.snapshot.routes),
            "",
            "try it:",
            f"  {_curl(gateway)}",
            *([f"\nthe key {DEMO_KEY} is public: remove it before others reach this port"] * demo),
            "",
        ]
    )


def _demo(config: "Config") -> "Key | None":
    from gateway.auth.mint import key_hash

    return next((key for key in config.keys if key.hash == key_hash(DEMO_KEY)), None)


def _url(gateway: "Gateway | Supervisor") -> str:
    """Where curl finds it: over TLS by a name that the certificate is for, whoever has that in the
    DNS."""
    from urllib.parse import urlsplit

    url, certificate = gateway.public.url, gateway.snapshot.certificate
    if certificate is None or not certificate.names:
        return url
    name, address = certificate.names[0], urlsplit(url).netloc.rpartition(":")
    return f"--resolve {name}:{address[2]}:{address[0]} https://{name}:{address[2]}"


def _curl(gateway: "Gateway | Supervisor") -> str:
    config = gateway.config
    demo = _demo(config)
    key = DEMO_KEY if demo else "$OC_KEY"
    agent = next(
        (
            a
            for a in config.agents
            if not a.archived and (not demo or a.workspace == demo.workspace)
        ),
        config.agents[0],
    )
    return (
        f"curl -N {_url(gateway)}/api/v2/agents/{agent.id}/chat "
        f"-H 'Authorization: Bearer {key}' -H 'Content-Type: application/json' "
        """-d '{"message": "Where is my order?"}'"""
    ).replace("'Authorization: Bearer $OC_KEY'", '"Authorization: Bearer $OC_KEY"')
