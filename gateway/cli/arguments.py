"""What several commands take in one form: readers for argparse, which shows what they raise."""

import argparse
import re


def agent_id(value: str) -> int:
    """An agent's id."""
    from gateway.config.values import MAX_ID

    if not re.fullmatch("[0-9]{1,16}", value) or not 1 <= int(value) <= MAX_ID:
        raise argparse.ArgumentTypeError("an agent's id is a whole number from 1")
    return int(value)


def seconds(value: str) -> float:
    """Seconds, rounded to whole ones; at most a century."""
    from gateway.config.values import duration

    try:
        found = duration(value)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(str(exc)) from None
    assert isinstance(found, float)
    if not 1 <= found <= 36500 * 86400:
        raise argparse.ArgumentTypeError("from 1s to 36500d")
    return float(round(found))
