"""What the processes of `test_limits_processes.py` do; each command prints JSON when it is done."""

import dis
import json
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from types import FrameType
from typing import Any

import gateway.limits
from gateway.config.values import Rate
from gateway.core.errors import GatewayError
from gateway.limits.shared import SharedLimiter
from gateway.limits.zone import Zone

WORKERS = 4

# The few tokens that it gives back are those of a test that takes a year.
SLOW = Rate(100, 1e9)
NEIGHBOURS = [f"key:{number}" for number in range(16)]

TRACED = os.path.dirname(str(gateway.limits.__file__))


def burst(path: str, worker: str, capacity: str, period: str, takes: str) -> dict[str, float]:
    """So many takes of the same bucket, all at once, when all processes are there."""
    rate = Rate(int(capacity), float(period))
    with closing(Zone.open(Path(path), worker=int(worker))) as zone:
        limiter = SharedLimiter(zone)
        together()
        times = [time.monotonic()]
        allowed = 0
        for _ in range(int(takes)):
            times[1:] = [time.monotonic()]
            allowed += limiter.take("key:a", rate, times[-1]).allowed
    return {"allowed": allowed, "first": times[0], "last": times[-1]}


def turns(path: str, worker: str, log: str, limit: str, rounds: str) -> dict[str, int]:
    """Turns one after the other, each of which tells when it has begun and before it ends."""
    refused = 0
    with closing(Zone.open(Path(path), worker=int(worker))) as zone:
        limiter, told = SharedLimiter(zone), appending(log)
        together()
        for _ in range(int(rounds)):
            refused += not turn(limiter, int(limit), told, int(worker))
    return {"refused": refused}


def together() -> None:
    print("ready", flush=True)
    sys.stdin.readline()


def appending(log: str) -> int:
    return os.open(log, os.O_WRONLY | os.O_APPEND)


def turn(limiter: SharedLimiter, limit: int, told: int, worker: int) -> bool:
    try:
        with limiter.slot("key:a", limit):
            os.write(told, b"+%d\n" % worker)
            os.sched_yield()
            os.write(told, b"-%d\n" % worker)
    except GatewayError:
        return False
    return True


def fork(work: Callable[[], object]) -> int:
    """Another process, which does that and ends."""
    process = os.fork()
    if process:
        return process
    try:
        work()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def dying_at(step: int, work: Callable[[], None]) -> None:
    """Do it, and be killed before the given one of the limiter's instructions that call or store
    something: the others change nothing that another process could see."""
    left = step

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal left
        if not frame.f_code.co_filename.startswith(TRACED):
            return None
        frame.f_trace_opcodes = True
        instruction = dis.opname[frame.f_code.co_code[frame.f_lasti]]
        if event == "opcode" and instruction.startswith(("CALL", "STORE_SUBSCR", "STORE_SLICE")):
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    sys.settrace(trace)
    work()
    sys.settrace(None)


def take_one(limiter: SharedLimiter, subject: str) -> None:
    limiter.take(subject, SLOW, 0.0)


def hold_one(limiter: SharedLimiter, subject: str) -> None:
    with limiter.slot(subject, 4):
        pass


ACTIONS = {"take": take_one, "slot": hold_one}


def everywhere(folder: str, action: str, subject: str, known: str) -> list[dict[str, Any]]:
    """One action of a worker, killed at each of its steps in turn: what others see.

    There is one group of records. Of `known` neighbours in it, the first has taken one token and
    holds two slots, the second has taken two tokens, and so on.
    """
    seen: list[dict[str, Any]] = []
    while not seen or seen[-1]["killed"]:
        path = Path(folder) / f"zone{len(seen)}"
        Zone.create(path, workers=2, subjects=len(NEIGHBOURS)).close()
        with closing(Zone.open(path, worker=1)) as zone:
            limiter = SharedLimiter(zone)
            for number, neighbour in enumerate(NEIGHBOURS[: int(known)]):
                for _ in range(number + 1):
                    limiter.take(neighbour, SLOW, 0.0)
            with limiter.slot(NEIGHBOURS[0], 4), limiter.slot(NEIGHBOURS[0], 4):
                killed = one(path, len(seen) + 1, ACTIONS[action], subject)
                seen.append({"killed": killed, **after(zone, limiter, subject)})
        path.unlink()
    return seen


def one(path: Path, step: int, action: Callable[[SharedLimiter, str], None], subject: str) -> bool:
    """Whether worker 0 was killed in it."""

    def work() -> None:
        with closing(Zone.open(path, worker=0)) as zone:
            limiter = SharedLimiter(zone)
            dying_at(step, lambda: action(limiter, subject))

    _, status = os.waitpid(fork(work), 0)
    return {0: False, -signal.SIGKILL: True}[os.waitstatus_to_exitcode(status)]


def after(zone: Zone, limiter: SharedLimiter, subject: str) -> dict[str, Any]:
    """What is left of it, and that it goes on."""
    left = {each: limiter.look(each, SLOW, 0.0).remaining for each in (*NEIGHBOURS, subject)}
    held = limiter.held(subject)
    zone.release(0)
    return {
        "left": left,
        "held": held,
        "held_after": limiter.held(subject),
        "next": limiter.take(subject, SLOW, 0.0).remaining,
        "slots": more(limiter, subject),
        "busy": limiter.busy,
    }


def more(limiter: SharedLimiter, subject: str) -> int:
    """How many of 4 slots are to be had."""
    with ExitStack() as slots:
        for had in range(4):
            try:
                slots.enter_context(limiter.slot(subject, 4))
            except GatewayError:
                return had
        return 4


def under_load(path: str, log: str, limit: str, kills: str) -> dict[str, float]:
    """Four workers that take tokens and slots, of which one after the other is killed at random
    and replaced. The log has what they had, and who died, before that is taken back."""
    rate, told = Rate(1000, 10.0), appending(log)

    def take(limiter: SharedLimiter) -> None:
        if limiter.take("key:a", rate, time.monotonic()).allowed:
            os.write(told, b"t\n")

    def work(worker: int) -> None:
        with closing(Zone.open(Path(path), worker=worker)) as zone:
            limiter = SharedLimiter(zone)
            while True:
                take(limiter)
                turn(limiter, int(limit), told, worker)

    def started(worker: int) -> int:
        return fork(lambda: work(worker))

    def ended(worker: int, process: int) -> None:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        os.write(told, b"k%d\n" % worker)
        zone.release(worker)

    with closing(Zone.create(Path(path), workers=WORKERS, subjects=100)) as zone:
        looks = SharedLimiter(zone)
        begun = time.monotonic()
        while looks.take("key:a", rate, begun).allowed:
            pass
        running = [started(worker) for worker in range(WORKERS)]
        chance = random.Random(7)
        for _ in range(int(kills)):
            time.sleep(chance.uniform(0, 0.02))
            worker = chance.randrange(WORKERS)
            ended(worker, running[worker])
            take(looks)
            running[worker] = started(worker)
        for worker, process in enumerate(running):
            ended(worker, process)
        now = time.monotonic()
        return {
            "refilled": (now - begun) * rate.capacity / rate.period,
            "remaining": looks.look("key:a", rate, now).remaining,
            "held": looks.held("key:a"),
            "busy": looks.busy,
        }


COMMANDS: dict[str, Callable[..., object]] = {
    each.__name__: each for each in (burst, turns, everywhere, under_load)
}

if __name__ == "__main__":
    # Nothing here may wait for a lock for ever.
    signal.alarm(100)
    print(json.dumps(COMMANDS[sys.argv[1]](*sys.argv[2:])))
