"""How many workers there are, and what of the config is each one's."""

import os
from pathlib import Path

import pytest

from gateway.config.model import Config
from gateway.config.problems import ConfigError
from gateway.workers.count import cores, wanted
from gateway.workers.parts import Part, partial_config


def config(workers: int | str = "auto", **upstream: object) -> Config:
    return Config.model_validate(
        {
            "server": {"workers": workers},
            "upstreams": {"echo": {"kind": "echo", **upstream}, "other": {"kind": "echo"}},
            "agents": [
                {
                    "id": 1,
                    "workspace": "acme",
                    "name": "Support",
                    "targets": [{"upstream": "echo"}, {"upstream": "other", "max_streams": 7}],
                }
            ],
        }
    )


@pytest.fixture
def four(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that may run on four cores."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 5}, raising=False)


def grouped(folder: Path, line: str, **files: str) -> int:
    """The cores of a process whose group is this, with these files of groups."""
    (folder / "cgroup").write_text(line)
    for name, text in files.items():
        path = folder / "mounted" / name.replace("__", "/").replace("_DOT_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return cores(folder / "cgroup", folder / "mounted")


@pytest.mark.parametrize(
    ("line", "files", "found"),
    [
        ("0::/\n", {}, 4),
        ("0::/\n", {"cpu_DOT_max": "max 100000\n"}, 4),
        ("0::/\n", {"cpu_DOT_max": "200000 100000\n"}, 2),
        ("0::/\n", {"cpu_DOT_max": "150000 100000\n"}, 2),
        ("0::/\n", {"cpu_DOT_max": "50000 100000\n"}, 1),
        ("0::/a/b\n", {"a__b__cpu_DOT_max": "max 100000", "a__cpu_DOT_max": "300000 100000"}, 3),
        ("0::/not/here\n", {"cpu_DOT_max": "100000 100000"}, 1),
        (
            "4:cpu,cpuacct:/docker/1\n",
            {"cpu__cpu_DOT_cfs_quota_us": "250000", "cpu__cpu_DOT_cfs_period_us": "100000"},
            3,
        ),
        (
            "4:cpu:/\n",
            {"cpu__cpu_DOT_cfs_quota_us": "-1", "cpu__cpu_DOT_cfs_period_us": "100000"},
            4,
        ),
        ("3:cpuset:/\n", {"cpu_DOT_max": "100000 100000"}, 4),
        ("0::/\n", {"cpu_DOT_max": "nonsense"}, 4),
    ],
)
@pytest.mark.usefixtures("four")
def test_cores(line: str, files: dict[str, str], found: int, tmp_path: Path) -> None:
    """Those that it may run on, or the share of them that its containers have, rounded up."""
    assert grouped(tmp_path, line, **files) == found


@pytest.mark.usefixtures("four")
def test_no_groups(tmp_path: Path) -> None:
    assert cores(tmp_path / "none", tmp_path) == 4


def test_as_many_as_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """ "auto" is never more than what each can have a part of."""
    monkeypatch.setattr("gateway.workers.count.cores", lambda: 16)

    assert wanted(config(3)) == 3
    assert wanted(config("auto")) == 7
    assert wanted(config("auto", max_streams=5)) == 5
    assert wanted(config("auto", max_streams=500)) == 7


@pytest.mark.parametrize("total", [4, 5, 7, 100, 101])
def test_parts_add_up(total: int) -> None:
    parts = [Part(number, 4).of(total) for number in (1, 2, 3, 4)]

    assert sum(parts) == total
    assert max(parts) - min(parts) <= 1


def test_a_part_of_the_config() -> None:
    """Of what holds for all together, its part; nobody's queue is of none; no stream that would be
    come back to elsewhere."""
    whole = config(3, max_streams=10, queue={"size": 4, "timeout": "1s"})
    first, last = (partial_config(whole, Part(number, 3)) for number in (1, 3))

    assert [c.upstreams["echo"].max_streams for c in (first, last)] == [4, 3]
    assert [c.agents[0].targets[1].max_streams for c in (first, last)] == [3, 2]
    assert first.agents[0].targets[0].max_streams is None
    assert first.upstreams["echo"].queue.size == last.upstreams["echo"].queue.size == 2
    assert whole.server.resume.on_request
    assert not first.server.resume.on_request
    assert whole.upstreams["echo"].max_streams == 10


def test_no_part_of_a_reloaded_config() -> None:
    """Where "auto" counted the workers, a file may come to say less than that."""
    with pytest.raises(ConfigError) as caught:
        partial_config(config("auto", max_streams=7), Part(1, 8))

    assert [problem.where for problem in caught.value.problems] == [
        "upstreams.echo.max_streams",
        "agents[0].targets[1].max_streams",
    ]
