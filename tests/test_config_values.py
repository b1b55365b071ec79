"""The small written forms."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.values import Rate, duration, moment, rate, sendable, size


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("500ms", 0.5), ("1.5s", 1.5), ("15m", 900), ("12h", 43200), ("90d", 7776000)],
)
def test_durations(written: str, seconds: float) -> None:
    """A number and its unit, in seconds."""
    assert duration(written) == seconds


@pytest.mark.parametrize(
    "written",
    [
        "",
        "5",
        "0s",
        "0.0ms",
        "-1s",
        "1 s",
        "1s ",
        "1s\n",
        "1e3s",
        "1w",
        ".5s",
        "9" * 400 + "s",
        "١s",
        5,
    ],
)
def test_what_is_no_duration(written: object) -> None:
    """A number without a unit means nothing, and none is endless."""
    with pytest.raises(ValueError, match="a duration such as"):
        duration(written)


@pytest.mark.parametrize(
    ("written", "octets"), [("1B", 1), ("64KiB", 65536), ("1MiB", 1 << 20), ("2GiB", 2 << 30)]
)
def test_sizes(written: str, octets: int) -> None:
    """A whole number and its unit, in bytes."""
    assert size(written) == octets


@pytest.mark.parametrize(
    "written", ["", "1", "0B", "1MB", "1.5MiB", "1kib", "9" * 5000 + "B", 1024]
)
def test_what_is_no_size(written: object) -> None:
    """Powers of ten are refused, for half of their readers take them for powers of two."""
    with pytest.raises(ValueError, match="a size such as"):
        size(written)


@pytest.mark.parametrize(
    ("written", "expected"), [("100/10s", Rate(100, 10.0)), ("1/0.5s", Rate(1, 0.5))]
)
def test_rates(written: str, expected: Rate) -> None:
    """So many in so much time."""
    assert rate(written) == expected


@pytest.mark.parametrize("written", ["100", "0/1s", "1.5/1s", "100/0s", "100/s", "100 / 10s", 100])
def test_what_is_no_rate(written: object) -> None:
    """Neither nothing at all nor no time at all is a rate."""
    with pytest.raises(ValueError, match=r"a (rate|duration) such as"):
        rate(written)


@pytest.mark.parametrize("written", ["soon", "2027-01-31", "2027-01-31T00:00:00", 1767225600])
def test_what_is_no_moment(written: object) -> None:
    """Without an offset nobody knows when it is."""
    with pytest.raises(ValueError, match="with an offset"):
        moment(written)


@given(st.text() | st.integers() | st.none())
def test_any_text(written: object) -> None:
    """Every reader answers with a value or a ValueError, whatever it reads."""
    for read in (duration, size, rate, moment):
        try:
            value = read(written)
        except ValueError:
            continue
        assert value


def test_what_json_cannot_say() -> None:
    """TOML writes greater numbers than JSON can carry."""
    with pytest.raises(ValueError, match="64 bits"):
        sendable({"seed": [2**70]})
