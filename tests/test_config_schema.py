"""The JSON schema that editors use."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.config.schema import DIALECT, Schema, part, schema, written_schema
from gateway.core.events import Json
from gateway.wire.json import mapping

FILE = Path(__file__).parent.parent / "config" / "oc-gateway.schema.json"


def tables(node: Json) -> Iterator[Schema]:
    """Every table that the schema describes."""
    if isinstance(node, dict):
        if "properties" in node:
            yield node
        for inner in node.values():
            yield from tables(inner)


def test_the_file_is_current() -> None:
    """The schema in config/ is this model's: write it with `oc-gateway check --schema`."""
    assert FILE.read_text("utf-8") == written_schema()


def test_the_dialect() -> None:
    """Editors are told which draft it is."""
    assert schema()["$schema"] == DIALECT
    assert schema()["title"] == "oc-gateway"


def test_every_table_is_closed_and_described() -> None:
    """An editor marks an unknown key, and has a word on each known one."""
    described = list(tables(schema()))

    assert len(described) > 10
    for table in described:
        assert table["additionalProperties"] is False
        assert table["title"]
        assert table["description"]
        for name, field in mapping(table["properties"]).items():
            # A reference whose words are the table's own leaves them to it.
            assert mapping(field).keys() & {"description", "$ref"}, f"{table['title']}.{name}"


def test_toml_has_no_null() -> None:
    """What may be left out is not offered as null."""
    assert '"null"' not in written_schema()


@pytest.mark.parametrize(
    ("path", "default"),
    [
        (("server", "write_timeout"), "30s"),
        (("server", "max_body"), "1MiB"),
        (("upstreams", "any", "timeouts", "total"), "15m"),
        (("auth", "jwks", 0, "refresh"), "10m"),
        (("server", "port"), 8080),
        (("agents", 0, "archived"), False),
    ],
)
def test_defaults_are_as_the_file_writes_them(path: tuple[str | int, ...], default: Json) -> None:
    """A duration's default is a duration, not a number of seconds that the file may not say."""
    assert part(schema(), path)["default"] == default


def test_what_the_schema_does_not_know() -> None:
    """A path into nowhere leads to an empty schema."""
    assert part(schema(), ("agents", 0, "nope", 1)) == {}
