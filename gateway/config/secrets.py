"""Secrets, from where the config says they are."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from gateway.config.model import Config
from gateway.config.problems import ConfigError, Problem
from gateway.config.values import Secret


class MissingSecret(ConfigError):
    """A secret that is not where the config says; names the place, never a value."""


def reveal(
    secret: Secret, base: Path, environ: Mapping[str, str] = os.environ, where: str | None = None
) -> str:
    """The secret itself. `base` is the config file's folder, to which its paths are relative.

    `where` is the path in the config that refers to it, for the message. Raises `MissingSecret`.
    """
    if secret.env is not None:
        value, place = environ.get(secret.env, ""), f"the environment variable {secret.env}"
        fault = "is not set or empty"
    else:
        place = f"the file {secret.file!r}"
        value, fault = _content(base / (secret.file or ""))
    if not value.strip():
        raise MissingSecret(base, [Problem(where or "", f"{place} {fault}")])
    return value


def _content(path: Path) -> tuple[str, str]:
    """A file's text without its final line end, and what is wrong if that is nothing."""
    try:
        text = path.read_text("utf-8")
    except OSError as exc:
        return "", f"cannot be read: {(exc.strerror or 'unknown reason').lower()}"
    except ValueError:  # bytes that are not UTF-8, or a path that can be none
        return "", "is not a text file"
    return text.removesuffix("\n").removesuffix("\r"), "is empty"


def places(config: Config) -> Iterator[tuple[str, Secret]]:
    """Every secret that the config refers to, with the path of the reference."""
    for name, upstream in config.upstreams.items():
        if upstream.credential:
            yield f"upstreams.{name}.credential", upstream.credential
    for index, agent in enumerate(config.agents):
        if agent.identity_secret:
            yield f"agents[{index}].identity_secret (agent {agent.id})", agent.identity_secret
    for index, key in enumerate(config.auth.signing_keys):
        for field, secret in (("secret", key.secret), ("public_key", key.public_key)):
            if secret:
                yield f"auth.signing_keys[{index}].{field} ({key.id})", secret


def missing(config: Config, base: Path, environ: Mapping[str, str]) -> list[Problem]:
    """The secrets that are not there."""
    problems: list[Problem] = []
    for where, secret in places(config):
        try:
            reveal(secret, base, environ, where)
        except MissingSecret as exc:
            problems += exc.problems
    return problems
