"""Write the file that the textfile collector of Prometheus' node_exporter reads."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from telemetron_batch.domain.outcomes import Outcome
from telemetron_batch.notices.ending import Ending
from telemetron_batch.notices.policy import counts_as_success
from telemetron_batch.storage.public_file import require_replaceable, write_public

_PREFIX: Final = "telemetron_batch_"
LAST_SUCCESS: Final = f"{_PREFIX}last_success_timestamp_seconds"
ROWS: Final = f"{_PREFIX}rows"
HELP: Final[Mapping[str, str]] = {
    f"{_PREFIX}last_run_timestamp_seconds": "When the last run ended, in seconds since the epoch.",
    LAST_SUCCESS: "When a run last finished, with exit code 0 or 1, in seconds since the epoch; 0 if none has.",
    f"{_PREFIX}exit_code": "Exit code of the last run.",
    ROWS: "Rows of the last run, by outcome.",
    f"{_PREFIX}attempts": "Attempts at calls that the last run made.",
    f"{_PREFIX}refusals": "Attempts of the last run that the API refused.",
    f"{_PREFIX}rate_reached": "Attempts a second that the last run reached.",
    f"{_PREFIX}run_seconds": "Seconds that the last run took.",
}
"""The metrics and their help texts."""

Samples = dict[tuple[str, str, str], float]
"""Values by the name of the metric, the profile and the outcome ("" for a metric without outcomes)."""


@dataclass(frozen=True, slots=True)
class MeasuredEnd:
    """An end, with what the metrics say besides."""

    ending: Ending
    profile: str
    ended_at: float
    """Seconds since the epoch."""
    seconds: float
    """Seconds that the command took."""


def write_metrics(path: Path, end: MeasuredEnd) -> str | None:
    """Write the metrics of an end, whole. Return why that failed; None if it did not.

    The metrics of other profiles in the file are kept, and so is the time of the last success.
    """
    try:
        require_replaceable(path)
        write_public(path, render(end, read_samples(path)))
    except OSError as exc:
        return f"cannot be written ({exc.strerror or exc})"
    return None


def render(end: MeasuredEnd, former: Samples) -> bytes:
    """Return the content of the file after an end; `former` are its values so far."""
    samples = {key: value for key, value in former.items() if key[1] != end.profile}
    samples |= {(name, end.profile, outcome): value for name, outcome, value in _samples(end, former)}
    registry = CollectorRegistry()
    for name, text in HELP.items():
        labels = ("profile", "outcome") if name == ROWS else ("profile",)
        gauge = Gauge(name, text, labels, registry=registry)
        for (metric, profile, outcome), value in samples.items():
            if metric == name:
                gauge.labels(*((profile, outcome) if name == ROWS else (profile,))).set(value)
    return generate_latest(registry)


def read_samples(path: Path) -> Samples:
    """Return the values in a file that this program wrote; none of a file that is missing or not readable as such."""
    try:
        families = [*text_string_to_metric_families(path.read_text("utf-8"))]
    except (OSError, ValueError):
        return {}
    return {
        (sample.name, sample.labels.get("profile", ""), sample.labels.get("outcome", "")): sample.value
        for family in families
        for sample in family.samples
        if sample.name in HELP
    }


def _samples(end: MeasuredEnd, former: Samples) -> Iterator[tuple[str, str, float]]:
    """Yield name, outcome and value of each metric."""
    fields = end.ending.fields or {}
    succeeded = counts_as_success(end.ending)
    values = {
        "last_run_timestamp_seconds": end.ended_at,
        "last_success_timestamp_seconds": end.ended_at if succeeded else former.get((LAST_SUCCESS, end.profile, ""), 0),
        "exit_code": end.ending.exit_code,
        "attempts": fields.get("attempts", 0),
        "refusals": fields.get("refusals", 0),
        "rate_reached": fields.get("rateReached") or 0,
        "run_seconds": fields.get("seconds") or end.seconds,
    }
    yield from ((f"{_PREFIX}{name}", "", float(value)) for name, value in values.items())
    counts = fields.get("counts", {})
    yield from ((ROWS, str(outcome), float(counts.get(outcome, 0))) for outcome in Outcome)
