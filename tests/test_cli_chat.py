"""`oc-gateway chat`, against a gateway in a process of its own."""

import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serving import Served, cli, demo_config, served


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One for all of this module."""
    config: Path = demo_config(tmp_path_factory.mktemp("gateway"))
    with served(["--config", str(config), "--port", "0"]) as running:
        yield running


def test_one_message(gateway: Served) -> None:
    """The answer goes to standard output, and the conversation's id beside it."""
    done = cli("chat", "1", "Where is 注文 7?", "--url", gateway.url)
    assert done.returncode == 0
    assert done.stdout == "Where is 注文 7?\n[What you said: https://example.com/echo]\n\n"
    assert re.fullmatch(r"\[conversation \d+\]\n", done.stderr)


def test_lines_continue_the_conversation(gateway: Served) -> None:
    """Each line of the input is one turn of one conversation; empty ones are none."""
    done = cli("chat", "echo", "--url", gateway.url, "--user", "u1", stdin="one\n\n  \ntwo\n")
    assert done.returncode == 0
    texts = [line for line in done.stdout.splitlines() if line and not line.startswith("[")]
    assert texts == ["one", "two"]
    (conversation,) = re.findall(r"\[conversation (\d+)\]", done.stderr)
    again = cli("chat", "1", "three", "--url", gateway.url + "/", "--conversation", conversation)
    assert again.returncode == 0
    assert f"[conversation {conversation}]" in again.stderr


def test_tool_call(gateway: Served) -> None:
    """A tool call is shown: nobody here can run it."""
    done = cli("chat", "1", '/tool order_status {"order": 7}', "--url", gateway.url)
    assert done.returncode == 0
    assert "order_status" in done.stdout


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["99", "hi"], "404 RESOURCE_NOT_FOUND: agent not found"),
        (["1", "hi", "--conversation", "1"], "404 RESOURCE_NOT_FOUND"),
        (["1", "hi", "--user", "a b"], "400 VALIDATION_INVALID_BODY"),
    ],
)
def test_refused(gateway: Served, args: list[str], said: str) -> None:
    """Exit code 1, and what the gateway said."""
    done = cli("chat", *args, "--url", gateway.url)
    assert (done.returncode, done.stdout) == (1, "")
    assert said in done.stderr


def test_one_failed_turn_of_several(gateway: Served) -> None:
    """Whatever follows it, a turn that failed is in the exit code."""
    long = "x" * (1 << 20)
    done = cli("chat", "1", "--url", gateway.url, stdin=f"{long}\nhi\n")
    assert "413" in done.stderr
    assert "hi" in done.stdout
    assert done.returncode == 1


def test_wrong_key(gateway: Served) -> None:
    """OC_KEY is the key; a wrong one is refused, and never shown."""
    done = cli("chat", "1", "hi", "--url", gateway.url, OC_KEY="oc_live_canary")
    assert done.returncode == 1
    assert "401 AUTH_INVALID_API_KEY" in done.stderr
    assert "canary" not in done.stderr


@pytest.mark.parametrize("key", ["oc_live_canary\n", "oc_live_canary\u2028"])
def test_key_that_no_header_can_hold(gateway: Served, key: str) -> None:
    """Exit code 2 and a hint; Python's own complaint would show the key."""
    done = cli("chat", "1", "hi", "--url", gateway.url, OC_KEY=key)
    assert done.returncode == 2
    assert "OC_KEY" in done.stderr
    assert "canary" not in done.stderr


def test_nobody_there() -> None:
    """Exit code 1 and one line."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    done = cli("chat", "1", "hi", "--url", url)
    assert done.returncode == 1
    assert done.stderr == f"no answer from {url}: [Errno 111] Connection refused\n"


@pytest.mark.parametrize("url", ["http://127.0.0.1:99999", "http://[::1"])
def test_url_that_is_none(url: str) -> None:
    """Exit code 2, without a traceback."""
    done = cli("chat", "1", "hi", "--url", url)
    assert done.returncode == 2
    assert "--url" in done.stderr
    assert "Traceback" not in done.stderr
