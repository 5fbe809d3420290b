"""Help of the commands: options grouped by purpose, one example, and the exit codes.

Imports nothing heavy: `--help` must be fast.
"""

from collections.abc import Mapping
from typing import Any, Final

import click

from telemetron_batch.config.options import OPTIONS_BY_KEY, OptionGroup
from telemetron_batch.domain.stops import ExitCode

EXIT_CODES: Final[Mapping[ExitCode, str]] = {
    ExitCode.DONE: "Every row is where it should be.",
    ExitCode.ATTENTION: "Finished, but some rows want attention.",
    ExitCode.NOT_STARTED: "Could not start; nothing was sent.",
    ExitCode.STOPPED: "Stopped before the end; run the same command again.",
    ExitCode.CLIENT_REFUSED: "The API or a proxy refuses this client.",
    ExitCode.BRAKE: "Stopped by a safety limit while sending.",
    ExitCode.LOCKED: "Another process is using this run or this key.",
    ExitCode.UNBALANCED: "A bug: the books do not balance, or an internal error.",
}
_TITLES: Final[Mapping[OptionGroup, str]] = {
    OptionGroup.INPUT: "Input",
    OptionGroup.SAFETY: "Safety limits",
    OptionGroup.SENDING: "Sending",
    OptionGroup.OUTPUT: "Output",
    OptionGroup.NOTICES: "Messages, pings and metrics",
    OptionGroup.SHARDING: "Sharding",
    OptionGroup.GENERAL: "General",
}
"""The titles of the sections, in their order, by group."""
_EVERYWHERE: Final = frozenset({"config", "help", "profile"})
"""Options that many commands have, beside those of the table."""


def _write_end(formatter: click.HelpFormatter, example: str, exit_codes: Mapping[ExitCode, str]) -> None:
    with formatter.section("Example"):
        formatter.write(f"  {example}\n")
    with formatter.section("Exit codes"):
        formatter.write_dl([(str(int(code)), meaning) for code, meaning in exit_codes.items()])


class HelpGroup(click.Group):
    """A group of commands whose help ends with an example and the exit codes."""

    def __init__(self, *args: Any, example: str, exit_codes: Mapping[ExitCode, str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.example = example
        self.exit_codes = exit_codes

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the example and the exit codes."""
        super().format_epilog(ctx, formatter)
        _write_end(formatter, self.example, self.exit_codes)


class HelpCommand(click.Command):
    """A command whose help ends with an example and its exit codes."""

    def __init__(
        self,
        *args: Any,
        example: str,
        exit_codes: Mapping[ExitCode, str],
        grouped: bool = False,
        own_section: str = "",
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.example = example
        self.exit_codes = exit_codes
        self.grouped = grouped
        self.own_section = own_section
        """Title of a first section, for the options that only this command has."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, in sections if the command has many."""
        if not self.grouped:
            super().format_options(ctx, formatter)
            return
        sections: dict[str, list[tuple[str, str]]] = {title: [] for title in (self.own_section, *_TITLES.values())}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx) if isinstance(parameter, click.Option) else None
            if record is not None:
                sections[self._title_of(parameter)].append(record)
        for title, records in sections.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)

    def _title_of(self, parameter: click.Parameter) -> str:
        """Return the title of the section that lists an option."""
        is_common = parameter.name in OPTIONS_BY_KEY or parameter.name in _EVERYWHERE
        return self.own_section if self.own_section and not is_common else _TITLES[_group_of(parameter)]

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the example and the exit codes."""
        super().format_epilog(ctx, formatter)
        _write_end(formatter, self.example, self.exit_codes)


def choose(*codes: ExitCode) -> dict[ExitCode, str]:
    """Return some of the exit codes with their usual meanings."""
    return {code: EXIT_CODES[code] for code in sorted(codes)}


def _group_of(parameter: click.Parameter) -> OptionGroup:
    option = OPTIONS_BY_KEY.get(str(parameter.name))
    return OptionGroup.GENERAL if option is None else option.group
