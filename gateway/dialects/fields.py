"""Reading a client's request body, field by field; every complaint at once.

Unknown fields are ignored. A field that is wrong is named with what is allowed, for this text is
what a developer on the other side works from.
"""

import re
from collections.abc import Sequence

from msgspec import Struct

from gateway.core.errors import ErrorCode, GatewayError
from gateway.core.events import Json
from gateway.wire import json

USER_ID = re.compile(r"[a-zA-Z0-9._-]{1,128}", re.ASCII)

# Ids are random integers below 2^53: what JavaScript can hold. 16 digits reach beyond that.
_NUMBER = re.compile(r"[0-9]{1,16}", re.ASCII)


class Fields(Struct):
    """The body of one request. Read what is needed, then `check`."""

    body: dict[str, Json]
    problems: dict[str, str] = {}

    def has(self, name: str) -> bool:
        """Whether it says something: null says nothing."""
        return self.body.get(name) is not None

    def agent(self, name: str) -> str:
        """A required agent: a positive integer, or the text that names one."""
        value = self.body.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return str(value)
        if isinstance(value, str) and 0 < len(value) <= 200:
            return value
        return self._wrong(name, "is required and must be a positive integer")

    def message(self, name: str, longest: int | None = None) -> str:
        """A required text with something in it."""
        value = self.body.get(name)
        if type(value) is not str or not value.strip():
            return self._wrong(name, "is required and must be a non-empty string")
        if longest is not None and len(value) > longest:
            return self._wrong(name, f"must be at most {longest} characters")
        return value

    def conversation(self, name: str) -> str | None:
        """An optional conversation id: an integer, or one written as a string."""
        value = self.body.get(name)
        if value is None:
            return None
        number = str(value) if not isinstance(value, bool) else ""
        if not isinstance(value, (int, str)) or not _NUMBER.fullmatch(number) or not int(number):
            return self._wrong(name, "must be a positive integer") or None
        return str(int(number))

    def user(self, name: str) -> str | None:
        """An optional id of the client's end user."""
        value = self.body.get(name)
        if value is None:
            return None
        if not isinstance(value, str) or not USER_ID.fullmatch(value):
            return self._wrong(name, f"must match ^{USER_ID.pattern}$") or None
        return value

    def string(self, name: str, *, longest: int) -> str | None:
        """An optional text."""
        value = self.body.get(name)
        if value is None:
            return None
        if not isinstance(value, str) or not 0 < len(value) <= longest:
            return self._wrong(name, f"must be a string of 1 to {longest} characters") or None
        return value

    def identifier(self, name: str) -> str:
        """A required id of ours, or one that went through us."""
        value = self.body.get(name)
        if not isinstance(value, str) or not 0 < len(value) <= json.MAX_IDENTIFIER:
            problem = f"is required and must be a string of 1 to {json.MAX_IDENTIFIER} characters"
            return self._wrong(name, problem)
        return value

    def one_of(self, name: str, words: Sequence[str | None]) -> str | None:
        """A required word, of which null may be one; it has to be there all the same."""
        value = self.body.get(name)
        if name in self.body and (value is None or isinstance(value, str)) and value in words:
            return value
        *first, last = (json.dumps(word).decode() for word in words)
        return self._wrong(name, f"is required and must be {', '.join(first)} or {last}") or None

    def payload(self, name: str, *, largest: int) -> Json:
        """An optional value of any kind; `largest` are bytes of JSON."""
        value = self.body.get(name)
        if len(json.dumps(value)) > largest:
            self._wrong(name, f"must have at most {largest} bytes as JSON")
        return value

    def flag(self, name: str, *, default: bool) -> bool:
        """An optional boolean."""
        value = self.body.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            self._wrong(name, "must be true or false")
            return default
        return value

    def check(self) -> None:
        """Raises `GatewayError(INVALID_BODY)` that names everything that was wrong."""
        if self.problems:
            message = "; ".join(f"{name} {problem}" for name, problem in self.problems.items())
            raise GatewayError(ErrorCode.INVALID_BODY, message, details=self.problems)

    def _wrong(self, name: str, problem: str) -> str:
        self.problems[name] = problem
        return ""


def fields(body: Json) -> Fields:
    """The body's fields. Raises `GatewayError(INVALID_BODY)` unless it is an object."""
    if not isinstance(body, dict):
        raise GatewayError(ErrorCode.INVALID_BODY, "the request body must be a JSON object")
    return Fields(body)
