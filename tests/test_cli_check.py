"""`oc-gateway check`."""

from pathlib import Path

import pytest

from gateway.cli.main import main
from gateway.config.schema import written_schema

VALID = """
[limits.tiers.standard]
requests = "100/10s"

[upstreams.llm]
kind = "openai"
base_url = "https://llm.example/v1"
credential = { env = "TEST_CHECK_LLM_KEY" }

[[agents]]
id = 1
workspace = "acme"
name = "Support"
identity_secret = { file = "identity.key" }
targets = [{ upstream = "llm", model = "m" }]

[[keys]]
id = "web"
hash = "sha256:0000000000000000000000000000000000000000000000000000000000000001"
workspace = "acme"
tier = "standard"

[[keys]]
id = "app"
hash = "sha256:0000000000000000000000000000000000000000000000000000000000000002"
workspace = "acme"
tier = "standard"
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A valid file, its secrets in place."""
    monkeypatch.setenv("TEST_CHECK_LLM_KEY", "s3cret")
    (tmp_path / "identity.key").write_text("s3cret")
    path = tmp_path / "gateway.toml"
    path.write_text(VALID)
    return path


def test_a_valid_file(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line says that the file is right, and how much is in it."""
    assert main(["check", str(file)]) == 0
    out, err = capsys.readouterr()

    assert out == f"{file} is valid: 1 agent, 1 upstream, 2 keys\n"
    assert err == ""


def test_routes(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--routes adds where each agent leads."""
    assert main(["check", str(file), "--routes"]) == 0

    assert capsys.readouterr().out.splitlines()[2:] == [
        'agent 1 "Support", workspace acme',
        "  1. llm: openai at llm.example, model m",
    ]


def test_secrets_that_are_not_here(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A secret may be set where the gateway runs: it is a warning, and the routes are shown."""
    monkeypatch.delenv("TEST_CHECK_LLM_KEY")
    (file.parent / "identity.key").unlink()

    assert main(["check", str(file), "--routes"]) == 0
    out, err = capsys.readouterr()

    assert 'agent 1 "Support"' in out
    assert err.splitlines() == [
        f"{file}: warning: upstreams.llm.credential: the environment variable TEST_CHECK_LLM_KEY"
        " is not set or empty",
        f"{file}: warning: agents[0].identity_secret (agent 1): the file 'identity.key' cannot be"
        " read: no such file or directory",
    ]


def test_a_key_without_agents(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A key for a workspace that has no agent is most likely misspelt."""
    text = VALID.replace('"app"\n', '"app" # other\n').replace("acme", "acne")
    file.write_text(text.replace("acne", "acme", 2))

    assert main(["check", str(file)]) == 0

    assert capsys.readouterr().err.splitlines() == [
        f'{file}: warning: keys[1].workspace (key app): "acne" has no agents'
    ]


def test_all_problems(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong file is exit code 2, and every problem on standard error."""
    file.write_text(VALID.replace("standard]", "gold]").replace("kind", "knd"))

    assert main(["check", str(file)]) == 2
    out, err = capsys.readouterr()

    assert out == ""
    assert err.splitlines()[0] == f"{file}: 4 problems"
    assert "  upstreams.llm.knd: unknown key; did you mean kind?" in err.splitlines()
    assert "s3cret" not in err


def test_a_transcript_that_is_no_use(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What the file refers to and the gateway could not start without is a problem as well."""
    replay = '[upstreams.recorded]\nkind = "replay"\nfile = "nope.jsonl"\n'
    file.write_text(VALID.replace("[upstreams.llm]", f"{replay}\n[upstreams.llm]"))

    assert main(["check", str(file)]) == 2

    problem = "upstreams.recorded.file: the transcript 'nope.jsonl' is no use"
    assert capsys.readouterr().err == f"{file}: {problem}: no such file or directory\n"


def test_the_file_from_the_environment(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a name, the file is the one that the gateway would serve."""
    monkeypatch.setenv("OC_GATEWAY_CONFIG", str(file))

    assert main(["check"]) == 0

    assert capsys.readouterr().out.startswith(f"{file} is valid")


def test_the_file_in_the_folder(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without anything, it is ./gateway.toml, and its neighbours are found."""
    monkeypatch.delenv("OC_GATEWAY_CONFIG", raising=False)
    monkeypatch.chdir(file.parent)

    assert main(["check"]) == 0

    assert capsys.readouterr() == ("gateway.toml is valid: 1 agent, 1 upstream, 2 keys\n", "")


def test_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that is not there is a wrong configuration, not a traceback."""
    assert main(["check", str(tmp_path / "nope.toml")]) == 2

    assert "nope.toml: cannot be read: no such file" in capsys.readouterr().err


def test_the_schema(capsys: pytest.CaptureFixture[str]) -> None:
    """--schema prints the schema, and needs no file."""
    assert main(["check", "--schema"]) == 0

    assert capsys.readouterr().out == written_schema()
