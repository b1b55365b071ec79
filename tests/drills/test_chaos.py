"""Everything at once: in short here, and in full with `--full`."""

from pathlib import Path

import pytest

from tests.drills.chaos import Chaos


@pytest.mark.timeout(300)
async def test_nothing_comes_of_chaos(tmp_path: Path, full: bool) -> None:
    """No stream hangs or is malformed, no request is lost, nothing is held at the end."""
    seconds, streams = (120.0, 500) if full else (8.0, 60)
    outcome = await Chaos(tmp_path, seconds, streams).run()
    print("\n".join(outcome.lines()))

    assert not outcome.wrong
    assert outcome.counts["complete"] > streams
    assert outcome.counts["left"] > streams / 2
    assert outcome.counts["broken off"]
    assert not outcome.left_over
    assert outcome.exit_code == 0
    assert outcome.growth < 1.1
