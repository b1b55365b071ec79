"""`python -m tests.faults`: what the clients of each dialect are told of each fault."""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import uvloop

from tests.faults.fault import Fault
from tests.faults.judging import CLIENTS
from tests.faults.table import FAULTS
from tests.faults.trying import Cell, trial

_LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "uvloop": uvloop.new_event_loop,
    "asyncio": asyncio.new_event_loop,
}


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--only", default="", metavar="TEXT", help="faults whose names have it")
    parser.add_argument("--loop", choices=_LOOPS, default="uvloop", help="the event loop")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 1 if a client was told something else than the table has, or something is left."""
    args = build_parser().parse_args(argv)
    faults = {name: fault for name, fault in FAULTS.items() if args.only in name}
    with asyncio.Runner(loop_factory=_LOOPS[args.loop]) as runner:
        wrong = runner.run(_print(faults))
    print(f"\n{len(faults)} faults, {len(faults) * len(CLIENTS)} answers, {len(wrong)} wrong")
    print("\n".join(wrong), file=sys.stderr)
    return 1 if wrong else 0


async def _print(faults: dict[str, Fault]) -> list[str]:
    """A line for each fault. What is wrong, in words."""
    wrong: list[str] = []
    print(f"| fault | {' | '.join(map(str, CLIENTS))} |\n|---|{'---|' * len(CLIENTS)}")
    with tempfile.TemporaryDirectory() as folder:
        async with trial(faults.values(), Path(folder)) as trials:
            for name, fault in faults.items():
                cells = await trials.of(fault)
                left = await trials.left()
                print(f"| {name} | {' | '.join(map(_told, cells))} |", flush=True)
                wrong += [f"{name}, {cell.client}: {cell.wrong}" for cell in cells if cell.wrong]
                wrong += [f"{name}: {number} {what} left" for what, number in left.items()]
    return wrong


def _told(cell: Cell) -> str:
    mark = " **wrong**" if cell.wrong else ""
    return f"{cell.ended}, {cell.seconds * 1000:.0f} ms{mark}"


if __name__ == "__main__":
    sys.exit(main())
