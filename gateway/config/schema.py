"""The JSON schema of the config (draft 2020-12), from the model: help and checks in an editor.

It lives in `config/oc-gateway.schema.json`; `oc-gateway check --schema` prints it.
"""

from functools import cache

from gateway.config.model import Config
from gateway.config.place import Path
from gateway.config.values import written
from gateway.core.events import Json
from gateway.wire.json import array, dumps_indented, mapping, text

DIALECT = "https://json-schema.org/draft/2020-12/schema"

Schema = dict[str, Json]


@cache
def schema() -> Schema:
    """The schema of the whole file; made once, for reading only."""
    generated = mapping(_tidy(Config.model_json_schema()))
    return {"$schema": DIALECT, **generated, "title": "oc-gateway"}


def _tidy(node: Json) -> Json:
    """TOML's view of a schema: no null, and defaults as they are written."""
    if isinstance(node, list):
        return [_tidy(entry) for entry in node]
    if not isinstance(node, dict):
        return node
    tidied = {name: _tidy(entry) for name, entry in node.items() if name != "default"}
    default = node.get("default")
    if isinstance(default, (str, int, float)):
        tidied["default"] = _as_written(default, text(node.get("pattern")))
    return _without_null(tidied)


def _as_written(default: str | float, pattern: str) -> Json:
    return default if isinstance(default, str) else written(default, pattern) or default


def _without_null(node: Schema) -> Schema:
    choices = [choice for choice in array(node.get("anyOf")) if choice != {"type": "null"}]
    if not choices:
        return node
    rest = {name: entry for name, entry in node.items() if name != "anyOf"}
    return {**mapping(choices[0]), **rest} if len(choices) == 1 else {**rest, "anyOf": choices}


def part(whole: Schema, path: Path) -> Schema:
    """What the schema says of one place in the file; `{}` where it knows none."""
    found: Json = whole
    for step in path:
        found = _child(_resolved(whole, mapping(found)), step)
    return _resolved(whole, mapping(found))


def _child(node: Schema, step: str | int) -> Json:
    if isinstance(step, int):
        return node.get("items")
    named = mapping(node.get("properties")).get(step)
    by_pattern = [*mapping(node.get("patternProperties")).values(), None][0]
    return named or by_pattern or node.get("additionalProperties")


def _resolved(whole: Schema, node: Schema) -> Schema:
    name = text(node.get("$ref")).removeprefix("#/$defs/")
    return {**mapping(mapping(whole["$defs"]).get(name)), **node} if name else node


def written_schema() -> str:
    """The schema as its file holds it."""
    return dumps_indented(schema())
