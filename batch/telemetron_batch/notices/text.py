"""The words of a message, from templates. Without details they contain no email address and no serial."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from telemetron_batch.config.notices import EndKind
from telemetron_batch.domain.printable import printable
from telemetron_batch.notices.ending import Ending
from telemetron_batch.notices.policy import kind_of
from telemetron_batch.reports.summary import CauseSummary, verdict_sentence
from telemetron_batch.storage.clock import duration

TITLE: Final = "telemetron-batch: {sentence}"
SENTENCES: Final = {
    EndKind.FINISHED: "{run}: {verdict}",
    EndKind.ATTENTION: "{run}: {verdict}",
    EndKind.STOPPED: "{run} stopped: {reason}",
    EndKind.REFUSED: "{run} was refused: {reason}",
}
"""The one sentence that says how a run ended, by the kind of its end."""
LINES: Final = {
    "advice": "What to do: {advice}",
    "counts": "Rows: {rows:,}; {counts}",
    "causes": "Why rows want attention:",
    "cause": "- {rows:,} {outcome}: {text}",
    "example": "  first: {example}",
    "report": "Report: {report}",
    "killed": "Found by the next command of its job, on {host}",
    "end": "Exit code {exit_code} on {host}",
    "times": ", started {started}, took {took}",
}
"""The lines of a message, in their order; those without content are left out."""
TRIAL: Final = ("telemetron-batch: test message", "This is a test. Messages about runs on {host} arrive here.")

_ADDRESS_MASK: Final = (re.compile(r"""[^\s<>,;:()"']+@[^\s<>,;:()"']*[^\s<>,;:()"'.]"""), "…@…")
_QUOTE_MASKS: Final = ((re.compile(r'"[^"]*"'), '"…"'), (re.compile(r"(?<!\w)'[^']*'(?!\w)"), "'…'"))
"""Error messages quote cells; what they name without quotation marks is ours: options, files, runs, lines."""
_MAX_REASON: Final = 500


@dataclass(frozen=True, slots=True)
class Message:
    """A message to people."""

    title: str
    body: str


def compose(ending: Ending, host: str, *, with_details: bool) -> Message:
    """Return the message about an end that is told."""
    sentence = _sentence(ending, with_details=with_details)
    lines = [f"{sentence}.", "", *_lines(ending, host, with_details=with_details)]
    body = "\n".join(map(printable, lines))
    return Message(printable(TITLE.format(sentence=sentence)), body)


def trial_message(host: str) -> Message:
    """Return the message of `notify --test`."""
    title, body = TRIAL
    return Message(title, body.format(host=host))


def mask(text: str, *, is_about_options: bool = False) -> str:
    """Return a text without email addresses and without what it quotes, unless that is the value of an option."""
    for pattern, replacement in (_ADDRESS_MASK, *(() if is_about_options else _QUOTE_MASKS)):
        text = pattern.sub(replacement, text)
    return text


def _sentence(ending: Ending, *, with_details: bool) -> str:
    kind = kind_of(ending) or EndKind.STOPPED
    verdict = "" if ending.fields is None else verdict_sentence(ending.fields)
    reason = _shown(ending.reason[:_MAX_REASON], ending, with_details=with_details)
    run = ending.run if with_details else mask(ending.run, is_about_options=True)
    return SENTENCES[kind].format(run=run or "a run", verdict=verdict, reason=reason)


def _lines(ending: Ending, host: str, *, with_details: bool) -> Iterator[str]:
    if ending.advice:
        yield LINES["advice"].format(advice=_shown(ending.advice, ending, with_details=with_details))
    if ending.fields is not None:
        counts = ", ".join(f"{count:,} {outcome}" for outcome, count in ending.fields["counts"].items() if count)
        yield LINES["counts"].format(rows=ending.fields["rows"], counts=counts or "none")
    if ending.causes:
        yield LINES["causes"]
        for cause in ending.causes:
            yield from _cause_lines(cause, with_details=with_details)
    if ending.folder is not None and (ending.folder / "report.html").exists():
        report = str((ending.folder / "report.html").absolute())
        yield LINES["report"].format(report=report if with_details else mask(report, is_about_options=True))
    if ending.is_killed:
        yield LINES["killed"].format(host=host)
        return
    yield LINES["end"].format(exit_code=ending.exit_code, host=host) + _times(ending)


def _cause_lines(cause: CauseSummary, *, with_details: bool) -> Iterator[str]:
    text = cause.detail if with_details else cause.text
    yield LINES["cause"].format(rows=cause.rows, outcome=cause.outcome, text=text)
    if with_details and cause.example:
        yield LINES["example"].format(example=cause.example)


def _times(ending: Ending) -> str:
    fields = ending.fields or {}
    if not fields.get("startedAt") or not fields.get("seconds"):
        return ""
    return LINES["times"].format(started=fields["startedAt"], took=duration(fields["seconds"]))


def _shown(text: str, ending: Ending, *, with_details: bool) -> str:
    return text if with_details else mask(text, is_about_options=ending.is_about_options)
