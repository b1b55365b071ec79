"""The file that a gateway was started from, to be read again."""

from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from gateway.config.load import loads, read
from gateway.config.model import Config


def _as_it_stands(config: Config) -> Config:
    return config


class ConfigFile(Struct, frozen=True):
    """`override` is what the command line changes about it, at every reading."""

    path: Path
    override: Callable[[Config], Config] = _as_it_stands

    @property
    def base(self) -> Path:
        """The folder that the config's paths are relative to."""
        return self.path.parent

    def read(self) -> Config:
        """Raises `ConfigError` with all problems of the file."""
        return self.parsed(self.text())

    def text(self) -> bytes:
        """As it stands now. Raises `ConfigError`."""
        return read(self.path)

    def parsed(self, text: bytes) -> Config:
        """What this text of it says. Raises `ConfigError` with all its problems."""
        return self.override(loads(text, self.path))
