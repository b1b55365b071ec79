"""`oc-gateway keys`, through its parser: create, verify, sign."""

import argparse
import asyncio
import getpass
import io
import re
import sys
import time
import tomllib
from pathlib import Path

import pytest
from aiohttp import web

from gateway.auth.keyring import Keyring, build_keyring
from gateway.auth.mint import key_hash
from gateway.cli.keys import define
from gateway.config.load import load
from gateway.config.model import Algorithm
from gateway.config.secrets import reveal
from tests.auth.signers import ALGORITHMS, PUBLIC_ALGORITHMS, key_set, signer

KEY = "oc_live_Tq3Xv9"
CONFIG = f"""\
[upstreams.echo]
kind = "echo"

[[agents]]
id = 1
workspace = "acme"
name = "One"
targets = [{{ upstream = "echo" }}]

[[agents]]
id = 2
workspace = "acme"
name = "Two"
targets = [{{ upstream = "echo" }}]

[limits.tiers.standard]
requests = "100/10s"

[auth]
revoked = ["stolen"]

[[auth.signing_keys]]
id = "HS256"
algorithm = "HS256"
secret = {{ env = "KEYS_TEST_SECRET" }}
workspaces = ["acme"]

[[keys]]
id = "web"
hash = "{key_hash(KEY)}"
workspace = "acme"
tier = "standard"
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A config with a signing key of each algorithm."""
    monkeypatch.setenv("KEYS_TEST_SECRET", signer("HS256").public)
    path = tmp_path / "gateway.toml"
    entries = [
        f'[[auth.signing_keys]]\nid = "{name}"\nalgorithm = "{name}"\nworkspaces = ["acme"]\n'
        f'public_key = {{ file = "{name}.pem" }}\n'
        for name in PUBLIC_ALGORITHMS
    ]
    path.write_text("\n".join([CONFIG, *entries]))
    for name in PUBLIC_ALGORITHMS:
        (tmp_path / f"{name}.pem").write_text(signer(name).public)
        (tmp_path / f"{name}-private.pem").write_text(signer(name).private)
    return path


def add(config: Path, text: str) -> None:
    with config.open("a") as file:
        file.write(f"\n{text}\n")


def keys(*argv: str | Path) -> int:
    """Runs `oc-gateway keys ...`."""
    parser = argparse.ArgumentParser(prog="oc-gateway keys")
    define(parser)
    args = parser.parse_args(list(map(str, argv)))
    code: int = args.run(args)
    return code


def refuses(*argv: str) -> None:
    with pytest.raises(SystemExit) as caught:
        keys(*argv)
    assert caught.value.code == 2


def keyring(config: Path) -> Keyring:
    return build_keyring(load(config), lambda secret: reveal(secret, config.parent))


