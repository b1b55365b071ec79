"""The rehearsed outage."""

from pathlib import Path

from tests.drills.outage import CALLERS, both, table


async def test_an_outage_costs_callers_no_time_once_it_is_known(tmp_path: Path) -> None:
    """With a breaker most callers hear at once that the upstream is down, and when to come back;
    without one each waits for every clock, every time."""
    drills = await both(tmp_path)
    print("\n".join(table(drills)))
    without, broken = drills.values()

    assert {call.status for call in without.calls} == {504}
    assert without.attempts == 2 * CALLERS
    told = [call for call in broken.calls if call.status == 503]
    assert len(told) > CALLERS / 2
    assert all(call.attempts == 0 and call.retry_after == 1 for call in told)
    assert broken.attempts < without.attempts / 2
    assert broken.median < without.median / 3
    assert broken.recovered < 20
