"""`python -m tests.bench`: what this build costs, beside proxies that translate nothing."""

import argparse
import sys

from tests.bench.machine import machine
from tests.bench.process import allot, allow_sockets, most_streams
from tests.bench.report import load_table, store_table, table, workers_table
from tests.bench.rounds import WrongAnswer, bench
from tests.bench.workloads import NAMES, WORKERS, smaller, warm_up, workloads


def define(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=5.0, help="of each run")
    parser.add_argument("--rounds", type=int, default=3, help="the table has their medians")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES, metavar="WORKLOAD")
    parser.add_argument(
        "--connections", type=int, default=10000, help="at most so many, whatever the workload"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Exit code 1 if any answer was wrong; then there is no table."""
    cpus = allot()
    allow_sockets()
    most = min(args.connections, most_streams())
    asked = [
        smaller(workload, most)
        for workload in workloads(args.seconds, args.connections)
        if workload.name in args.only
    ]
    print(f"{machine(cpus)}\n{args.rounds} rounds of {args.seconds:g} s.", flush=True)
    if most < args.connections:
        print(f"\nThe limit of open files allows {most} streams, and no more.")
    try:
        with bench(cpus, warm_up(args.seconds), asked) as running:
            rounds = [running.round(number) for number in range(args.rounds)]
            why_not = running.skipped.get(WORKERS, "")
    except WrongAnswer as exc:
        print(f"wrong answer: {exc}", file=sys.stderr)
        return 1
    sections = {
        "This build beside a pass-through": table(rounds),
        "Two workers": workers_table(rounds, why_not),
        "Conversations in SQLite": store_table(rounds),
        "CPU used, of the server / of mock and client": load_table(rounds),
    }
    for title, text in sections.items():
        if text:
            print(f"\n## {title}\n\n{text}")
    return 0
