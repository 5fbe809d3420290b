"""Collect the files of a run that could not be written, so that the other files are written all the same.

The run then counts as stopped, so that the same command writes the missing files. Nothing is sent again.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from telemetron_batch.domain.errors import BatchError, DiskError, PathError, system_error
from telemetron_batch.domain.stops import Advice, ResumeHint, Stop, StopReason
from telemetron_batch.reports.summary import Summary
from telemetron_batch.storage.log import LOGGER


@dataclass
class Unwritten:
    """The errors of files that could not be written, by file name."""

    errors: dict[str, BatchError] = field(default_factory=dict)

    @contextmanager
    def collect_error(self, name: str) -> Iterator[None]:
        """Collect the error if the block cannot write this file; other errors of a run, such as a lost lock, pass."""
        self.errors.pop(name, None)
        try:
            yield
        except (DiskError, PathError) as exc:
            self._note(name, exc)
        except BatchError:
            raise
        except OSError as exc:
            self._note(name, system_error(exc))
        except Exception as exc:  # noqa: BLE001 - a bug in one file must not keep the others from being written
            advice = Advice("please report it with what -v prints", repeat=True)
            self._note(name, DiskError(f"cannot write {name} (a bug: {type(exc).__name__}: {exc})", advice))
            LOGGER.error("%s", name, exc_info=exc)

    def _note(self, name: str, error: BatchError) -> None:
        self.errors[name] = error

    def add_to(self, summary: Summary, resume_hint: ResumeHint) -> Summary:
        """Return the summary with the collected errors; `resume_hint` is how the run is continued."""
        if not self.errors:
            return summary
        fields: dict[str, Any] = {**summary.fields, "unwritten": [error.reason for error in self.errors.values()]}
        if not fields["stop"]:
            first = next(iter(self.errors.values()))
            errors_text = "; ".join(fields["unwritten"])
            when = "to write what is missing (nothing is sent again)"
            advice = Advice(first.next_step.first, repeat=True, when=when)
            stop = Stop(StopReason.ERROR, errors_text, advice=advice)
            fields |= {"state": "stopped", "exitCode": int(stop.exit_code), "stop": stop.as_json(resume_hint)}
        return replace(summary, fields=fields)
