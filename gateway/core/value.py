"""Objects that are made for each request and never changed."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar, dataclass_transform

_T = TypeVar("_T")


@dataclass_transform(frozen_default=True)
def value(*, kw_only: bool = False) -> Callable[[type[_T]], type[_T]]:
    """A dataclass with slots, which mypy takes for frozen. One that is frozen at run time sets each
    attribute past a guard, and takes four times as long to make; it is for keys, which are hashed.
    """
    return dataclass(slots=True, kw_only=kw_only)
