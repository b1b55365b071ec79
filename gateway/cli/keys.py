"""`oc-gateway keys`: make a key, sign one, find out what one may do."""

import argparse
import re
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.cli.arguments import agent_id, seconds
from gateway.cli.loading import fail, load_config, reveal_of
from gateway.cli.run import add_config

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gateway.auth.keyring import Keyring
    from gateway.auth.principal import Principal
    from gateway.config.model import Config, Key

    _Commands = argparse._SubParsersAction[argparse.ArgumentParser]

_EPILOG = """\
A client sends its key as "Authorization: Bearer oc_live_...". The gateway keeps the hashes of
keys only: a key that is lost cannot be shown again, so make another and remove the old entry.
"""
_CREATE_EPILOG = """\
examples:
  oc-gateway keys create --workspace acme
  oc-gateway keys create --workspace acme --agent 123 --agent 124 --tier widget --expires 90d

To replace a key without a gap, make one with the same --id, paste its entry below the old one,
reload, give the key to the client, and remove the old entry once it is no longer used.
"""
_VERIFY_EPILOG = """\
examples:
  oc-gateway keys verify                      asks for the key and does not show it
  oc-gateway keys verify < key.txt
  oc-gateway keys verify "$OC_KEY"            other users of this machine may see it meanwhile

Exit code: 0 the key is valid, 1 it is not, 2 the configuration is wrong.
"""
_SIGN_EPILOG = """\
examples:
  oc-gateway keys sign --signing-key site --private-key site.pem \\
      --subject visitor --workspace acme --tier widget --user u-17 --expires 15m
  oc-gateway keys sign --signing-key shared --subject nightly --workspace acme --tier batch

Whoever issues such keys does so without the gateway: a signed key is oc_live_ and a JWT with
`kid` in its header and the claims sub, workspace, tier, exp and, if wanted, agents, user, nbf, jti.
"""


def define(parser: argparse.ArgumentParser) -> None:
    """With its commands create, verify and sign."""
    parser.description = "Make, sign and verify the keys of clients."
    parser.epilog = _EPILOG
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_create(commands)
    _add_verify(commands)
    _add_sign(commands)


def _add(commands: "_Commands", name: str, summary: str, epilog: str) -> argparse.ArgumentParser:
    return commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _add_create(commands: "_Commands") -> None:
    parser = _add(commands, "create", "make a key, and its entry for gateway.toml", _CREATE_EPILOG)
    _add_scope(parser)
    parser.add_argument("--tier", type=_name, default="standard", help="default: standard")
    parser.add_argument("--expires", type=seconds, metavar="TIME", help="e.g. 90d; default: never")
    parser.add_argument("--id", type=_name, metavar="NAME", help="default: made from the workspace")
    parser.set_defaults(run=_create)


def _add_verify(commands: "_Commands") -> None:
    parser = _add(commands, "verify", "say what a key may do, or why it is refused", _VERIFY_EPILOG)
    parser.add_argument(
        "key", nargs="?", default="-", metavar="KEY", help="default: - (standard input)"
    )
    add_config(parser)
    parser.set_defaults(run=_verify)


def _add_sign(commands: "_Commands") -> None:
    parser = _add(commands, "sign", "sign a key that expires", _SIGN_EPILOG)
    parser.add_argument(
        "--signing-key", required=True, metavar="ID", help="one of [[auth.signing_keys]]"
    )
    parser.add_argument(
        "--private-key", type=Path, metavar="FILE", help="a PEM; HS256: the configured secret"
    )
    parser.add_argument("--subject", required=True, metavar="ID", help="the id of the signed key")
    _add_scope(parser)
    parser.add_argument("--tier", type=_name, required=True, help="a name in [limits.tiers]")
    parser.add_argument("--user", metavar="ID", help="the end user it is for")
    parser.add_argument(
        "--expires", type=seconds, default="15m", metavar="TIME", help="default: 15m"
    )
    parser.add_argument("--jti", metavar="ID", help="a name to revoke it by ([auth] revoked)")
    add_config(parser)
    parser.set_defaults(run=_sign)


