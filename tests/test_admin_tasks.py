"""Where the event loop's tasks wait, and that nothing of what they hold is told."""

import asyncio
from collections.abc import AsyncIterator

from gateway.admin.tasks import described
from gateway.core.events import Json
from gateway.wire import json


async def waits(secret: str, gate: asyncio.Event) -> str:
    await gate.wait()
    return secret


async def asks(gate: asyncio.Event) -> None:
    await waits("canary", gate)


async def listens(gate: asyncio.Event) -> None:
    async def words() -> AsyncIterator[str]:
        await gate.wait()
        yield "canary"

    async for _ in words():
        pass


def group(said: dict[str, Json], coroutine: str) -> dict[str, Json]:
    groups = [json.mapping(one) for one in json.array(said["groups"])]
    (found,) = (one for one in groups if one["coroutine"] == coroutine)
    return found


async def test_tasks_by_where_they_wait() -> None:
    """Who awaits whom, from the task's own coroutine down; those that are alike are one group, of
    which the oldest are named."""
    gate = asyncio.Event()
    tasks = [asyncio.create_task(asks(gate)) for _ in range(12)]
    tasks += [asyncio.create_task(listens(gate), name="the listener")]
    await asyncio.sleep(0)
    said = await asyncio.to_thread(described, asyncio.all_tasks())
    gate.set()
    await asyncio.gather(*tasks)

    alike = group(said, "asks")
    assert said["total"] == 14  # and this test's own
    assert alike["count"] == 12
    assert alike["names"] == [task.get_name() for task in tasks[:10]]
    places = [json.text(place).split()[-1] for place in json.array(alike["stack"])]
    assert places == ["asks", "waits", "Event.wait"]
    assert json.text(alike["at"]).startswith("asyncio.locks:")
    assert group(said, "listens")["names"] == ["the listener"]
    assert "canary" not in json.dumps_indented(said)
    assert __file__ not in json.dumps_indented(said)


async def test_a_task_that_has_ended() -> None:
    """It may end while it is looked at."""
    task = asyncio.create_task(asyncio.sleep(0))
    await task

    assert group(described([task]), "sleep")["stack"] == []