def created(capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    """The key and the entry that `create` has printed."""
    key, entry = re.fullmatch(
        r"# .*\n(oc_\w+)\n\n# .*\n(\[\[keys\]\]\n.*)", capsys.readouterr().out, re.DOTALL
    ).groups()  # type: ignore[union-attr]  # no match fails the test
    return key, entry


# create


def test_a_created_key_works_once_its_entry_is_pasted(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As it is printed, below what is there."""
    argv = ["--workspace", "acme", "--agent", "1", "--agent", "2", "--id", "shop"]
    assert keys("create", *argv, "--expires", "90d", "--env", "test") == 0
    key, entry = created(capsys)
    add(config, entry)
    principal = keyring(config).admit(key, time.time())
    assert key.startswith("oc_test_")
    assert (principal.key_id, principal.workspace, principal.tier) == ("shop", "acme", "standard")
    assert principal.agents == frozenset({1, 2})
    assert principal.expires is not None
    assert abs(principal.expires - time.time() - 90 * 86400) < 60


def test_the_entry_says_no_more_than_it_must(capsys: pytest.CaptureFixture[str]) -> None:
    """Every agent and no expiry are said by leaving them out; the key is live."""
    assert keys("create", "--workspace", "acme", "--tier", "widget") == 0
    key, entry = created(capsys)
    (fields,) = tomllib.loads(entry)["keys"]
    assert fields.pop("id").startswith("acme-")
    assert fields == {"hash": key_hash(key), "workspace": "acme", "tier": "widget"}
    assert key.startswith("oc_live_")


def test_the_expiry_is_a_date_and_time_of_toml(capsys: pytest.CaptureFixture[str]) -> None:
    """In UTC, to the second."""
    keys("create", "--workspace", "acme", "--expires", "1.5h")
    entry = created(capsys)[1]
    assert re.search(r"^expires = \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$", entry, re.MULTILINE)
    moment = tomllib.loads(entry)["keys"][0]["expires"]
    assert abs(moment.timestamp() - time.time() - 5400) < 60


def test_ids_and_keys_are_new_each_time(capsys: pytest.CaptureFixture[str]) -> None:
    """Even for the longest workspace."""
    seen = set()
    for _ in range(3):
        assert keys("create", "--workspace", "w" * 64) == 0
        key, entry = created(capsys)
        name = tomllib.loads(entry)["keys"][0]["id"]
        assert len(name) <= 64
        seen |= {key, name}
    assert len(seen) == 6


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["--workspace", ""],
        ["--workspace", 'a"b'],
        ["--workspace", "a\n"],
        ["--workspace", "w" * 65],
        ["--workspace", "acme", "--tier", "a b"],
        ["--workspace", "acme", "--id", "-x"],
        ["--workspace", "acme", "--agent", "0"],
        ["--workspace", "acme", "--agent", "1.5"],
        ["--workspace", "acme", "--agent", "٣"],
        ["--workspace", "acme", "--agent", str(2**53)],
        ["--workspace", "acme", "--expires", "90"],
        ["--workspace", "acme", "--expires", "0s"],
        ["--workspace", "acme", "--expires", "1ms"],
        ["--workspace", "acme", "--expires", "999999999d"],
        ["--workspace", "acme", "--env", "prod"],
    ],
)
def test_create_takes_nothing_that_the_config_would_refuse(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """No key is made."""
    refuses("create", *argv)
    assert capsys.readouterr().out == ""


# verify


def test_verify_tells_what_a_key_may_do(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And never repeats the key."""
    other = "oc_test_Zb7Lk2"
    add(
        config,
        f'[[keys]]\nid = "shop"\nhash = "{key_hash(other)}"\nworkspace = "acme"\n'
        'agents = [2, 1]\ntier = "standard"\nexpires = 2099-01-31T00:00:00Z',
    )
    assert keys("verify", other, "--config", config) == 0
    said = capsys.readouterr()
    for line in (
        "id +shop",
        "workspace +acme",
        "agents +1, 2",
        "tier +standard",
        "expires +2099-01-31T00:00:00",
        "disabled +no",
        "valid",
    ):
        assert re.search(f"^{line}", said.out, re.MULTILINE), line
    assert other not in said.out + said.err


def test_verify_reads_standard_input(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By default, so that a key stays out of the history of the shell."""
    for argv in ([], ["-"]):
        monkeypatch.setattr(sys, "stdin", io.StringIO(f"{KEY}\n"))
        assert keys("verify", *argv, "--config", config) == 0
        assert "agents     all" in capsys.readouterr().out


def test_verify_asks_at_a_terminal(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without showing what is typed."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr(getpass, "getpass", lambda prompt: f" {KEY} ")
    assert keys("verify", "--config", config) == 0


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("expires = 2001-01-01T00:00:00Z", "not valid: the key has expired"),
        ("disabled = true", "not valid: "),
    ],
)
def test_verify_tells_of_an_entry_that_is_not_valid(
    config: Path, capsys: pytest.CaptureFixture[str], change: str, reason: str
) -> None:
    """With the entry, since that is what has to be changed."""
    config.write_text(config.read_text().replace('id = "web"', f'id = "web"\n{change}'))
    assert keys("verify", KEY, "--config", config) == 1
    said = capsys.readouterr()
    assert reason in said.err
    assert re.search("^id +web", said.out, re.MULTILINE)
    assert ("disabled   yes" in said.out) == (change == "disabled = true")


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("oc_live_unknown", "no entry of [[keys]] has its hash"),
        ("sk_live_unknown", "begins with oc_live_ or oc_test_"),
        ("", "begins with oc_live_ or oc_test_"),
        ("oc_live_eyJ9.e30.e30", "not a JWT"),
    ],
)
def test_verify_tells_why_a_key_matches_nothing(
    config: Path, capsys: pytest.CaptureFixture[str], key: str, reason: str
) -> None:
    """In the words that help to mend it."""
    assert keys("verify", key, "--config", config) == 1
    said = capsys.readouterr()
    assert reason in said.err
    assert said.out == ""


def test_verify_needs_no_secret_for_an_opaque_key(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An operator's machine may have none; a signed key cannot be judged without."""
    monkeypatch.delenv("KEYS_TEST_SECRET")
    assert keys("verify", KEY, "--config", config) == 0
    token = signer("HS256").token("HS256")
    assert keys("verify", f"oc_live_{token}", "--config", config) == 2
    assert "KEYS_TEST_SECRET" in capsys.readouterr().err


@pytest.mark.parametrize("text", [None, "[[keys]]", "= ="])
def test_a_wrong_config_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str | None
) -> None:
    """With exit code 2, as everywhere."""
    path = tmp_path / "gateway.toml"
    if text is not None:
        path.write_text(text)
    assert keys("verify", KEY, "--config", path) == 2
    argv = ["--signing-key", "a", "--subject", "b", "--workspace", "acme", "--tier", "standard"]
    assert keys("sign", *argv, "--config", path) == 2
    assert capsys.readouterr().err.count(str(path)) == 2


async def test_verify_fetches_a_key_set(
    config: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Once, and says so if it cannot be had."""
    made_by, answers = signer("ES256", 1), [200, 500]

    async def serve(request: web.Request) -> web.Response:
        return web.Response(body=key_set(made_by.published("ours")), status=answers.pop(0))

    app = web.Application()
    app.router.add_get("/", serve)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    add(config, f'[[auth.jwks]]\nurl = "{url}"\nalgorithms = ["ES256"]\nworkspaces = ["acme"]')
    token = made_by.token("ours", tier="standard", exp=time.time() + 60, user="u-1")
    argv = ["verify", f"oc_live_{token}", "--config", str(config)]
    assert await asyncio.to_thread(keys, *argv) == 0
    assert "user       u-1" in capsys.readouterr().out
    assert await asyncio.to_thread(keys, *argv) == 1
    assert f"the key set at {url} cannot be had: " in capsys.readouterr().err
    await runner.cleanup()


# sign


def sign(config: Path, algorithm: Algorithm, *argv: str | Path) -> int:
    own: list[str | Path] = ["--signing-key", algorithm, "--config", config]
    if algorithm != "HS256":
        own += ["--private-key", config.parent / f"{algorithm}-private.pem"]
    own += ["--subject", "visitor", "--workspace", "acme", "--tier", "standard"]
    return keys("sign", *own, *argv)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_signed_key_is_admitted(
    config: Path, capsys: pytest.CaptureFixture[str], algorithm: Algorithm
) -> None:
    """By the gateway with that config, for a quarter of an hour."""
    assert sign(config, algorithm) == 0
    key = capsys.readouterr().out.strip()
    principal = keyring(config).admit(key, time.time())
    assert (principal.key_id, principal.agents, principal.user) == ("visitor", None, None)
    assert principal.expires is not None
    assert 800 < principal.expires - time.time() <= 900
    assert keys("verify", key, "--config", config) == 0
    assert re.search("^user +none", capsys.readouterr().out, re.MULTILINE)


def test_a_signed_key_says_what_was_asked(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Agents, user, expiry, environment."""
    argv = ["--agent", "2", "--user", "u-17", "--expires", "1h", "--jti", "j1", "--env", "test"]
    assert sign(config, "HS256", *argv) == 0
    key = capsys.readouterr().out.strip()
    principal = keyring(config).admit(key, time.time())
    assert (principal.agents, principal.user) == (frozenset({2}), "u-17")
    assert key.startswith("oc_test_")
    assert principal.expires is not None
    assert 3500 < principal.expires - time.time() <= 3600


@pytest.mark.parametrize(
    ("argv", "reason"),
    [
        (["--workspace", "globex"], "`workspace`"),
        (["--tier", "platinum"], "`tier`"),
        (["--user", "a b"], "`user`"),
        (["--subject", ""], "`sub`"),
        (["--subject", "s" * 6000], "the key is not valid"),
        (["--jti", "stolen"], "it was revoked"),
        (["--signing-key", "absent"], "has HS256, RS256, ES256, EdDSA"),
        (["--private-key", "x.pem"], "leave --private-key out"),
    ],
)
def test_a_key_that_would_be_refused_is_not_printed(
    config: Path, capsys: pytest.CaptureFixture[str], argv: list[str], reason: str
) -> None:
    """The reason is."""
    assert sign(config, "HS256", *argv) == 1
    said = capsys.readouterr()
    assert reason in said.err
    assert said.out == ""


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        ("RS256-private.pem", "is not the other half of --private-key"),
        ("ES256-private.pem", "no private key for RS256"),
        ("RS256.pem", "no private key for RS256"),
        ("absent.pem", "absent.pem: No such file"),
        ("gateway.toml", "no private key for RS256"),
    ],
)
def test_a_private_key_that_does_not_fit_is_told(
    config: Path, capsys: pytest.CaptureFixture[str], file: str, reason: str
) -> None:
    """What was to be signed with it is not printed, nor is the key."""
    (config.parent / "RS256.pem").write_text(signer("RS256", 1).public)
    assert sign(config, "RS256", "--private-key", config.parent / file) == 1
    said = capsys.readouterr()
    assert reason in said.err
    assert "BEGIN" not in said.err
    assert said.out == ""


def test_a_public_key_signs_nothing_without_its_other_half(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """HS256 alone finds its secret in the configuration."""
    argv = ["--subject", "a", "--workspace", "acme", "--tier", "standard"]
    assert keys("sign", "--signing-key", "ES256", *argv, "--config", config) == 1
    assert "ES256 needs --private-key" in capsys.readouterr().err


@pytest.mark.parametrize("command", [[], ["create"], ["verify"], ["sign"]])
def test_help_teaches(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Each command has an example."""
    with pytest.raises(SystemExit) as caught:
        keys(*command, "--help")
    assert caught.value.code == 0
    said = capsys.readouterr().out
    assert f"oc-gateway keys {command[0]}" in said if command else "oc_live_..." in said
