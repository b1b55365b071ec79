"""`traceparent` and `tracestate`: what is right goes on as it came, anything else was not sent."""

import pytest
from multidict import CIMultiDict

from gateway.core.codec import HEADER_VALUE
from gateway.observe.trace_context import trace_context

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"


def passed_on(*parents: str, states: tuple[str, ...] = ()) -> dict[str, str]:
    """The headers that come out for those that come in; none if there is no trace."""
    fields = CIMultiDict([("Traceparent", parent) for parent in parents])
    fields.extend([("Tracestate", state) for state in states])
    context = trace_context(fields)
    return dict(context.headers) if context is not None else {}


@pytest.mark.parametrize("flags", ["00", "01", "02", "03", "ff"])
def test_what_is_right_goes_on_as_it_came(flags: str) -> None:
    """With flags that only a later version knows, too."""
    parent = f"00-{TRACE}-{SPAN}-{flags}"

    assert passed_on(parent) == {"traceparent": parent}
    assert passed_on(f" {parent}\t") == {"traceparent": parent}


@pytest.mark.parametrize(
    "parent",
    [
        "",
        "00",
        TRACE,
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}-001",
        f"00-{TRACE}-{SPAN}-01-",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE}-{SPAN}-0x",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN.upper()}-01",
        f"00-{TRACE[1:]}-{SPAN}-01",
        f"00-{TRACE}0-{SPAN}-01",
        f"00-{TRACE}-{SPAN[1:]}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"ff-{TRACE}-{SPAN}-01",
        f"0-{TRACE}-{SPAN}-01",
        f"00_{TRACE}_{SPAN}_01",
        f"00-{TRACE}-{SPAN}-01\n",
        f"00-{TRACE}-{SPAN}-01, 00-{TRACE}-{SPAN}-01",
        f"00-{TRACE[:-1]}\u0661-{SPAN}-01",
        f"cc-{TRACE}-{SPAN}-01.more",
        f"cc-{TRACE}-{SPAN}-01-m\u00f6re",
    ],
)
def test_what_is_not_right_was_not_sent(parent: str) -> None:
    """To the last character; a state alone says nothing."""
    assert passed_on(parent, states=("a=1",)) == {}


def test_of_a_later_version_what_this_one_knows() -> None:
    """What is behind it, and the other flags, may mean anything."""
    for more in ("", "-", "-what-comes=next"):
        assert passed_on(f"cc-{TRACE}-{SPAN}-ff{more}") == {"traceparent": PARENT}
        assert passed_on(f"01-{TRACE}-{SPAN}-02{more}") == {"traceparent": f"{PARENT[:-1]}0"}


def test_one_parent_only() -> None:
    """Two say nothing, also if they say the same."""
    assert passed_on(PARENT, PARENT) == {}
    assert passed_on(states=("a=1",)) == {}


@pytest.mark.parametrize(
    ("states", "joined"),
    [
        (("a=1",), "a=1"),
        (("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE",), "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"),
        (("a=1 , b=2\t,",), "a=1,b=2"),
        (("a=1", "b=2"), "a=1,b=2"),
        (("a=1,,b=2",), "a=1,b=2"),
        (("0tenant@sys*tem/x_y-z=~ !", ""), "0tenant@sys*tem/x_y-z=~ !"),
        (("a= leading",), "a= leading"),
        ((f"a={'v' * 256}",), f"a={'v' * 256}"),
        ((",".join(f"k{n}={n}" for n in range(32)),), ",".join(f"k{n}={n}" for n in range(32))),
    ],
)
def test_states_go_on(states: tuple[str, ...], joined: str) -> None:
    """In their order; of several headers, one."""
    assert passed_on(PARENT, states=states) == {"traceparent": PARENT, "tracestate": joined}
    assert HEADER_VALUE.fullmatch(joined)


@pytest.mark.parametrize(
    "state",
    [
        "",
        " , ",
        "a",
        "a=",
        "=1",
        "A=1",
        "a b=1",
        "a=1=2",
        "a=1,b",
        "a=1,a=2",
        "a=\u00f6",
        "a=1\n",
        "a=\x7f",
        "a=1\tb",
        f"a={'v' * 257}",
        f"{'k' * 257}=1",
        ",".join(f"k{n}=" for n in range(33)),
        ",".join(f"k{n}={n}" for n in range(33)),
        ",".join(f"k{n}={'v' * 200}" for n in range(3)),
    ],
)
def test_a_state_that_is_not_right_is_dropped(state: str) -> None:
    """The parent goes on without it."""
    assert passed_on(PARENT, states=(state,)) == {"traceparent": PARENT}
