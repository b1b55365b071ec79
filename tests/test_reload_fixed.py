"""What a reload says that it cannot change."""

import pytest

from gateway.config.model import Config, Server
from gateway.reload.fixed import as_started, needs_restart

BASE = {
    "limits": {"tiers": {"standard": {"requests": "1/1s"}}},
    "upstreams": {"echo": {"kind": "echo"}},
    "agents": [
        {"id": 1, "workspace": "acme", "name": "Support", "targets": [{"upstream": "echo"}]}
    ],
}


def config(**tables: object) -> Config:
    return Config.model_validate({**BASE, **tables})


@pytest.mark.parametrize(
    ("table", "values", "settings"),
    [
        ("server", {"host": "0.0.0.0", "port": 1}, ("server.host", "server.port")),
        ("server", {"mounts": {"openai": "/openai"}}, ("server.mounts",)),
        ("server", {"chatbase": {"variant": "seed"}}, ("server.chatbase",)),
        ("server", {"tls": {"certificate": "a", "key": "a"}}, ("server.tls",)),
        ("server", {"trusted_proxies": ["10.0.0.0/8"], "client_header": "Forwarded"}, ()),
        ("server", {"max_body": "2KiB", "drain_timeout": "1s", "drain_delay": "1s"}, ()),
        ("admin", {"host": "0.0.0.0", "port": 1}, ("admin.host", "admin.port")),
        ("admin", {"token": {"env": "TOKEN"}}, ()),
        ("store", {"url": "memory://"}, ("store.url",)),
        ("store", {"keep_partial": True, "timeout": "1s"}, ("store.timeout", "store.keep_partial")),
        ("store", {"ttl": "1h", "max_per_user": 3}, ()),
        ("limits", {"tiers": {"standard": {"requests": "9/1s"}}}, ()),
    ],
)
def test_settings(table: str, values: dict[str, object], settings: tuple[str, ...]) -> None:
    """By their paths in the file, in its order; what follows at once is not among them."""
    assert needs_restart(config(), config(**{table: values})) == settings


def test_a_setting_that_came_back() -> None:
    """It is what was started that counts."""
    assert needs_restart(config(server={"port": 1}), config(server={"port": 1})) == ()


def test_a_pair_is_exchanged_and_a_version_is_not() -> None:
    """A certificate is presented in the handshake, after its version was agreed upon."""
    started, other = {"certificate": "a", "key": "a"}, {"certificate": "b", "key": "b"}
    newer = {**other, "min_version": "1.3"}

    assert needs_restart(config(server={"tls": started}), config(server={"tls": other})) == ()
    assert needs_restart(config(server={"tls": other}), config(server={"tls": newer})) == (
        "server.tls",
    )
    assert needs_restart(config(server={"tls": other}), config()) == ("server.tls",)


def test_every_setting_of_the_listener_is_thought_of() -> None:
    """A new one either follows a reload, as these do, or is said to take a restart."""
    follow = {
        "max_body",
        "body_timeout",
        "drain_timeout",
        "drain_delay",
        "resume",
        "write_timeout",
        "trusted_proxies",
        "client_header",
    }
    fixed = {"host", "port", "workers", "mounts", "chatbase"}
    assert follow | fixed | {"tls"} == set(Server.model_fields)


def test_a_worker_that_starts_later() -> None:
    """It is as the gateway was started in all that takes a restart, and follows the rest."""
    pair = {"certificate": "a", "key": "a"}
    started = config(
        server={"port": 1, "tls": pair}, store={"url": "sqlite:///a.db"}, logs={"level": "error"}
    )
    wanted = config(
        server={"port": 2, "max_body": "2KiB", "tls": {**pair, "key": "b", "min_version": "1.3"}},
        store={"url": "sqlite:///b.db", "ttl": "1h"},
    )
    served = as_started(started, wanted)

    assert needs_restart(started, served) == ()
    assert needs_restart(served, wanted) == needs_restart(started, wanted)
    assert (served.server.max_body, served.store.ttl) == (2048, 3600.0)
    assert served.server.tls is not None
    assert (served.server.tls.key, served.server.tls.min_version) == ("b", "1.2")


def test_a_worker_begins_no_tls_by_itself() -> None:
    """The others have none, and meet the same clients."""
    plain, secured = config(), config(server={"tls": {"certificate": "a", "key": "a"}})

    assert as_started(plain, secured).server.tls is None
    assert as_started(secured, plain).server.tls == secured.server.tls
