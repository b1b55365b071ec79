"""`python -m tests.bench`: what the gateway costs; one command for each way of asking.

With no command it is `compare`.
"""

import argparse
import sys
from collections.abc import Sequence

from tests.bench import calls, compare, growth, results, start

COMMANDS = {
    "compare": (compare, "this build beside a pass-through and nginx (the default)"),
    "growth": (growth, "how costs grow with streams, keys, agents and conversations"),
    "start": (start, "how long a start takes"),
    "results": (results, "all of these, as Markdown"),
    "calls": (calls, "how many calls a turn takes"),
}


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name, (module, summary) in COMMANDS.items():
        module.define(commands.add_parser(name, help=summary, description=module.__doc__))
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    given = list(sys.argv[1:] if argv is None else argv)
    if not given or (given[0].startswith("-") and given[0] not in ("-h", "--help")):
        given.insert(0, "compare")
    args = build_parser().parse_args(given)
    code: int = args.run(args)
    return code


if __name__ == "__main__":
    sys.exit(main())
