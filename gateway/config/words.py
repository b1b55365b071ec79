"""The model's complaints in our words: pydantic's errors by type, each at its place in the file."""

from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from gateway.config.place import Fault, Path, Place, follow
from gateway.config.schema import Schema, part, schema
from gateway.config.values import HASH, LABEL, MOUNT, NAME, TOOL, VARIABLE
from gateway.wire.json import array, mapping, text

PATTERNS = {
    NAME: "1 to 64 letters, digits, dots, hyphens and underscores, the first a letter or digit",
    LABEL: "a text of 1 to 200 characters on one line",
    TOOL: "1 to 64 letters, digits, hyphens and underscores",
    MOUNT: 'a path such as "/chat", without a slash at its end; or "" for none',
    HASH: '"sha256:" and 64 lower-case hex digits, as `oc-gateway keys create` prints them',
    VARIABLE: "the name of an environment variable: letters, digits and underscores",
}

_EXPECTED: dict[str, Callable[[Mapping[str, object]], str]] = {
    "bool_type": lambda _: "true or false",
    "dict_type": lambda _: "a table",
    "model_type": lambda _: "a table",
    "list_type": lambda _: "a list",
    "string_type": lambda _: "text",
    "int_type": lambda _: "a whole number",
    "string_too_short": lambda _: "a text that is not empty",
    "too_short": lambda _: "at least one entry",
    "greater_than": lambda ctx: f"a number over {ctx['gt']}",
    "greater_than_equal": lambda ctx: f"a number from {ctx['ge']}",
    "less_than_equal": lambda ctx: f"a number up to {ctx['le']}",
    "literal_error": lambda ctx: str(ctx["expected"]).replace("'", '"'),
    "string_pattern_mismatch": lambda ctx: PATTERNS[str(ctx["pattern"])],
    "value_error": lambda ctx: str(ctx["error"]),
    "invalid-json-value": lambda _: "what JSON can say: text, numbers, true, false, lists, tables",
    "recursion_depth_exceeded": lambda _: "a table that is not as deep",
}

# What these will say one day, and what they can say now.
_NOT_BUILT = {
    ("limits", "backend"): '"local": other backends are not built yet',
    ("limits", "tiers", "*", "tokens"): "not built yet: leave it out",
}

# What others call our keys.
_SYNONYMS = {
    "api_key": "credential",
    "apikey": "credential",
    "key": "credential",
    "token": "credential",
    "url": "base_url",
    "endpoint": "base_url",
    "type": "kind",
    "provider": "kind",
    "system": "instructions",
    "prompt": "instructions",
    "system_prompt": "instructions",
}

_NOUNS = {
    "array": "a list",
    "boolean": "true or false",
    "integer": "a whole number",
    "object": "a table",
    "string": "text",
}


def faults(data: object, error: ValidationError) -> list[Fault]:
    """What the model found wrong, one fault for each place."""
    whole = schema()
    places: dict[tuple[Path, bool], list[ErrorDetails]] = {}
    for detail in error.errors(include_url=False):
        path = _path(data, detail)
        # Pydantic's mark of a name; a table of the file may have a "[key]" of its own.
        of_name = detail["loc"].count("[key]") > path.count("[key]")
        places.setdefault((path, of_name), []).append(detail)
    return [
        _of_name(path, details) if of_name else _of_value(whole, follow(data, path), details)
        for (path, of_name), details in places.items()
    ]


def _path(data: object, detail: ErrorDetails) -> Path:
    """The error's path, without the steps that are the model's and not the file's.

    Pydantic names the choice in a union ("str", "dict") and the names of a table ("[key]").
    """
    steps: list[str | int] = []
    value = data
    for step in detail["loc"]:
        entries = dict(enumerate(value)) if isinstance(value, list) else value
        inside = isinstance(entries, dict) and step in entries
        value = entries[step] if isinstance(entries, dict) and step in entries else value
        if inside or (detail["type"] == "missing" and step == detail["loc"][-1]):
            steps.append(step)
    return tuple(steps)


def _of_name(path: Path, details: list[ErrorDetails]) -> Fault:
    return Fault(path, f"as a name, expected {_expected(details)}")


def _of_value(whole: Schema, place: Place, details: list[ErrorDetails]) -> Fault:
    allowed = _not_built(place.path)
    match details[0]["type"]:
        case "extra_forbidden":
            return Fault(place.path, allowed or _unknown(whole, place.path))
        case "missing":
            return Fault(place.path, f"is missing, expected {_wanted(part(whole, place.path))}")
        case _:
            return Fault(place.path, f"expected {allowed or _expected(details)}", place.shown)


def _not_built(path: Path) -> str:
    for known, allowed in _NOT_BUILT.items():
        same = len(known) == len(path)
        if same and all(k in ("*", p) for k, p in zip(known, path, strict=True)):
            return allowed
    return ""


def _expected(details: Iterable[ErrorDetails]) -> str:
    said = (_EXPECTED.get(d["type"], _other)(d.get("ctx", {})) for d in details)
    return " or ".join(dict.fromkeys(said))


def _other(_: Mapping[str, object]) -> str:
    return "another value"


def _unknown(whole: Schema, path: Path) -> str:
    known = list(mapping(part(whole, path[:-1]).get("properties")))
    name = str(path[-1])
    synonym = _SYNONYMS.get(name.lower().replace("-", "_"))
    close = [synonym] if synonym in known else get_close_matches(name, known, 1)
    return "unknown key; " + (
        f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"
    )


def _wanted(node: Schema) -> str:
    """What a place wants, from its schema."""
    if choices := array(node.get("enum")):
        return " or ".join(f'"{choice}"' for choice in choices)
    noun = _NOUNS.get(text(node.get("type")), "a value")
    examples = array(node.get("examples"))
    return f'{noun} such as "{examples[0]}"' if examples else noun
