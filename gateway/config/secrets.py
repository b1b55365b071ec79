"""Secrets, from where the config says they are."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from gateway.config.model import Config
from gateway.config.problems import ConfigError, Problem
from gateway.config.reading import content
from gateway.config.values import Secret


class MissingSecret(ConfigError):
    """A secret that is not where the config says, or cannot be used; names the place, never a
    value."""


def reveal(
    secret: Secret, base: Path, environ: Mapping[str, str] = os.environ, where: str | None = None
) -> str:
    """The secret itself. `base` is the config file's folder, to which its paths are relative.

    `where` is the path in the config that refers to it, for the message. Raises `MissingSecret`.
    """
    if secret.env is not None:
        value, fault = environ.get(secret.env, ""), "is not set or empty"
    else:
        value, fault = _content(base / (secret.file or ""))
    if not value.strip():
        raise MissingSecret(base, [Problem(where or "", f"{_place(secret)} {fault}")])
    return value


def reveal_credential(
    secret: Secret, base: Path, environ: Mapping[str, str] = os.environ, where: str | None = None
) -> str:
    """The same for a secret that is sent in a header. Sent as it stands, a line break in it would
    begin a header of somebody's own: raises `MissingSecret` for what no header can hold."""
    value = reveal(secret, base, environ, where)
    if not (value.isascii() and value.isprintable()):
        fault = "holds a line break or another character that no header can"
        raise MissingSecret(base, [Problem(where or "", f"{_place(secret)} {fault}")])
    return value


def _place(secret: Secret) -> str:
    if secret.env is not None:
        return f"the environment variable {secret.env}"
    return f"the file {secret.file!r}"


def _content(path: Path) -> tuple[str, str]:
    """A file's text without its final line end, and what is wrong if that is nothing."""
    try:
        text = content(path).decode("utf-8")
    except OSError as exc:
        return "", f"cannot be read: {(exc.strerror or 'unknown reason').lower()}"
    except ValueError:  # bytes that are not UTF-8, or a path that can be none
        return "", "is not a text file"
    return text.removesuffix("\n").removesuffix("\r"), "is empty"


def places(config: Config) -> Iterator[tuple[str, Secret]]:
    """Every secret that the config refers to, with the path of the reference."""
    if config.admin.token:
        yield "admin.token", config.admin.token
    if config.server.tls:  # a certificate is no secret, but wanted in the same way
        yield "server.tls.certificate", Secret(file=config.server.tls.certificate)
        yield "server.tls.key", Secret(file=config.server.tls.key)
    if config.store.password:
        yield "store.password", config.store.password
    for name, header in config.tracing.headers.items():
        yield f"tracing.headers.{name}", header
    for name, upstream in config.upstreams.items():
        if upstream.credential:
            yield f"upstreams.{name}.credential", upstream.credential
    for index, agent in enumerate(config.agents):
        if agent.identity_secret:
            yield f"agents[{index}].identity_secret (agent {agent.id})", agent.identity_secret
    yield from _of_auth(config)


def _of_auth(config: Config) -> Iterator[tuple[str, Secret]]:
    for index, key in enumerate(config.auth.signing_keys):
        for field, secret in (("secret", key.secret), ("public_key", key.public_key)):
            if secret:
                yield f"auth.signing_keys[{index}].{field} ({key.id})", secret
    for index, jwks in enumerate(config.auth.jwks):
        if jwks.file:  # no secret, but wanted in the same way
            yield f"auth.jwks[{index}].file", Secret(file=jwks.file)


def _is_sent(where: str) -> bool:
    """Whether it goes into a header."""
    sent = where == "admin.token" or where.endswith(".credential")
    return sent or where.startswith("tracing.headers.")


def missing(config: Config, base: Path, environ: Mapping[str, str]) -> list[Problem]:
    """The secrets that are not there, or cannot be used."""
    problems: list[Problem] = []
    for where, secret in places(config):
        try:
            read = reveal_credential if _is_sent(where) else reveal
            read(secret, base, environ, where)
        except MissingSecret as exc:
            problems += exc.problems
    return problems
