"""The files of deploy/, read."""

from pathlib import Path
from typing import Any

import yaml

from gateway.config.load import load
from gateway.config.model import Config
from gateway.config.secrets import places
from tests.serving import ROOT

DEPLOY = ROOT / "deploy"

CONFIGS = sorted(DEPLOY.rglob("gateway.toml"))

# Data of foreign forms: their own programs say what is in it.
Document = dict[str, Any]


def documents(path: Path) -> list[Document]:
    """All of a YAML file."""
    return list(yaml.safe_load_all(path.read_text("utf-8")))


def document(path: Path) -> Document:
    """The only one of a YAML file."""
    (only,) = documents(path)
    return only


def config(folder: str) -> Config:
    """The gateway's own file in a folder of deploy/."""
    return load(DEPLOY / folder / "gateway.toml")


def variables(config: Config) -> set[str]:
    """The environment that a config names."""
    return {secret.env for _, secret in places(config) if secret.env}


def stopping(config: Config) -> float:
    """Seconds that a stop may take as far as the config says."""
    return config.server.drain_delay + config.server.drain_timeout
