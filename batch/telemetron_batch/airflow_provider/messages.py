"""Say in a few lines how the task of a run ended. Imports nothing of Airflow."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from html import escape
from typing import Any

from telemetron_batch.airflow_provider.airflow_words import in_airflow_words


@dataclass(frozen=True, slots=True)
class Message:
    """How a run ended, for people. It names no customer and no device."""

    task: str
    """DAG, task and map index."""
    run: str
    """The DAG run."""
    sentence: str
    counts: Mapping[str, int]
    """Number of rows by outcome, without zeros; empty if nothing is known."""
    folder: str
    """The folder of the run; empty if there is none."""
    link: str
    """The address of the report; empty if it is not known."""

    @property
    def lines(self) -> list[str]:
        """The message as lines."""
        counts = ", ".join(f"{count:,} {outcome}" for outcome, count in self.counts.items())
        where = self.link or self.folder
        return [line for line in (f"{self.task}, run {self.run}", f"{self.sentence}.", counts, where) if line]

    def as_dict(self) -> dict[str, Any]:
        """Return the parts, and the whole as `text` and as `html`."""
        *lines, last = self.lines
        shown = [escape(line) for line in (*lines, last)]
        if self.link:
            shown[-1] = f'<a href="{escape(self.link)}">{escape(self.link)}</a>'
        return {**asdict(self), "text": "\n".join(self.lines), "html": "<br>\n".join(shown)}


def message_of(task: str, run: str, fields: Mapping[str, Any] | None, *, link: str = "", error: str = "") -> Message:
    """Return the message for a summary, or for the error of a task that has none."""
    if fields is None:
        reason = error.rstrip(".") or "The task ended without a summary"
        return Message(task, run, reason, {}, "", link)
    counts = {outcome: count for outcome, count in fields.get("counts", {}).items() if count}
    return Message(task, run, _sentence(fields), counts, fields.get("folder", ""), link)


def _sentence(fields: Mapping[str, Any]) -> str:
    from telemetron_batch.reports.summary import verdict_sentence

    stop = fields.get("stop")
    if not stop:
        return verdict_sentence(fields)
    return in_airflow_words(f"The run stopped: {'; '.join(filter(None, (stop['reason'], stop['advice'])))}")
