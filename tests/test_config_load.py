"""What a config may not say: each problem with its place, all of them at once."""

import re
import tomllib
from collections.abc import MutableMapping
from pathlib import Path
from typing import cast

import pytest
from hypothesis import example, given, reject, settings
from hypothesis import strategies as st

from gateway.config.load import ConfigError, Problem, load, parse
from gateway.config.model import Config
from gateway.config.schema import schema
from gateway.config.words import PATTERNS
from gateway.wire import json
from tests import config_cases as cases

FILE = Path("gateway.toml")

Change = tuple[cases.Path, object]

# A list is one as well, as far as an index reads and writes it.
Entries = MutableMapping[str | int, object]


def changed(*changes: Change) -> dict[str, object]:
    """The valid file with these values put in; None takes one out."""
    data = tomllib.loads(cases.VALID)
    for (*way, last), value in changes:
        at = cast(Entries, data)
        for step in way:
            at = _inner(at, step)
        if value is None:
            del at[last]
        else:
            at[last] = value
    return data


def _inner(at: Entries, step: str | int) -> Entries:
    inner = at.setdefault(step, {}) if isinstance(at, dict) else at[step]
    return cast(Entries, inner)


def problems(*changes: Change) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(changed(*changes), FILE)
    return [str(problem) for problem in caught.value.problems]


def test_a_valid_file() -> None:
    """A right file is read into the model, the small forms into numbers."""
    config = parse(changed((("upstreams", "llm", "timeouts"), {"connect": "500ms"})), FILE)

    assert [agent.id for agent in config.agents] == [1, 2, 3]
    assert config.limits.tiers["standard"].requests == (100, 10.0)
    assert config.upstreams["llm"].timeouts.connect == 0.5


@pytest.mark.parametrize(
    ("path", "value", "expected"), cases.CASES, ids=[".".join(map(str, c[0])) for c in cases.CASES]
)
def test_each_problem(path: cases.Path, value: object, expected: list[str]) -> None:
    """A problem names its place, what stands there unless it may be a secret, what is allowed."""
    found = problems((path, value))

    assert found == expected
    assert "s3cret" not in "\n".join(found)


def test_all_at_once() -> None:
    """Problems of one field and of tables with each other come together, in the file's order."""
    assert problems(
        (("keys", 0, "tier"), "gold"),
        (("keys", 0, "disabled"), "no"),
        (("upstreams", "llm", "kind"), "opnai"),
        (("agents", 0, "targets", 0, "upstream"), "lm"),
        (("agents", 0, "id"), "1"),
        (("upstreams", "echo", "file"), "a"),
    ) == [
        'upstreams.llm.kind: expected "openai", "bookbag", "chatbase", "sonzai", "agentsgt",'
        ' "echo" or "replay", found "opnai"',
        'upstreams.echo.file: has no meaning for kind "echo", only for replay: leave it out',
        'agents[0].id (agent "Support"): expected a whole number, found "1"',
        'agents[0].targets[0].upstream (agent "Support"): expected an upstream of this file:'
        ' "llm" or "bookbag" or "echo" or "recorded", found "lm"',
        'keys[0].tier (key web): expected a tier of this file: "standard", found "gold"',
        'keys[0].disabled (key web): expected true or false, found "no"',
    ]


def test_what_is_wrong_in_itself_is_told_once() -> None:
    """A reference of the wrong type is not a reference that leads nowhere as well."""
    assert problems((("keys", 0, "tier"), 7)) == ["keys[0].tier (key web): expected text, found 7"]


def test_what_looks_like_a_secret_is_not_shown() -> None:
    """A key in the place of a name is told of without being told, and so is a URL with a password,
    a header with its value, and what stands where only the place of a secret may."""
    found = problems(
        (("keys", 0, "id"), "oc_live_s3cret!"),
        (("server", "port"), "sk-s3cret"),
        (("admin", "token"), "s3cret"),
        (("limits", "backend"), "redis://:s3cret@cache:6379"),
        (("tracing", "endpoint"), "https://user:s3cret@traces.example"),
        (("upstreams", "llm", "credential_header"), "Authorization: s3cret"),
        (("upstreams", "bookbag", "credential_header"), "x-api-key: s3cret"),
    )

    told = "\n".join(found)
    assert all(
        part in told for part in ("keys[0].id", "admin.token", "backend", "tracing.endpoint")
    )
    assert told.count("credential_header") == 2
    assert "s3cret" not in told


