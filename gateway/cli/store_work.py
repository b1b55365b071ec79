"""`oc-gateway store`: what its commands do, imported when one runs."""

import argparse
import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from msgspec import Struct

from gateway.cli.loading import fail, load_config
from gateway.cli.store_export import Chosen, export
from gateway.config.load import ConfigError
from gateway.config.model import StoreConfig
from gateway.config.secrets import reveal
from gateway.conversations.access import milliseconds
from gateway.conversations.build import MEMORY, build_store, sqlite_file
from gateway.conversations.pruner import prunable, prune
from gateway.conversations.store import Store, StoreError
from gateway.core.conversation import Feedback

_BYTES = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


class _Opened(Struct, frozen=True):
    """A store at hand. `found` is the version that its schema had before."""

    store: Store
    config: StoreConfig
    found: int


def work(args: argparse.Namespace) -> int:
    """Do what the command line says; its exit code."""
    config = load_config(args.config)
    if config is None:
        return 2
    base: Path = args.config.parent
    if fault := _unreachable(config.store, base, args.command):
        fail(fault[1])
        return fault[0]
    try:
        store = build_store(
            config.store, base, lambda secret: reveal(secret, base, os.environ, "store.password")
        )
        return asyncio.run(_with(store, config.store, args))
    except ConfigError as exc:
        fail(str(ConfigError(args.config, exc.problems)))
        return 2
    except StoreError as exc:
        return fail(str(exc))


def _unreachable(config: StoreConfig, base: Path, command: str) -> tuple[int, str] | None:
    """Why there is nothing that the command could work on, and the exit code of that."""
    if config.url == MEMORY:
        said = "is in the gateway's own process, and gone with it: there is nothing to"
        return 2, f"[store] url {MEMORY} {said} {command} from here"
    file = sqlite_file(config.url, base)
    if command != "migrate" and file is not None and not file.exists():
        return 1, f"{file}: there is no such file yet; oc-gateway run or store migrate makes it"
    return None


async def _with(store: Store, config: StoreConfig, args: argparse.Namespace) -> int:
    found = await store.open()
    try:
        return await _COMMANDS[args.command](_Opened(store, config, found), args)
    finally:
        await store.close()


async def _migrate(opened: _Opened, _args: argparse.Namespace) -> int:
    version = (await opened.store.figures()).schema
    if not opened.found:
        print(f"made, with schema version {version}")
    elif opened.found == version:
        print(f"nothing to do: the schema has version {version} already")
    else:
        print(f"migrated from schema version {opened.found} to {version}")
    return 0


async def _status(opened: _Opened, _args: argparse.Namespace) -> int:
    figures = await opened.store.figures()
    print(f"store          {opened.config.url}")
    print(f"schema         {figures.schema}")
    print(f"conversations  {figures.conversations}")
    print(f"messages       {figures.messages}")
    print(f"size           {_size(figures.size)}")
    return 0


def _size(size: int) -> str:
    unit, name = next((each for each in _BYTES if size >= each[0]), _BYTES[-1])
    return f"{size / unit:.1f} {name}"


async def _export(opened: _Opened, args: argparse.Namespace) -> int:
    chosen = Chosen(
        agents=frozenset(args.agents or ()),
        workspace=args.workspace,
        user=args.user,
        feedback=Feedback(args.feedback) if args.feedback else None,
        since=args.since,
    )
    await export(opened.store, chosen, sys.stdout.buffer)
    return 0


async def _prune(opened: _Opened, args: argparse.Namespace) -> int:
    rules = opened.config
    if args.older_than is not None:
        rules = rules.model_copy(update={"ttl": args.older_than, "max_per_user": None})
    if rules.ttl is None and rules.max_per_user is None:
        fail("[store] has neither ttl nor max_per_user: say --older-than, e.g. 90d")
        return 2
    if args.dry_run:
        print(f"would forget {_counted(await prunable(opened.store, rules, milliseconds()))}")
    else:
        print(f"forgot {_counted(await prune(opened.store, rules, milliseconds()))}")
    return 0


def _counted(conversations: int) -> str:
    return f"{conversations} conversation{'' if conversations == 1 else 's'}"


_COMMANDS: dict[str, Callable[[_Opened, argparse.Namespace], Awaitable[int]]] = {
    "migrate": _migrate,
    "status": _status,
    "export": _export,
    "prune": _prune,
}
