"""One zone, several processes: together they give what one limiter would, whoever is killed."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from gateway.config.values import Rate
from gateway.limits.zone import Zone
from tests.limits_children import NEIGHBOURS, WORKERS

CHILD = [sys.executable, "-m", "tests.limits_children"]
ROOT = Path(__file__).parent.parent

KNOWN, NEW = NEIGHBOURS[0], "key:new"


@pytest.fixture
def zone(tmp_path: Path) -> Path:
    """Where the zone is."""
    path = tmp_path / "zone"
    Zone.create(path, workers=WORKERS).close()
    return path


def child(*command: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*CHILD, *map(str, command)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


def outcome(process: subprocess.Popen[str]) -> Any:
    out, _ = process.communicate()
    assert process.returncode == 0
    return json.loads(out)


def at_once(*commands: tuple[object, ...]) -> list[Any]:
    """What each of these says, begun when all of their processes are there."""
    processes = [child(*command) for command in commands]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    return [outcome(process) for process in processes]


def most_at_once(log: Path) -> int:
    """How many turns were open at the same time, by what they tell themselves: that a turn has
    begun after it has its slot, and that it ends before it has given that back."""
    open_turns: Counter[str] = Counter()
    most = 0
    for line in log.read_text().splitlines():
        event, worker = line[0], line[1:]
        if event == "k":
            open_turns[worker] = 0
        else:
            open_turns[worker] += {"+": 1, "-": -1, "t": 0}[event]
        most = max(most, open_turns.total())
    return most


@pytest.mark.parametrize("rate", [Rate(100, 1000.0), Rate(100, 5.0), Rate(5000, 1e6)])
def test_a_burst_over_processes_gets_what_the_bucket_has(zone: Path, rate: Rate) -> None:
    """Four processes and 10,000 takes: its capacity and what it refills meanwhile. A bucket that
    refills quickly loses what it gets while it is full, so that may be less, never more."""
    said = at_once(*(("burst", zone, worker, *rate, 2500) for worker in range(WORKERS)))

    elapsed = max(each["last"] for each in said) - min(each["first"] for each in said)
    allowed, refill = sum(each["allowed"] for each in said), elapsed * rate.capacity / rate.period
    assert rate.capacity <= allowed <= rate.capacity + refill + 1
    if rate.period > 5.0:
        assert allowed >= rate.capacity + refill - 1


def test_turns_over_processes_are_never_more_than_the_slots(zone: Path, tmp_path: Path) -> None:
    """Four processes that want one each, and three to be had."""
    log = tmp_path / "log"
    log.touch()

    said = at_once(*(("turns", zone, worker, log, 3, 1500) for worker in range(WORKERS)))

    assert 2 <= most_at_once(log) <= 3
    begun = log.read_text().count("+")
    assert begun + sum(each["refused"] for each in said) == WORKERS * 1500


@pytest.mark.parametrize("known", [8, 16], ids=["room", "no room"])
@pytest.mark.parametrize("subject", [KNOWN, NEW])
def test_a_take_is_done_or_not_wherever_it_is_killed(
    tmp_path: Path, subject: str, known: int
) -> None:
    """Before each thing that the limiter does, also with the lock held: the bucket is what it was,
    or one token less; nobody else's has changed; and others go on."""
    seen = outcome(child("everywhere", tmp_path, "take", subject, known))

    before = 99 if subject == KNOWN else 100
    assert len(seen) > 15
    assert [each["killed"] for each in seen] == [True] * (len(seen) - 1) + [False]
    left = [each["left"][subject] for each in seen]
    assert set(left) == {before, before - 1}
    assert left == sorted(left, reverse=True)
    assert [each["next"] for each in seen] == [each - 1 for each in left]
    check_neighbours(seen, subject, known)


@pytest.mark.parametrize("subject", [KNOWN, NEW])
def test_a_slot_is_held_or_not_wherever_its_holder_is_killed(tmp_path: Path, subject: str) -> None:
    """Before each thing that is done: at most that one slot is missing, and it comes back."""
    seen = outcome(child("everywhere", tmp_path, "slot", subject, 16))

    held = 2 if subject == KNOWN else 0
    assert len(seen) > 15
    assert {each["held"] for each in seen} == {held, held + 1}
    assert {each["held_after"] for each in seen} == {held}
    assert {each["slots"] for each in seen} == {4 - held}
    check_neighbours(seen, subject, 16)


def check_neighbours(seen: list[dict[str, Any]], subject: str, known: int) -> None:
    """Their buckets are as they were, but for the fullest one without a slot, which makes room
    for a newcomer where there is none: that is as it was, or full."""
    forgotten = NEIGHBOURS[1] if subject == NEW and known == len(NEIGHBOURS) else None
    for number, neighbour in enumerate(NEIGHBOURS):
        left = {each["left"][neighbour] for each in seen}
        was = 99 - number if number < known else 100
        if neighbour == forgotten:
            assert left == {was, 100}
        elif neighbour != subject:
            assert left == {was}
    assert {each["busy"] for each in seen} == {1}


def test_workers_that_are_killed_under_load(tmp_path: Path) -> None:
    """A hundred, one after the other, at any moment: the others go on, tokens are given once, a
    dead worker's slots come back and never too early, and each kill costs a token at most."""
    log, kills = tmp_path / "log", 100
    log.touch()

    said = outcome(child("under_load", tmp_path / "zone", log, 3, kills))

    taken = sum(line.startswith("t") for line in log.read_text().splitlines())
    lost = said["refilled"] - said["remaining"] - taken
    assert -1 <= lost <= kills + WORKERS + 1
    assert taken > kills
    assert most_at_once(log) == 3
    assert said["held"] == said["busy"] == 0
