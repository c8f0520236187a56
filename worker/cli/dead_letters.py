"""`dicom-router dead-letters`: the messages that no worker could judge."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from worker.cli.output import format_option, print_json, print_rows
from worker.errors import BrokerUnavailable

if TYPE_CHECKING:
    from worker.queue.dead_letters import DeadLetter, DeadLetters

SHOWN_IDS = 3
"""Instance ids in one row of the table; JSON has all."""


def _list() -> DeadLetters:
    from worker.queue.dead_letters import DeadLetters
    from worker.queue.redis_access import RedisAccess
    from worker.settings import get_settings

    settings = get_settings()
    return DeadLetters(RedisAccess(settings.broker_url(), settings.broker_tls()))


def count_dead_letters() -> int:
    """How many dead letters there are; for `status`. Raises BrokerUnavailable."""
    return _list().count()


@click.group("dead-letters", invoke_without_command=True)
@format_option
@click.pass_context
def dead_letters(context: click.Context, style: str) -> None:
    """List the messages that no worker could judge, with the reason.

    Malformed messages, and those of a newer version or another archive after DICOM_ROUTER_FOREIGN_MESSAGE_HOURS.
    Of what a message holds, instance ids alone are printed.
    """
    if context.invoked_subcommand is not None:
        return
    letters = _list().all()
    if style == "json":
        print_json([_row(letter) for letter in letters])
        return
    rows = [{**row, "instances": _few(row["instances"])} for row in map(_row, letters)]
    print_rows(rows, ["time", "queue", "reason", "instances", "id"], style)


@dead_letters.command()
def retry() -> None:
    """Put the dead letters back into their queues, for example after an upgrade of the workers."""
    from kombu.exceptions import OperationalError

    from worker.queue.app import app
    from worker.queue.messages import publish

    stored = _list()
    letters = stored.all()
    put_back = 0
    for letter in letters:
        if letter.call is not None:
            # Published first: where this ends in between, the message is there twice, and judged once.
            try:
                publish(app, letter.call)
            except (OperationalError, OSError) as error:
                raise BrokerUnavailable(
                    f"Redis takes no message ({type(error).__name__})", "look at its memory and its log"
                ) from error
            stored.remove([letter.id])
            put_back += 1
    click.echo(f"{put_back} messages put back")
    if put_back < len(letters):
        click.echo(f"{len(letters) - put_back} stay in the list: they are too long, or no task at all", err=True)


@dead_letters.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
def clear(yes: bool) -> None:
    """Delete the dead letters. Their images are judged once the plugin finds them without a verdict."""
    stored = _list()
    letters = stored.all()
    if letters and not yes:
        click.confirm(f"delete {len(letters)} dead letters?", abort=True)
    # Those that were counted, not what has come since.
    stored.remove([letter.id for letter in letters])
    click.echo(f"{len(letters)} dead letters deleted")


def _row(letter: DeadLetter) -> dict[str, Any]:
    return {
        "id": letter.id,
        "time": letter.time.isoformat(timespec="seconds"),
        "queue": letter.queue,
        "reason": letter.reason,
        "whole": letter.call is not None,
        "instances": letter.instance_ids(),
    }


def _few(ids: list[str]) -> str:
    more = len(ids) - SHOWN_IDS
    return " ".join(ids[:SHOWN_IDS]) + (f" and {more} more" if more > 0 else "")
