"""Where a change of a file is seen: its folder, and those of the links on the way."""

import os
from pathlib import Path

import pytest

from gateway.config.file import ConfigFile
from gateway.reload.files import files, folders, signature

NAMING = """
[limits.tiers.standard]
requests = "1/1s"
[store]
url = "postgresql://gateway@db.test/gateway"
password = { file = "password" }
[upstreams.llm]
kind = "openai"
base_url = "https://llm.test"
credential = { file = "/run/secrets/credential" }
verify = "bundle.pem"
[upstreams.plain]
kind = "openai"
base_url = "https://plain.test"
credential = { env = "CREDENTIAL" }
[upstreams.recorded]
kind = "replay"
file = "answer.jsonl"
[[agents]]
id = 1
workspace = "acme"
name = "Support"
identity_secret = { file = "identity" }
targets = [{ upstream = "recorded" }]
[[auth.signing_keys]]
id = "one"
algorithm = "HS256"
secret = { file = "signing" }
workspaces = ["acme"]
[[auth.jwks]]
file = "keys.json"
algorithms = ["EdDSA"]
workspaces = ["acme"]
[[auth.jwks]]
url = "https://keys.test/jwks.json"
algorithms = ["EdDSA"]
workspaces = ["acme"]
"""


def test_every_file_that_is_named(tmp_path: Path) -> None:
    """And the file itself; paths begin at its folder."""
    path = tmp_path / "gateway.toml"
    path.write_text(NAMING)
    file = ConfigFile(path)
    named = ["password", "bundle.pem", "answer.jsonl", "identity", "signing", "keys.json"]
    wanted = {path, Path("/run/secrets/credential"), *(tmp_path / name for name in named)}
    assert set(files(file, file.read())) == wanted


def test_a_plain_file(tmp_path: Path) -> None:
    """Its folder, whether it is there or not; else the next folder above that is."""
    (tmp_path / "there").mkdir()
    assert folders([tmp_path / "there" / "file"]) == {tmp_path / "there"}
    assert folders([tmp_path / "there" / "absent" / "deeper" / "file"]) == {tmp_path / "there"}


def test_a_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It begins where the process is."""
    monkeypatch.chdir(tmp_path)
    assert folders([Path("gateway.toml")]) == {tmp_path}


def test_links_on_the_way(tmp_path: Path) -> None:
    """As Kubernetes mounts a folder: each link may be exchanged, and so may the file."""
    mounted, version = tmp_path / "mounted", tmp_path / "mounted" / "..1"
    version.mkdir(parents=True)
    (version / "file").write_text("")
    (mounted / "..data").symlink_to("..1")
    (mounted / "file").symlink_to("..data/file")
    assert folders([mounted / "file"]) == {mounted, version}


@pytest.mark.parametrize("target", ["../real/file", "{root}/real/../real/file"])
def test_links_out_of_the_folder(tmp_path: Path, target: str) -> None:
    """Relative or absolute, with steps back in them."""
    for name in ("real", "linked"):
        (tmp_path / name).mkdir()
    (tmp_path / "linked" / "file").symlink_to(target.format(root=tmp_path))
    assert folders([tmp_path / "linked" / "file"]) == {tmp_path / "linked", tmp_path / "real"}


def test_a_folder_that_is_a_link(tmp_path: Path) -> None:
    """It may come to lead elsewhere, with all that is in it."""
    (tmp_path / "real").mkdir()
    (tmp_path / "current").symlink_to("real")
    assert folders([tmp_path / "current" / "file"]) == {tmp_path, tmp_path / "real"}


def test_links_in_a_circle(tmp_path: Path) -> None:
    """They lead nowhere, and the folder they are in is watched."""
    (tmp_path / "one").symlink_to("two")
    (tmp_path / "two").symlink_to("one")
    assert folders([tmp_path / "one"]) == {tmp_path}
    assert signature(tmp_path / "one") is None


def test_what_a_signature_sees(tmp_path: Path) -> None:
    """Another content, also of the same length and date; another file; a file that has gone."""
    path = tmp_path / "file"
    path.write_text("one")
    seen = [signature(path)]
    assert signature(path) == seen[0]
    path.write_text("two")
    os.utime(path, ns=(0, 0))
    seen.append(signature(path))
    (tmp_path / "new").write_text("two")
    os.utime(tmp_path / "new", ns=(0, 0))
    (tmp_path / "new").replace(path)
    seen.append(signature(path))
    path.unlink()
    seen.append(signature(path))
    assert len(set(seen)) == 4
    assert seen[-1] is None
