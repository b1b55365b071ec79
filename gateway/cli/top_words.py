"""Rates and times as people read them."""

# The largest first; the last is for whatever is less.
_TIMES = ((86400.0, "d", 3600.0, "h"), (3600.0, "h", 60.0, "m"), (60.0, "m", 1.0, "s"))


def rate_of(rate: float) -> str:
    if rate >= 10_000:
        return f"{rate / 1000:.0f}k"
    return f"{rate:.0f}" if rate >= 100 else f"{rate:.1f}"


def time_of(seconds: float) -> str:
    """In the two largest units, or as milliseconds."""
    for size, unit, smaller, smaller_unit in _TIMES:
        if seconds >= size:
            whole, rest = divmod(int(seconds), int(size))
            return f"{whole}{unit} {rest // int(smaller)}{smaller_unit}"
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"
