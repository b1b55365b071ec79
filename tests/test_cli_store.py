"""`oc-gateway store`: what operators do with the conversations that are kept."""

import asyncio
import io
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.cli import store_work
from gateway.cli.main import main
from gateway.cli.store_export import Chosen, export
from gateway.config.model import StoreConfig
from gateway.conversations.memory import MemoryStore
from gateway.conversations.postgres import PostgresStore
from gateway.conversations.pruner import prunable, prune
from gateway.conversations.sqlite import SqliteStore
from gateway.conversations.store import Change, Figures, Found, Span, Store
from gateway.core.conversation import (
    Conversation,
    Feedback,
    Owner,
    Part,
    Place,
    Role,
    StoredMessage,
)
from gateway.core.events import (
    Citation,
    Citations,
    FinishReason,
    Json,
    ReasoningDelta,
    TextDelta,
    ToolCall,
    ToolOutput,
    Usage,
)
from gateway.wire import json
from tests.serving import ROOT, cli, environment

COMMANDS = ("migrate", "status", "export", "prune")
CONFIG = """\
[store]
url = "{url}"
{more}
[upstreams.echo]
kind = "echo"
[[agents]]
id = 1
workspace = "acme"
name = "One"
targets = [{{ upstream = "echo" }}]
"""
NOW = time.time_ns() // 1_000_000
DAY = 86_400_000
ACME = Place(Owner("acme"), 1)


def configured(folder: Path, url: str = "sqlite:///kept.db", more: str = "") -> Path:
    path = folder / "gateway.toml"
    path.write_text(CONFIG.format(url=url, more=more))
    return path


def run(command: str, config: Path, *args: str) -> int:
    return main(["store", command, "--config", str(config), *args])


def question(number: int, text: str = "Hi") -> StoredMessage:
    return StoredMessage(
        id=number, position=0, role=Role.USER, parts=(TextDelta(text),), created=NOW - 1500
    )


def answer(
    number: int, *parts: Part, feedback: Feedback | None = None, finish: FinishReason | None = None
) -> StoredMessage:
    return StoredMessage(
        id=number,
        position=1,
        role=Role.ASSISTANT,
        parts=parts or (TextDelta("Hello"),),
        created=NOW,
        finish=finish,
        feedback=feedback,
    )


def talk(
    number: int,
    *,
    place: Place = ACME,
    user: str | None = None,
    updated: int = NOW,
    feedback: Feedback | None = None,
) -> Found:
    """A conversation of one turn."""
    conversation = Conversation(
        id=number,
        place=place,
        user_id=user,
        title=None,
        created=updated,
        updated=updated,
        length=2,
        version=1,
    )
    return conversation, (question(1), answer(2, feedback=feedback))


async def keep(store: Store, *talks: Found) -> None:
    changes = (Change(conversation=each, keep=0, messages=messages) for each, messages in talks)
    await asyncio.gather(*(store.save(change, ()) for change in changes))


def kept(folder: Path, *talks: Found) -> Path:
    """A config whose store has these conversations."""

    async def fill() -> None:
        store = SqliteStore(folder / "kept.db")
        await store.open()
        await keep(store, *talks)
        await store.close()

    asyncio.run(fill())
    return configured(folder)


def exported(capfdbinary: pytest.CaptureFixture[bytes]) -> list[dict[str, Json]]:
    return [json.mapping(json.loads(line)) for line in capfdbinary.readouterr().out.splitlines()]


def numbers(capfdbinary: pytest.CaptureFixture[bytes]) -> list[str]:
    return sorted(json.text(each["id"]) for each in exported(capfdbinary))


# What none of them can work on.


