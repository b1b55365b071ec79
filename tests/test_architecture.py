"""The rules that hold the rest up: who may import what, and how long things may be."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import gateway

ROOT = Path(gateway.__file__).parent

MAX_MODULE = 300
MAX_FUNCTION = 60

# Each may import those before it, and its own package.
ORDER: list[set[str]] = [
    {"core"},
    {"wire"},
    {"dialects", "upstreams"},
    {"config"},
    {"auth", "limits", "targets", "conversations", "observe"},
    {"proxy"},
    {"reload"},
    {"http", "admin"},
    {"stopping", "seat"},
    {"app"},
    {"workers"},
    {"cli"},
    {"__main__"},
]
RANKS = {part: rank for rank, parts in enumerate(ORDER) for part in parts}

# Bytes in, events out: no network, clock, chance, log or metric.
CODECS = {"core", "wire", "dialects", "upstreams"}
IMPURE = {
    "aiohttp",
    "aiohttp_sse",
    "asyncio",
    "httptools",
    "logging",
    "prometheus_client",
    "random",
    "secrets",
    "select",
    "selectors",
    "socket",
    "ssl",
    "structlog",
    "threading",
    "time",
    "uuid",
    "uvloop",
}

# JSON is written in one way, but for the log, which is not chat.
JSON = {"json", "orjson"}
SPEAK_JSON = {"gateway.wire.json", "gateway.observe.logs"}

# Loaded only where tracing is on.
SPEAK_OPENTELEMETRY = {"gateway.observe.otel", "gateway.observe.otel_export"}


def name_of(path: Path) -> str:
    """A file's name as a module: gateway/core/turn.py -> gateway.core.turn."""
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


MODULES = {name_of(path): path.read_text(encoding="utf-8") for path in ROOT.rglob("*.py")}


def imports(source: str) -> Iterator[str]:
    """Every module that is imported anywhere, in functions and for the type checker too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            assert node.module
            yield node.module
            # `from gateway.wire import json` names a module, too.
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def part(module: str) -> str:
    """gateway.core.turn -> core; what is no part of the gateway is "" """
    first, _, rest = module.partition(".")
    return rest.partition(".")[0] if first == "gateway" else ""


def against_the_order(module: str, source: str) -> list[str]:
    """What a module imports that does not come before it."""
    own = part(module)
    needed = {part(name) for name in imports(source)} & (RANKS.keys() - {own})
    return sorted(other for other in needed if RANKS[other] >= RANKS[own])


def impure(source: str) -> list[str]:
    """What a codec must not import."""
    return sorted({name.partition(".")[0] for name in imports(source)} & IMPURE)


def long_functions(source: str) -> list[str]:
    """Functions with more than `MAX_FUNCTION` lines."""
    return [
        node.name
        for node in ast.walk(ast.parse(source))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and (node.end_lineno or 0) - node.lineno + 1 > MAX_FUNCTION
    ]


def test_every_part_has_its_place() -> None:
    """A new package has to be put into the order, or the order would not hold for it."""
    parts = {part(module) for module in MODULES} - {""}

    assert parts <= RANKS.keys()
    assert parts >= CODECS


@pytest.mark.parametrize("module", sorted(MODULES.keys() - {"gateway"}))
def test_imports_point_one_way(module: str) -> None:
    """From the command line towards the core, and never sideways."""
    assert against_the_order(module, MODULES[module]) == []


@pytest.mark.parametrize("module", sorted(name for name in MODULES if part(name) in CODECS))
def test_codecs_do_no_io(module: str) -> None:
    """They can be fed anything, at any time, as fast as a test can."""
    assert impure(MODULES[module]) == []


@pytest.mark.parametrize("module", sorted(MODULES.keys() - SPEAK_JSON))
def test_json_is_imported_in_one_place(module: str) -> None:
    """So that every frame is on one line by anybody's idea of a line."""
    assert JSON.isdisjoint(imports(MODULES[module]))


@pytest.mark.parametrize("module", sorted(MODULES.keys() - SPEAK_OPENTELEMETRY))
def test_opentelemetry_is_imported_in_one_place(module: str) -> None:
    """It is an extra: everything else works without it."""
    assert "opentelemetry" not in {name.partition(".")[0] for name in imports(MODULES[module])}


@pytest.mark.parametrize("module", sorted(MODULES))
def test_modules_and_functions_are_short(module: str) -> None:
    """Each can be read in one sitting."""
    assert len(MODULES[module].splitlines()) <= MAX_MODULE
    assert long_functions(MODULES[module]) == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import gateway.proxy.relay", ["proxy"]),
        ("from gateway import app", ["app"]),
        ("from gateway.wire import json\nfrom gateway.core.events import Json", []),
        ("from gateway.upstreams import openai", ["upstreams"]),
        ("from gateway.dialects.bookbag import usage", []),
        ("def f():\n    from gateway.http import routes", ["http"]),
    ],
)
def test_the_order_is_kept_by_this_test(source: str, found: list[str]) -> None:
    """It sees each way of writing an import, sideways ones as well."""
    assert against_the_order("gateway.dialects.new", source) == found


def test_impurity_is_seen_by_this_test() -> None:
    """In each way of writing it, and only by the module's whole name."""
    assert impure("import time\nfrom asyncio.tasks import sleep\nimport timeit") == [
        "asyncio",
        "time",
    ]


def test_length_is_seen_by_this_test() -> None:
    """One line more than allowed is too many."""
    lines = "\n".join(["    pass"] * (MAX_FUNCTION - 1))

    assert long_functions(f"def f():\n{lines}") == []
    assert long_functions(f"async def f():\n{lines}\n    pass") == ["f"]
