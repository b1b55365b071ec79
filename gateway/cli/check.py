"""`oc-gateway check`: is the configuration right, and where does it lead?"""

import argparse
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.cli.run import default_config

if TYPE_CHECKING:
    from gateway.config.model import Config

_EPILOG = """\
Exit code 0: the file is valid. 2: it is not; every problem is on standard error, a line each, with
its path in the file. A secret that is not set here, or an extra that is not installed, is only a
warning: it may be there where the gateway runs.
"""


def define(parser: argparse.ArgumentParser) -> None:
    parser.description = "Check the configuration, without serving."
    parser.epilog = _EPILOG
    parser.add_argument(
        "file",
        nargs="?",
        type=Path,
        metavar="FILE",
        help="the configuration (default: $OC_GATEWAY_CONFIG or gateway.toml)",
    )
    parser.add_argument("--routes", action="store_true", help="show where each agent leads")
    parser.add_argument("--schema", action="store_true", help="print the JSON schema of the file")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Exit code 2 for a wrong configuration."""
    if args.schema:
        return _print_schema()
    from gateway.config.load import ConfigError

    path = args.file or default_config()
    try:
        return _check(path, args.routes)
    except ConfigError as exc:  # also of what the file refers to: it is this file that is told of
        print(ConfigError(path, exc.problems), file=sys.stderr)
        return 2


def _print_schema() -> int:
    from gateway.config.schema import written_schema

    print(written_schema(), end="")
    return 0


def _check(path: Path, routes: bool) -> int:
    from gateway.config.load import load
    from gateway.config.routes import build_routes, routing_table

    config = load(path)
    table = routing_table(build_routes(_without_secrets(config), path.parent))
    _check_certificate(config, path.parent)
    for warning in _warnings(config, path.parent):
        print(f"{path}: warning: {warning}", file=sys.stderr)
    print(f"{path} is valid: {_counted(config)}")
    if routes:
        print(f"\n{table}")
    return 0


def _without_secrets(config: "Config") -> "Config":
    """Routes lead where they lead, also where the secrets are not at hand."""
    agents = [agent.model_copy(update={"identity_secret": None}) for agent in config.agents]
    return config.model_copy(update={"agents": agents})


def _check_certificate(config: "Config", base: Path) -> None:
    """Raises `ConfigError` for one that is no use now; of one that is not here, a warning tells."""
    if config.server.tls is None:
        return
    from gateway.config.certificate import read_certificate
    from gateway.config.problems import ConfigError, Problem
    from gateway.config.secrets import MissingSecret

    try:
        fault = read_certificate(config.server.tls, base).fault(time.time())
    except MissingSecret:
        return
    if fault:
        said = f"clients will not take {config.server.tls.certificate!r}: {fault}"
        raise ConfigError(base, [Problem("server.tls.certificate", said)])


def _warnings(config: "Config", base: Path) -> Iterator[str]:
    from gateway.config.secrets import missing

    yield from map(str, missing(config, base, os.environ))
    yield from _extra_warnings(config)
    workspaces = {agent.workspace for agent in config.agents}
    for index, key in enumerate(config.keys):
        if key.workspace not in workspaces:
            yield f'keys[{index}].workspace (key {key.id}): "{key.workspace}" has no agents'


def _extra_warnings(config: "Config") -> Iterator[str]:
    if not config.tracing.enabled:
        return
    from gateway.observe.tracing import NOT_INSTALLED, is_installed

    if not is_installed():
        yield NOT_INSTALLED


def _counted(config: "Config") -> str:
    things = (("agent", config.agents), ("upstream", config.upstreams), ("key", config.keys))
    return ", ".join(f"{len(each)} {noun}{'' if len(each) == 1 else 's'}" for noun, each in things)
