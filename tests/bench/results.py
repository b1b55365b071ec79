"""Everything, as Markdown: `python -m tests.bench results > tests/bench/RESULTS.md`."""

import argparse
from datetime import UTC, datetime

from tests.bench import calls, compare, growth, start


def define(parser: argparse.ArgumentParser) -> None:
    compare.define(parser)
    parser.add_argument("--largest", type=int, default=1_000_000, help="no growth beyond it")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Exit code 1 if any answer was wrong."""
    print(f"# Results\n\n{datetime.now(UTC):%Y-%m-%d}. ", end="")
    code = compare.run(args)
    print("\n## Start\n", flush=True)
    code |= start.run(argparse.Namespace(rounds=7))
    print("\n## Growth\n\n```tsv", flush=True)
    sizes = argparse.Namespace(seconds=args.seconds, only=list(growth.AXES), largest=args.largest)
    code |= growth.run(sizes)
    print("```\n\n## Calls\n\n```", flush=True)
    code |= calls.run(argparse.Namespace(check=False, update=False))
    print("```")
    return code