@pytest.mark.parametrize("command", COMMANDS)
def test_memory_is_out_of_reach(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, and why there is nothing to do."""
    assert run(command, configured(tmp_path, "memory://")) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("[store] url memory:// is in the gateway's own process")
    assert err.endswith(f"there is nothing to {command} from here\n")


@pytest.mark.parametrize("command", COMMANDS[1:])
def test_a_file_that_is_not_there(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1, and none is made by looking."""
    assert run(command, configured(tmp_path)) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"{tmp_path / 'kept.db'}: there is no such file yet")
    assert [each.name for each in tmp_path.iterdir()] == ["gateway.toml"]


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("more", ["tll = 1", 'ttl = "1"'])
def test_a_wrong_config_is_told(
    command: str, more: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, as everywhere."""
    config = configured(tmp_path, more=more)
    assert run(command, config) == 2
    out, err = capsys.readouterr()
    assert (out, err.startswith(f"{config}: store.t")) == ("", True)


def test_a_missing_password_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, and where it was looked for."""
    more = 'password = { env = "NOT_SET_ANYWHERE" }'
    config = configured(tmp_path, "postgresql://gw@127.0.0.1/chats", more)
    assert run("status", config) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"{config}: store.password: the environment variable NOT_SET_ANYWHERE")
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_no_database(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1 and one line; the file stays as it is."""
    config, file = configured(tmp_path), tmp_path / "kept.db"
    file.write_text("canary " * 1000)
    assert run(command, config, *(["--older-than", "1d"] if command == "prune" else [])) == 1
    out, err = capsys.readouterr()
    assert (out, len(err.splitlines())) == ("", 1)
    assert str(file) in err
    assert file.read_text() == "canary " * 1000


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    """Exit code 1 and one line without the password, as a process of its own."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    config = configured(
        tmp_path, f"postgresql://gw@127.0.0.1:{port}/chats", 'password = { env = "PASSWORD" }'
    )
    done = cli("store", "status", "--config", str(config), PASSWORD="canary")
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1
    assert str(port) in done.stderr
    assert "canary" not in done.stderr


# migrate, status


