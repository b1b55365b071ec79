"""`python -m tests.bench`: what this build costs, beside a proxy that translates nothing."""

import argparse
import sys
from collections.abc import Sequence

from tests.bench.process import allot, allow_sockets
from tests.bench.report import machine, store_table, table
from tests.bench.rounds import WrongAnswer, bench
from tests.bench.workloads import NAMES, warm_up, workloads


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each run")
    parser.add_argument("--rounds", type=int, default=3, help="the table has their medians")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES, metavar="WORKLOAD")
    parser.add_argument(
        "--connections", type=int, default=1000, help="at most so many, whatever the workload"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 1 if any answer was wrong; then there is no table."""
    args = build_parser().parse_args(argv)
    asked = [w for w in workloads(args.seconds, args.connections) if w.name in args.only]
    cpus = allot()
    allow_sockets()
    print(f"{machine(cpus)}\n", flush=True)
    try:
        with bench(cpus, warm_up(args.seconds), asked) as running:
            rounds = [running.round(number) for number in range(args.rounds)]
    except WrongAnswer as exc:
        print(f"wrong answer: {exc}", file=sys.stderr)
        return 1
    print(table(rounds))
    if stored := store_table(rounds):
        print(f"\n{stored}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
