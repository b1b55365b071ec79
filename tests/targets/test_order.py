"""The order of targets: as the file has them, or by weight, and then steady for a conversation."""

from collections import Counter
from collections.abc import Sequence

import pytest

from gateway.config.routes import RouteTarget
from gateway.targets.order import in_order
from tests.targets.making import target

CONVERSATIONS = [f"conversation {number}" for number in range(10_000)]


def weighted(*weights: int) -> list[RouteTarget]:
    return [target(f"main/{number}", weight=weight) for number, weight in enumerate(weights)]


def firsts(targets: Sequence[RouteTarget]) -> list[str]:
    """Who is asked first, by conversation."""
    return [in_order(targets, conversation)[0].name for conversation in CONVERSATIONS]


def test_without_weights_it_is_the_file_s() -> None:
    """For every conversation."""
    targets = [target(f"main/{number}") for number in range(5)]

    for conversation in CONVERSATIONS[:100]:
        assert list(in_order(targets, conversation)) == targets


@pytest.mark.parametrize(
    "weights", [(1, 1), (9, 1), (1, 1, 1), (5, 3, 2), (90, 9, 1), (1000, 1000), (7,)]
)
def test_each_is_first_as_often_as_its_weight_says(weights: tuple[int, ...]) -> None:
    """Within four standard deviations: the conversations are the same in every run."""
    counts = Counter(firsts(weighted(*weights)))

    for number, weight in enumerate(weights):
        share = weight / sum(weights)
        expected = share * len(CONVERSATIONS)
        deviation = (expected * (1 - share)) ** 0.5
        assert abs(counts[f"main/{number}"] - expected) <= 4 * deviation


def test_all_of_them_are_in_it() -> None:
    """Once each: where the first fails, there is another."""
    targets = weighted(3, 2, 1)

    for conversation in CONVERSATIONS[:100]:
        assert sorted(each.name for each in in_order(targets, conversation)) == [
            "main/0",
            "main/1",
            "main/2",
        ]


def test_who_stands_in_is_spread_by_weight_too() -> None:
    """Of the conversations of one that is down, the others have their shares."""
    orders = [in_order(weighted(4, 2, 1), conversation) for conversation in CONVERSATIONS]
    seconds = Counter(order[1].name for order in orders if order[0].name == "main/0")

    assert seconds["main/1"] / seconds.total() == pytest.approx(2 / 3, abs=0.03)


def test_a_conversation_meets_the_same_target() -> None:
    """In whatever order the file has them."""
    targets = weighted(1, 2, 3)

    assert firsts(targets) == firsts(targets[::-1])


def test_a_new_target_takes_its_share_and_nothing_else_moves() -> None:
    """Those that move, move to it."""
    before, after = firsts(weighted(1, 2, 3)), firsts(weighted(1, 2, 3, 2))
    moved = [new for old, new in zip(before, after, strict=True) if old != new]

    assert set(moved) == {"main/3"}
    assert len(moved) / len(before) == pytest.approx(2 / 8, abs=0.02)


def test_a_higher_weight_only_gains() -> None:
    """As when a new version of a model is let in step by step."""
    before, after = firsts(weighted(9, 1)), firsts(weighted(9, 3))
    moved = {(old, new) for old, new in zip(before, after, strict=True) if old != new}

    assert moved == {("main/0", "main/1")}


def test_the_same_target_twice_has_both_shares() -> None:
    """With other params, say."""
    twice = [target("main/a", weight=1), target("main/a", weight=1), target("main/b", weight=2)]
    share = firsts(twice).count("main/a") / len(CONVERSATIONS)

    assert 0.48 < share < 0.52