def test_the_same_on_postgresql(
    database: str, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """All four, one after another."""

    async def fill() -> None:
        store = PostgresStore(database, None, 2)
        await store.open()
        await keep(store, talk(1), talk(2, updated=NOW - 30 * DAY))
        await store.close()

    config = configured(tmp_path, database)
    assert run("migrate", config) == 0
    asyncio.run(fill())
    assert run("migrate", config) == 0
    assert run("status", config) == 0
    made, found, url, schema, conversations, messages, size = (
        capfdbinary.readouterr().out.decode().splitlines()
    )
    version = schema.split()[1]
    assert made == f"made, with schema version {version}"
    assert found == f"nothing to do: the schema has version {version} already"
    assert url == f"store          {database}"
    assert (conversations, messages) == ("conversations  2", "messages       4")
    assert size.startswith("size           ")
    assert run("prune", config, "--older-than", "7d") == 0
    assert capfdbinary.readouterr().out == b"forgot 1 conversation\n"
    assert run("export", config) == 0
    assert numbers(capfdbinary) == ["1"]


def test_a_schema_from_the_past(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It says what it came from, and what it is now."""

    class Older(MemoryStore):
        async def open(self) -> int:
            return 2

        async def figures(self) -> Figures:
            return replace(await super().figures(), schema=4)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store_work, "build_store", lambda *_: Older(1 << 20))
        assert run("migrate", configured(tmp_path)) == 0
    assert capsys.readouterr().out == "migrated from schema version 2 to 4\n"


def test_migrate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A new store is made, and one that is up to date is left alone."""
    config = configured(tmp_path)
    assert run("migrate", config) == 0
    assert capsys.readouterr().out.startswith("made, with schema version ")
    before = (tmp_path / "kept.db").stat().st_size
    assert before > 0
    assert run("migrate", config) == 0
    assert capsys.readouterr().out.startswith("nothing to do: the schema has version ")


def test_status(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where, what version, how many and how much."""
    config = kept(tmp_path, talk(5), talk(6))
    assert run("status", config) == 0
    out = capsys.readouterr().out
    rows = dict(line.split(None, 1) for line in out.splitlines())
    assert rows.keys() == {"store", "schema", "conversations", "messages", "size"}
    assert rows["store"] == "sqlite:///kept.db"
    assert (rows["conversations"], rows["messages"]) == ("2", "4")
    assert int(rows["schema"]) >= 1
    amount, unit = rows["size"].split()
    assert (float(amount) > 0, unit) == (True, "KiB")


# export


def test_a_line_has_all_there_is(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """Every part, what the answer cost, who gave it, and what the user thought of it."""
    parts: tuple[Part, ...] = (
        ReasoningDelta("hm"),
        TextDelta("See \u2028 and 😀"),
        Citations([Citation("https://a.example", "A", None)]),
        ToolCall("c1", "look", {"order": 7}, None, None),
        ToolOutput("c1", ["shipped", None]),
    )
    said = StoredMessage(
        id=9,
        position=1,
        role=Role.ASSISTANT,
        parts=parts,
        created=NOW,
        finish=FinishReason.TOOL_CALLS,
        usage=Usage(3, 4, 0.5),
        model="m-1",
        upstream="main",
        upstream_conversation="theirs",
        feedback=Feedback.NEGATIVE,
    )
    conversation = Conversation(
        id=(1 << 53) - 1,
        place=Place(Owner("acme"), 12),
        user_id="u-1",
        title="Where is it?",
        created=NOW - DAY,
        updated=NOW,
        length=2,
        version=1,
        upstream_ids={"main/": "theirs"},
    )
    config = kept(tmp_path, (conversation, (question(8, "Where is it?"), said)))
    assert run("export", config) == 0
    assert exported(capfdbinary) == [
        {
            "id": "9007199254740991",
            "workspace": "acme",
            "origin": None,
            "agent": 12,
            "userId": "u-1",
            "title": "Where is it?",
            "status": "ongoing",
            "createdAt": (NOW - DAY) / 1000,
            "updatedAt": NOW / 1000,
            "messages": [
                {
                    "id": "msg_8",
                    "role": "user",
                    "createdAt": (NOW - 1500) / 1000,
                    "parts": [{"type": "text", "text": "Where is it?"}],
                },
                {
                    "id": "msg_9",
                    "role": "assistant",
                    "createdAt": NOW / 1000,
                    "parts": [
                        {"type": "reasoning", "text": "hm"},
                        {"type": "text", "text": "See \u2028 and 😀"},
                        {
                            "type": "citations",
                            "citations": [
                                {"title": "A", "url": "https://a.example", "snippet": None}
                            ],
                        },
                        {
                            "type": "tool-call",
                            "toolCallId": "c1",
                            "toolName": "look",
                            "input": {"order": 7},
                        },
                        {
                            "type": "tool-result",
                            "toolCallId": "c1",
                            "output": ["shipped", None],
                        },
                    ],
                    "finishReason": "tool-calls",
                    "usage": {"inputTokens": 3, "outputTokens": 4, "credits": 0.5},
                    "model": "m-1",
                    "upstream": "main",
                    "feedback": "negative",
                },
            ],
        }
    ]


def test_what_is_not_known_is_null(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """An answer that broke off has no finish reason; a visitor's conversation has an origin."""
    place = Place(Owner(None, "https://a.example"), 1)
    assert run("export", kept(tmp_path, talk(5, place=place))) == 0
    (record,) = exported(capfdbinary)
    assert (record["workspace"], record["origin"]) == (None, "https://a.example")
    said = json.mapping(json.array(record["messages"])[1])
    unknown = ("finishReason", "usage", "model", "upstream", "feedback")
    assert [said[name] for name in unknown] == [None] * 5


CHOICES: list[tuple[list[str], list[str]]] = [
    ([], ["1", "2", "3", "4", "5"]),
    (["--agent", "1"], ["1", "4", "5"]),
    (["--agent", "2", "--agent", "3"], ["2", "3"]),
    (["--workspace", "acme"], ["1", "2", "4"]),
    (["--workspace", "nobody"], []),
    (["--user", "u-1"], ["2", "3"]),
    (["--user", "u-1", "--workspace", "acme"], ["2"]),
    (["--feedback", "negative"], ["3"]),
    (["--feedback", "positive"], ["4"]),
    (["--feedback", "positive", "--agent", "2"], []),
    (["--since", "2d"], ["1", "2", "3", "4"]),
    (["--since", "12h"], ["1", "2", "3"]),
    (["--since", datetime.fromtimestamp(NOW / 1000 - 43_200, UTC).isoformat()], ["1", "2", "3"]),
    (["--since", f"{datetime.fromtimestamp(NOW / 1000 - 345_600, UTC):%Y-%m-%d}"], list("1234")),
    (["--since", "2100-01-01"], []),
]


@pytest.mark.parametrize(("args", "found"), CHOICES, ids=range(len(CHOICES)))
def test_filters(
    args: list[str], found: list[str], tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """Each leaves out what it says, and they may be combined."""
    config = kept(
        tmp_path,
        talk(1),
        talk(2, place=Place(Owner("acme"), 2), user="u-1"),
        talk(3, place=Place(Owner("globex"), 3), user="u-1", feedback=Feedback.NEGATIVE),
        talk(4, updated=NOW - DAY, feedback=Feedback.POSITIVE),
        talk(5, place=Place(Owner(None, "https://a.example"), 1), updated=NOW - 30 * DAY),
    )
    assert run("export", config, *args) == 0
    assert numbers(capfdbinary) == found


@pytest.mark.parametrize(
    "args",
    [
        ["--agent", "x"],
        ["--agent", "0"],
        ["--feedback", "none"],
        ["--since", "yesterday"],
        ["--since", "7"],
    ],
)
def test_filters_that_are_none(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, by the command line's own check."""
    with pytest.raises(SystemExit) as stopped:
        run("export", Path("absent.toml"), *args)
    assert stopped.value.code == 2
    assert args[0] in capsys.readouterr().err


def test_more_than_a_page(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """Each conversation is there, once."""
    config = kept(tmp_path, *(talk(number) for number in range(1, 1202)))
    assert run("export", config) == 0
    assert numbers(capfdbinary) == sorted(str(number) for number in range(1, 1202))


async def test_one_conversation_at_a_time() -> None:
    """The next is read when the one before is written: memory stays bounded."""
    steps: list[str] = []

    class Watched(MemoryStore):
        async def load(self, place: Place, conversation: int, span: Span) -> Found | None:
            steps.append(f"read {conversation}")
            return await super().load(place, conversation, span)

    class Sink(io.BytesIO):
        def flush(self) -> None:
            steps.append("written")

    store = Watched(1 << 20)
    await keep(store, talk(1), talk(2))
    everything = Chosen(agents=frozenset(), workspace=None, user=None, feedback=None, since=None)
    await export(store, everything, Sink())
    assert steps == ["read 1", "written", "read 2", "written"]


async def test_what_goes_while_it_is_exported() -> None:
    """A conversation that was pruned meanwhile is left out."""

    class Forgetful(MemoryStore):
        async def load(self, place: Place, conversation: int, span: Span) -> Found | None:
            return None

    store = Forgetful(1 << 20)
    await keep(store, talk(1))
    sink = io.BytesIO()
    everything = Chosen(agents=frozenset(), workspace=None, user=None, feedback=None, since=None)
    await export(store, everything, sink)
    assert sink.getvalue() == b""


def test_reader_that_has_gone(tmp_path: Path) -> None:
    """`oc-gateway store export | head` ends without a traceback."""
    config = kept(tmp_path, *(talk(number) for number in range(1, 1000)))
    line = f"{sys.executable} -m gateway store export --config {config} | head -1"
    done = subprocess.run(
        ["sh", "-c", line],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        env=environment(),
        check=False,
    )
    assert done.stdout.startswith('{"id":"1",')
    assert (len(done.stdout.splitlines()), done.stderr) == (1, "")


# prune


def test_prune_by_the_config(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is older than `ttl` and what a user has beyond `max_per_user`; a dry run only counts."""
    kept(
        tmp_path,
        talk(1, updated=NOW - 9 * DAY),
        *(talk(number, user="u-1", updated=NOW - number) for number in range(2, 6)),
        talk(6),
    )
    config = configured(tmp_path, more='ttl = "7d"\nmax_per_user = 2')
    assert run("prune", config, "--dry-run") == 0
    assert run("prune", config, "--dry-run") == 0
    assert run("prune", config) == 0
    assert run("prune", config) == 0
    assert capsys.readouterr().out.splitlines() == [
        "would forget 3 conversations",
        "would forget 3 conversations",
        "forgot 3 conversations",
        "forgot 0 conversations",
    ]


def test_prune_by_age(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """`--older-than` is instead of what the config says."""
    kept(tmp_path, talk(1, updated=NOW - 9 * DAY), talk(2, user="u"), talk(3, user="u"))
    config = configured(tmp_path, more='ttl = "1m"\nmax_per_user = 1')
    assert run("prune", config, "--older-than", "8d", "--dry-run") == 0
    assert run("prune", config, "--older-than", "8d") == 0
    said = capfdbinary.readouterr().out
    assert said == b"would forget 1 conversation\nforgot 1 conversation\n"
    assert run("export", config) == 0
    assert numbers(capfdbinary) == ["2", "3"]


def test_prune_by_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a rule there is nothing to prune by: exit code 2."""
    assert run("prune", kept(tmp_path, talk(1))) == 2
    out, err = capsys.readouterr()
    assert (out, err) == (
        "",
        "[store] has neither ttl nor max_per_user: say --older-than, e.g. 90d\n",
    )


TALKS = st.lists(st.tuples(st.sampled_from((None, "a", "b")), st.integers(0, 20)), max_size=30)


@given(TALKS, st.none() | st.integers(1, 21), st.none() | st.integers(1, 4))
async def test_a_dry_run_tells_the_truth(
    talks: list[tuple[str | None, int]], age: int | None, most: int | None
) -> None:
    """It counts exactly what would go, whatever is kept and whatever the rules."""
    store = MemoryStore(1 << 20)
    days = enumerate(talks, 1)
    await keep(store, *(talk(n, user=user, updated=NOW - d * DAY) for n, (user, d) in days))
    rules = StoreConfig.model_validate({"ttl": age and f"{age}d", "max_per_user": most})
    counted = await prunable(store, rules, NOW)
    assert counted == await prune(store, rules, NOW)
