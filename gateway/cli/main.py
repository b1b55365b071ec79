"""`oc-gateway`: the table of commands. A command's module is imported when it is given, and imports
what it needs when it runs, so that `--help` is quick."""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from gateway import __version__

# The modules of this package that are commands, each with a function `define`.
_COMMANDS = {
    "run": "serve",
    "check": "check the configuration",
    "keys": "make, sign and verify the keys of clients",
    "store": "look after the conversations that are kept",
    "chat": "talk to an agent of a running gateway",
    "top": "watch a running gateway",
    "translate": "what a client would have received",
}

_EPILOG = """\
examples:
  oc-gateway run                              serve with ./gateway.toml
  oc-gateway run --config prod.toml --port 80
  oc-gateway check prod.toml --routes         is the file right, and where does it lead?
  oc-gateway keys create --workspace acme     a key for a client, and the lines to paste
  oc-gateway store status                     the conversations that are kept
  oc-gateway chat 1                           talk to agent 1 of a running gateway
  oc-gateway top                              watch what it does
  oc-gateway translate --from openai --to bookbag-v2 < recorded.sse

The configuration is the file named by --config, else by OC_GATEWAY_CONFIG, else ./gateway.toml.
"""


class _Command(argparse.ArgumentParser):
    """What the command `module` takes; unknown until it is given, and then that module's to say."""

    def __init__(self, *, module: str = "", **settings: Any) -> None:
        super().__init__(**settings)
        self._module = module

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        module, self._module = self._module, ""
        if module:
            import_module(f"gateway.cli.{module}").define(self)
        return super().parse_known_args(args, namespace)


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = argparse.ArgumentParser(
        prog="oc-gateway",
        description="An edge proxy that translates between agent-chat protocols.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"oc-gateway {__version__}")
    commands = parser.add_subparsers(
        title="commands", required=True, metavar="COMMAND", parser_class=_Command
    )
    for name, summary in _COMMANDS.items():
        commands.add_parser(
            name,
            help=summary,
            module=name,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
    # Without a summary it is not listed: `run` starts it.
    commands.add_parser("worker", module="worker")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; its exit code. 2 is a wrong command line or a wrong configuration."""
    args = build_parser().parse_args(argv)
    try:
        code: int = args.run(args)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 141  # the reader of our output has gone, as `| head` does
    except OSError as exc:  # the disk behind our output is full, and the like
        print(f"oc-gateway: {(exc.strerror or 'input or output failed').lower()}", file=sys.stderr)
        return 1
    return code