def test_a_long_value_is_cut() -> None:
    """Nobody reads a page of a value."""
    assert len(problems((("server", "port"), "x" * 10_000))[0]) < 120


def test_one_client_with_two_keys() -> None:
    """Entries of one id are several keys of one client, as long as the keys differ."""
    config = parse(changed(), FILE)

    assert [key.id for key in config.keys] == ["web", "web"]


def test_workspaces_have_names_of_their_own() -> None:
    """Two workspaces may each have an agent of the same name."""
    config = parse(changed(), FILE)

    assert [a.name for a in config.agents if a.name == "Support"] == ["Support", "Support"]


def test_addresses_are_kept_as_they_are_used() -> None:
    """A final slash would be doubled; browsers leave out a default port."""
    config = parse(
        changed(
            (("upstreams", "llm", "base_url"), "https://llm.example/v1/"),
            (("agents", 0, "public", "origins"), ["HTTPS://WWW.Acme.com:443", "http://[::1]:3000"]),
        ),
        FILE,
    )

    assert config.upstreams["llm"].base_url == "https://llm.example/v1"
    assert config.agents[0].public is not None
    assert config.agents[0].public.origins == ["https://www.acme.com", "http://[::1]:3000"]


@pytest.mark.parametrize(
    "url",
    [
        "memory://",
        "sqlite:///oc-gateway.db",
        "sqlite:////var/lib/oc-gateway/conversations.db",
        "postgresql://db.example/oc",
        "postgres://oc@db.example:5432/oc?sslmode=require",
        "postgresql:///oc?host=/var/run/postgresql",
    ],
)
def test_stores(url: str) -> None:
    """Conversations are in a file, from its folder or from the root, in a database, or nowhere."""
    assert parse(changed((("store", "url"), url)), FILE).store.url == url


def test_passthrough() -> None:
    """An upstream may keep the conversations of one agent of its own; v1 of the API as well."""
    config = parse(changed((("agents", 2), cases.PASSING)), FILE)
    older = changed((("agents", 2), cases.PASSING), (("upstreams", "bookbag", "api"), "v1"))

    assert config.agents[2].conversations == "passthrough"
    assert parse(older, FILE).agents[2].conversations == "passthrough"


def test_passthrough_twice() -> None:
    """One agent of an upstream, however the file calls it, is one set of conversations."""
    url = "https://App.bookbag.ai/"
    twice = {"kind": "bookbag", "base_url": url}
    found = problems(
        (("upstreams", "again"), twice),
        (("agents", 2), cases.PASSING | {"targets": [{"upstream": "again", "agent": 7}]}),
    )

    assert found == [f"agents[2].targets[0].agent{cases.PASSED_AGENT}: {cases.SHARED}"]


def test_a_moment_may_be_tomls_own() -> None:
    """TOML has dates and times: they need no quotes, but an offset."""
    expires = ("keys", 0, "expires")
    with_offset = tomllib.loads("at = 2027-01-31T00:00:00Z")["at"]
    without = tomllib.loads("at = 2027-01-31T00:00:00")["at"]

    config = parse(changed((expires, with_offset)), FILE)

    assert config.keys[0].expires == "2027-01-31T00:00:00+00:00"
    assert problems((expires, without))[0].endswith(", found 2027-01-31 00:00:00")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            b"[server\n",
            "is not TOML: expected ']' at the end of a table declaration (at line 1, column 8)",
        ),
        (b"a = 1\nb = \xff\n", "is not UTF-8 text, at line 2"),
        (b"a = " + b"[" * 100_000, "is nested too deeply"),
        (b"", None),
    ],
    ids=["syntax", "encoding", "depth", "empty"],
)
def test_files_that_are_no_config(tmp_path: Path, content: bytes, expected: str | None) -> None:
    """What is not TOML is told with line and column; an empty file lacks its tables."""
    file = tmp_path / "gateway.toml"
    file.write_bytes(content)

    with pytest.raises(ConfigError) as caught:
        load(file)

    lacks = "upstreams: is missing, expected a table\n  agents: is missing, expected a list"
    said = f"{file}: {expected}" if expected else f"{file}: 2 problems\n  {lacks}"
    assert str(caught.value) == said


