"""What workers say of themselves, as one."""

from typing import Any

from gateway.workers.merging import merged_request, merged_status, merged_tasks


def status(**parts: Any) -> dict[str, Any]:
    """What one worker says, with these parts."""
    return {
        "config": {"digest": "a", "read": "2026-01-01T00:00:00.000Z", "number": 1},
        "agents": [],
        "targets": [],
        "upstreams": [],
        "requests": {"open": 0, "oldest": []},
        "limits": {"buckets": 0, "with_open_turns": 0},
        "recent_errors": [],
        **parts,
    }


def merged(said: Any) -> Any:
    return merged_status(said)


def target(breaker: str, **more: Any) -> dict[str, Any]:
    said = {"target": "llm/m", "upstream": "llm", "breaker": breaker, "opened": 1}
    return {**said, "streams": 2, "max_streams": 5, "queue": 1, **more}


def test_targets() -> None:
    """The worst breaker counts, and what is open is open together."""
    said = {
        1: status(targets=[target("closed")]),
        2: status(targets=[target("open", half_open_in=3.0)]),
        3: status(targets=[target("open", half_open_in=1.5)]),
    }

    assert merged(said)["targets"] == [
        {
            "target": "llm/m",
            "upstream": "llm",
            "breaker": "open",
            "breakers": {"closed": 1, "open": 2},
            "opened": 3,
            "half_open_in": 1.5,
            "streams": 6,
            "max_streams": 15,
            "queue": 3,
        }
    ]


def test_a_target_without_a_limit() -> None:
    said = {1: status(targets=[target("half_open", max_streams=None)]), 2: status()}
    (together,) = merged(said)["targets"]

    assert (together["breaker"], together["max_streams"]) == ("half_open", None)


def test_agents() -> None:
    """Turns and outcomes add up; one that a reload has brought may not be in all of them yet."""
    agent = {"id": 1, "name": "Support", "open_turns": 1, "turns": 3, "failed": 1}
    said = {
        1: status(agents=[{**agent, "outcomes": {"complete": 2, "internal": 1}}]),
        2: status(agents=[{**agent, "outcomes": {"complete": 3}}, {**agent, "id": 2}]),
    }
    first, second = merged(said)["agents"]

    assert first == {
        **agent,
        "open_turns": 2,
        "turns": 6,
        "failed": 2,
        "outcomes": {"complete": 5, "internal": 1},
    }
    assert second["id"] == 2


def test_upstreams() -> None:
    """One that is down for one of them is down; without health checks nobody knows."""
    up = {"upstream": "llm", "healthy": True, "connections": {"active": 1, "idle": 2}}
    said = {
        1: status(upstreams=[up, {"upstream": "echo", "healthy": None}]),
        2: status(upstreams=[{**up, "healthy": False}, {"upstream": "echo", "healthy": None}]),
    }

    assert merged(said)["upstreams"] == [
        {"upstream": "llm", "healthy": False, "connections": {"active": 2, "idle": 4}},
        {"upstream": "echo", "healthy": None},
    ]


def test_requests_and_errors() -> None:
    """The oldest, and the last errors, of all of them, each with its worker."""
    said = {
        n: status(
            requests={"open": 2, "oldest": [{"age": 5.0 * n}, {"age": 1.0}]},
            recent_errors=[{"at": f"2026-01-0{n}"}] * 80,
        )
        for n in (1, 2)
    }
    together = merged(said)

    assert together["requests"]["open"] == 4
    assert [(e["worker"], e["age"]) for e in together["requests"]["oldest"]] == [
        (2, 10.0),
        (1, 5.0),
        (1, 1.0),
        (2, 1.0),
    ]
    assert [error["worker"] for error in together["recent_errors"]] == [2] * 80 + [1] * 20


def test_limits_are_shared() -> None:
    """They are not added up: each sees those of all."""
    said = {n: status(limits={"buckets": 4, "with_open_turns": n}) for n in (1, 2)}

    assert merged(said)["limits"] == {"buckets": 4, "with_open_turns": 2}


def test_configs_that_differ() -> None:
    """For a moment, or where one of them could not take it up."""
    newer = {"digest": "b", "read": "2026-02-01T00:00:00.000Z", "number": 2}
    same = {1: status(), 2: status()}
    differing = {1: status(config=newer), 2: status()}

    assert merged(same)["config"]["in_all_workers"] is True
    assert merged(differing)["config"] == {**newer, "in_all_workers": False}


def test_nobody_answers() -> None:
    """There is still a document for those who read one."""
    together = merged({})

    assert (together["agents"], together["requests"]) == ([], {"open": 0, "oldest": []})


def test_one_request() -> None:
    """Wherever it is known: a client may repeat an id."""
    said: Any = {
        1: {"request_id": "r", "open": [{"age": 1.0}], "failed": []},
        3: {"request_id": "r", "open": [], "failed": [{"at": "2026"}]},
    }

    assert merged_request({}) is None
    assert merged_request(said) == {
        "request_id": "r",
        "open": [{"worker": 1, "age": 1.0}],
        "failed": [{"worker": 3, "at": "2026"}],
    }


def test_tasks() -> None:
    said: Any = {1: {"total": 2, "groups": []}, 2: {"total": 3, "groups": []}}
    together: Any = merged_tasks(said)

    assert together["total"] == 5
    assert [each["worker"] for each in together["workers"]] == [1, 2]
