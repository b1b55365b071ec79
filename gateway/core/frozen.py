"""Records that are never changed once they are made, as the type checker holds the code to it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar, dataclass_transform, overload

_T = TypeVar("_T")


@overload
def frozen(record: type[_T]) -> type[_T]: ...


@overload
def frozen(*, kw_only: bool) -> Callable[[type[_T]], type[_T]]: ...


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def frozen(
    record: type[_T] | None = None, *, kw_only: bool = False
) -> type[_T] | Callable[[type[_T]], type[_T]]:
    """A dataclass for what is made once per turn or more: it is frozen for mypy alone.

    `dataclass(frozen=True)` sets each field by a call of `object.__setattr__`, and a turn has some
    fifty of them: a tenth of what decoding its request costs.
    """
    made = dataclass(slots=True, unsafe_hash=True, kw_only=kw_only)
    return made if record is None else made(record)
