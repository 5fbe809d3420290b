"""Tell, where the options say whom, that a command about a run was refused before it could begin."""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import click

from telemetron_batch.cli.errors import print_error
from telemetron_batch.domain.errors import BatchError, ConfigError
from telemetron_batch.sending.observer import RunObserver

_COMMANDS: Final = ("run", "resume", "undo")
"""Commands whose end is told."""


class _PlainObserver(RunObserver):
    """Prints warnings, without what draws on a terminal."""

    @property
    def is_attended(self) -> bool:
        return sys.stdin.isatty() and sys.stdout.isatty()

    def on_message(self, kind: str, text: str) -> None:
        print_error(f"{kind}: {text}")


@contextmanager
def tell_refusal(flags: Mapping[str, Any], run: str = "") -> Iterator[None]:
    """Within this context a command reads its options; tell if they are refused. A shard tells nothing."""
    try:
        yield
    except (BatchError, OSError) as exc:
        _tell(exc, flags, run)
        raise


def tell_usage_error(error: click.UsageError, group: click.Group, arguments: Sequence[str]) -> None:
    """Tell that a command about a run was called with arguments that it cannot use."""
    name = next((word for word in arguments if not word.startswith("-")), "")
    if name not in _COMMANDS:
        return
    problem = " ".join(error.format_message().split()).removesuffix(".")
    refused = ConfigError(problem, f"see telemetron-batch {name} --help")
    own = [*arguments[arguments.index(name) + 1 :]]
    _tell(refused, _usable_flags(group.commands[name], own), "")


def _tell(exc: Exception, flags: Mapping[str, Any], run: str) -> None:
    from telemetron_batch.config.partial import usable_notice_options

    options, _ = usable_notice_options(flags, os.environ)
    if options.is_wanted and flags.get("shard") is None:
        from telemetron_batch.notices.refusal import Request, announce_refusal

        name = run or str(flags.get("run_id") or "")
        announce_refusal(exc, Request(flags, os.environ, name), _PlainObserver())


def _usable_flags(command: click.Command, arguments: list[str]) -> Mapping[str, Any]:
    """Return the options of a command line that click can read, whatever else is wrong with it."""
    settings: dict[str, Any] = {"ignore_unknown_options": True, "allow_extra_args": True}
    try:
        return command.make_context(command.name, arguments, resilient_parsing=True, **settings).params
    except click.ClickException:  # such as an option without its value
        return {}