def _add_scope(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--workspace", type=_name, required=True, help="whose agents it may use")
    parser.add_argument(
        "--agent",
        type=agent_id,
        action="append",
        dest="agents",
        metavar="N",
        help="one of them, repeatable; default: all of the workspace",
    )
    parser.add_argument("--env", choices=("live", "test"), default="live", help="default: live")


def _name(value: str) -> str:
    from gateway.config.values import NAME

    if not re.fullmatch(NAME, value):
        raise argparse.ArgumentTypeError(
            "a name has 1 to 64 letters, digits, dots, underscores and hyphens, and begins with a"
            " letter or digit"
        )
    return value


def _create(args: argparse.Namespace) -> int:
    from gateway.auth.mint import new_key

    key = new_key(args.env)
    print("# The key. It is not kept anywhere and never shown again:")
    print(key)
    print("\n# Its entry for gateway.toml:")
    print(_entry(args, key, time.time()))
    return 0


def _entry(args: argparse.Namespace, key: str, now: float) -> str:
    """The key's `[[keys]]`. Names need no escapes, so Python's own words are TOML's."""
    import secrets

    from gateway.auth.mint import key_hash

    lines = [
        "[[keys]]",
        f'id = "{args.id or f"{args.workspace[:55]}-{secrets.token_hex(4)}"}"',
        f'hash = "{key_hash(key)}"',
        f'workspace = "{args.workspace}"',
        f"agents = {args.agents}" if args.agents else "",
        f'tier = "{args.tier}"',
        f"expires = {_written(now + args.expires)}" if args.expires else "",
    ]
    return "\n".join(filter(None, lines))


def _written(moment: float) -> str:
    return f"{datetime.fromtimestamp(int(moment), UTC):%Y-%m-%dT%H:%M:%SZ}"


def _verify(args: argparse.Namespace) -> int:
    from gateway.auth.keyring import Keyring, is_signed

    config = load_config(args.config)
    if config is None:
        return 2
    key = _read_key() if args.key == "-" else args.key
    # Without the signing keys, whose secrets this machine may not have.
    opaque = Keyring(keys=config.keys)
    entry = opaque.find(key)
    if entry is not None:
        return _report_entry(entry, opaque, key)
    if is_signed(key):
        return _report_signed(config, args.config, key)
    if not re.match("oc_(live|test)_", key):
        return fail("not valid: a key begins with oc_live_ or oc_test_")
    return fail("not valid: no entry of [[keys]] has its hash")


def _read_key() -> str:
    if sys.stdin.isatty():
        import getpass

        return getpass.getpass("key: ").strip()
    return sys.stdin.readline().strip()


def _report_entry(entry: "Key", keyring: "Keyring", key: str) -> int:
    _print_scope(entry.id, entry.workspace, entry.agents, entry.tier)
    print(f"expires    {entry.expires or 'never'}")
    print(f"disabled   {'yes' if entry.disabled else 'no'}")
    return 1 if _admit(keyring, key) is None else 0


def _report_signed(config: "Config", path: Path, key: str) -> int:
    import asyncio

    from gateway.auth.keyring import build_keyring
    from gateway.config.load import ConfigError

    try:
        keyring = build_keyring(config, reveal_of(path))
    except (ConfigError, ValueError) as exc:
        fail(str(exc))
        return 2
    asyncio.run(_fetch(keyring))
    principal = _admit(keyring, key)
    if principal is None:
        return 1
    _print_scope(principal.key_id, principal.workspace, principal.agents, principal.tier)
    print(f"user       {principal.user or 'none'}")
    print(f"expires    {_written(principal.expires or 0.0)}")
    return 0


async def _fetch(keyring: "Keyring") -> None:
    for refresher in keyring.refreshers:
        await refresher.refresh()
        if refresher.problem is not None:
            fail(f"the key set at {refresher.url} cannot be had: {refresher.problem}")


def _admit(keyring: "Keyring", key: str) -> "Principal | None":
    from gateway.core.errors import GatewayError

    try:
        principal = keyring.admit(key, time.time())
    except GatewayError as exc:
        fail(f"not valid: {exc.message}")
        return None
    print("valid")
    return principal


def _print_scope(key_id: str, workspace: str, agents: "Iterable[int] | None", tier: str) -> None:
    print(f"id         {key_id}")
    print(f"workspace  {workspace}")
    print(f"agents     {'all' if agents is None else ', '.join(map(str, sorted(agents)))}")
    print(f"tier       {tier}")


def _sign(args: argparse.Namespace) -> int:
    from gateway.cli.keys_sign import sign

    return sign(args)
