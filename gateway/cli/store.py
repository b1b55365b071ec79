"""`oc-gateway store`: look after the conversations that are kept."""

import argparse
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from gateway.cli.arguments import agent_id, seconds
from gateway.cli.run import add_config

if TYPE_CHECKING:
    _Commands = argparse._SubParsersAction[argparse.ArgumentParser]

_EPILOG = """\
All of them may be used while gateways serve from the same store, and, as these do, bring its schema
up to date first. A store in memory:// lives in the gateway's process: nothing here can reach it.

Exit code: 0 done, 1 the store cannot be reached or used, 2 the configuration is wrong.
"""
_MIGRATE_EPILOG = """\
examples:
  oc-gateway store migrate
  oc-gateway store migrate --config prod.toml

`oc-gateway run` does the same when it starts. Beforehand and on its own, it shows what a new
version does to a large store, and how long that takes.
"""
_STATUS_EPILOG = """\
examples:
  oc-gateway store status
  oc-gateway store status --config prod.toml
"""
_EXPORT_EPILOG = """\
examples:
  oc-gateway store export > conversations.jsonl
  oc-gateway store export --feedback negative --since 7d | jq -r .title
  oc-gateway store export --agent 123 --since 2026-01-31

One line of JSON for each conversation, in no order that means anything:
  id, workspace, origin, agent, userId, title, status, createdAt, updatedAt, messages
and in each of its messages
  id, role, createdAt, parts
where an assistant's has besides
  finishReason (null: the answer broke off), usage, model, upstream, feedback
A part is one of
  {"type":"text","text"}              {"type":"tool-call","toolCallId","toolName","input"}
  {"type":"reasoning","text"}         {"type":"tool-result","toolCallId","output"}
  {"type":"citations","citations":[{"title","url","snippet"}]}
Times are Unix seconds. What was not known is null. Filters may be combined.
"""
_PRUNE_EPILOG = """\
examples:
  oc-gateway store prune --dry-run                    what [store] ttl and max_per_user let go
  oc-gateway store prune --older-than 90d --dry-run   what else would go
  oc-gateway store prune --older-than 90d

A gateway that runs does the first by itself, every minute.
"""


def define(parser: argparse.ArgumentParser) -> None:
    """With its commands migrate, status, export and prune."""
    parser.description = "Look after the conversations that are kept."
    parser.epilog = _EPILOG
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_command(commands, "migrate", "bring the schema up to date", _MIGRATE_EPILOG)
    _add_command(commands, "status", "say what is kept, and where", _STATUS_EPILOG)
    _add_export(commands)
    _add_prune(commands)


def _add(commands: "_Commands", name: str, summary: str, epilog: str) -> argparse.ArgumentParser:
    return commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _add_command(
    commands: "_Commands", name: str, summary: str, epilog: str
) -> argparse.ArgumentParser:
    parser = _add(commands, name, summary, epilog)
    add_config(parser)
    parser.set_defaults(run=_run, command=name)
    return parser


def _add_export(commands: "_Commands") -> None:
    parser = _add_command(
        commands, "export", "write the conversations as JSON Lines", _EXPORT_EPILOG
    )
    parser.add_argument(
        "--agent",
        type=agent_id,
        action="append",
        dest="agents",
        metavar="N",
        help="only this agent's; repeatable",
    )
    parser.add_argument("--workspace", metavar="NAME", help="only this workspace's")
    parser.add_argument("--user", metavar="ID", help="only this user's")
    parser.add_argument(
        "--feedback",
        choices=("positive", "negative"),
        help="only those with such feedback on a message",
    )
    parser.add_argument(
        "--since",
        type=_moment,
        metavar="TIME",
        help="only those with activity since then: 7d ago, or a date such as 2026-01-31 (UTC)",
    )


def _add_prune(commands: "_Commands") -> None:
    parser = _add_command(commands, "prune", "forget old conversations now", _PRUNE_EPILOG)
    parser.add_argument(
        "--older-than",
        type=seconds,
        metavar="TIME",
        help="those without activity for so long, e.g. 90d, instead of what [store] says",
    )
    parser.add_argument("--dry-run", action="store_true", help="only say how many that would be")


def _moment(value: str) -> int:
    """Unix milliseconds."""
    try:
        return int((time.time() - seconds(value)) * 1000)
    except argparse.ArgumentTypeError:
        pass
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        raise argparse.ArgumentTypeError(
            'a duration such as "7d", a date such as "2026-01-31", or a date and time such as'
            ' "2026-01-31T12:00:00Z"'
        ) from None
    return int((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp() * 1000)


def _run(args: argparse.Namespace) -> int:
    """Exit code 1 if the store cannot be reached or used, 2 for a wrong configuration."""
    from gateway.cli.store_work import work

    return work(args)
