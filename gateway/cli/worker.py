"""`oc-gateway worker`: one of the processes of `oc-gateway run`, which starts it. Nobody else does:
it is given descriptors of open files."""

import argparse
from functools import partial
from typing import TYPE_CHECKING

from gateway.cli.run import add_options, collect_less, with_options

if TYPE_CHECKING:
    from gateway.app import Gateway


def define(parser: argparse.ArgumentParser) -> None:
    parser.description = "One of the processes of `oc-gateway run`, which starts it."
    parser.add_argument("number", type=int)
    parser.add_argument("--of", type=int, required=True)
    for name in ("channel", "text", "zone"):
        parser.add_argument(f"--{name}", type=int, required=True, metavar="FD")
    parser.add_argument("--listening", type=int, required=True, action="append", metavar="FD")
    add_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from gateway.cli.beginning import begin

    begin()

    import asyncio
    from socket import socket

    import uvloop

    from gateway.observe.logs import build_logger
    from gateway.observe.strays import collect_strays
    from gateway.workers.worker import work

    logger = build_logger().bind(worker=args.number)
    collect_strays(logger)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        build = partial(_build, args)
        return runner.run(work(socket(fileno=args.channel), build, args.config, logger))


def _build(args: argparse.Namespace) -> "Gateway":
    """Raises what `Gateway` does, and `ConfigError` where the file has become no use."""
    from gateway.config.file import ConfigFile
    from gateway.workers.parts import Part
    from gateway.workers.seats import Given, build_worker

    file = ConfigFile(args.config, partial(with_options, args=args))
    given = Given(args.text, args.zone, args.listening)
    gateway = build_worker(file, Part(args.number, args.of), given)
    collect_less()
    return gateway