def test_a_number_of_thousands_of_digits(tmp_path: Path) -> None:
    """Python refuses to read it, and that is the file's problem, not a crash."""
    file = tmp_path / "gateway.toml"
    file.write_text(f"a = {'1' * 5000}")

    with pytest.raises(ConfigError, match="is not TOML"):
        load(file)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """The error names the file and the reason."""
    with pytest.raises(ConfigError, match=r"nope\.toml: cannot be read: no such file"):
        load(tmp_path / "nope.toml")


def test_a_byte_order_mark_is_no_problem(tmp_path: Path) -> None:
    """Some editors begin every file with one."""
    file = tmp_path / "gateway.toml"
    file.write_text(cases.VALID, "utf-8-sig")

    assert load(file) == parse(changed(), file)


def test_every_pattern_has_words() -> None:
    """Nobody is answered with a regular expression: what has one has words, or its own reader."""
    patterns = set(re.findall(r'"pattern": (".*")', json.dumps_indented(schema())))
    read = re.compile(r"ms\|s\|m|KiB|https\?:|sqlite:")
    own_readers = {pattern for pattern in patterns if read.search(pattern)}

    assert patterns - own_readers == {json.dumps(pattern).decode() for pattern in PATTERNS}


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.builds(pow, st.just(16), st.just(5000))  # built, for nobody can print it
    | st.floats()
    | st.text(max_size=8)
    | st.datetimes()
    | st.dates()
    | st.times()
    | st.sampled_from(["openai", "HS256", "llm", "acme", "1", "*", "https://[", "http://a:x/"])
)
NAMES = st.text(max_size=6) | st.sampled_from(
    ["id", "name", "env", "file", "upstream", "kind", "params", "tier", "tokens", "dict", "list"]
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)


def every_path(value: object, path: cases.Path = ()) -> list[cases.Path]:
    if isinstance(value, dict):
        entries = list(value.items())
    else:
        entries = list(enumerate(value)) if isinstance(value, list) else []
    return [
        found
        for key, inner in entries
        for found in [(*path, key), *every_path(inner, (*path, key))]
    ]


PLACES = every_path(tomllib.loads(cases.VALID))


def told(data: dict[str, object]) -> list[Problem]:
    """The problems of a file, none if it is right."""
    try:
        parse(data, FILE)
    except ConfigError as exc:
        return exc.problems
    return []


def in_words(problem: Problem) -> bool:
    """ "another value" is what is said of what pydantic found and we have no words for."""
    return bool(problem.where and problem.text) and "another value" not in problem.text


ANY_TABLE = st.dictionaries(st.sampled_from(list(Config.model_fields)), VALUES)
ANY_CHANGE = st.tuples(st.sampled_from(PLACES), VALUES.filter(lambda value: value is not None))


@settings(deadline=None)
@given(st.dictionaries(NAMES, VALUES) | ANY_TABLE)
@example({"[key]": None})
@example({"upstreams": {"[key]": 5}})
def test_any_table(data: dict[str, object]) -> None:
    """Whatever the file says, it is a config or problems in words."""
    assert all(map(in_words, told(data)))


@settings(deadline=None, max_examples=300)
@given(st.lists(ANY_CHANGE, max_size=3))
def test_any_change(changes: list[Change]) -> None:
    """Whatever is put anywhere into a right file, it is a config or problems in words."""
    try:
        data = changed(*changes)
    except (TypeError, KeyError, IndexError, AttributeError):
        reject()  # one change took the place of another away

    assert all(map(in_words, told(data)))


def test_endless_tables() -> None:
    """Depth without end is a problem like any other."""
    deep: dict[str, object] = {}
    inner = deep
    for _ in range(5000):
        inner["a"] = inner = {}

    assert len(problems((("agents", 0, "targets", 0, "params"), deep))) == 1
    assert len(problems((("server",), deep))) == 1
