"""What the functions return: a plan, or the result of a run."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from telemetron_batch.domain.errors import JournalError
from telemetron_batch.domain.printable import printable
from telemetron_batch.python_api.fields import PlanFields, ProblemFields, RunFields, StageFields
from telemetron_batch.reports.summary import PREVIEW, Summary, verdict_sentence

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True, repr=False)
class Plan:
    """What a run would send."""

    summary: PlanFields
    """The plan in numbers."""
    exit_code: int
    """0, or `empty_exit_code` for an input without rows."""

    @property
    def rows(self) -> int:
        """Number of rows of the input."""
        return self.summary.rows

    @property
    def calls(self) -> int:
        """Number of calls that a run would make."""
        return self.summary.calls

    @property
    def devices(self) -> int:
        """Number of devices that it would send."""
        return self.summary.devices

    @property
    def stages(self) -> list[StageFields]:
        """The stages, in their order."""
        return self.summary.stages

    @property
    def problems(self) -> list[ProblemFields]:
        """The rows that would not be sent, by kind of problem."""
        return self.summary.problems

    @property
    def warnings(self) -> list[str]:
        """Probable mistakes: those of each input, then those found over all rows."""
        of_inputs = (f"{one['name']}: {text}" for one in self.summary.inputs for text in one["warnings"])
        return [*of_inputs, *self.summary.warnings]

    @property
    def folder(self) -> Path | None:
        """The folder of a saved plan; None for a plan that was not saved."""
        return None if self.summary.folder is None else Path(self.summary.folder)

    @property
    def run_id(self) -> str | None:
        """The run id of a saved plan."""
        return self.summary.run_id

    @property
    def fingerprint(self) -> str | None:
        """The fingerprint of a saved plan, as `approve` takes it."""
        return self.summary.fingerprint

    def preview(self) -> "pd.DataFrame":
        """Return what a plan made with `online` shows of each row, as texts. Raises BatchError without that."""
        if self.folder is None or self.summary.preview is None:
            raise JournalError("this plan has no preview", "make it with online=True")
        from telemetron_batch.python_api.result_frames import read_frame

        return read_frame(self.folder / PREVIEW)

    def __repr__(self) -> str:
        fields = self.summary
        numbers = f"{fields.rows} rows, {fields.calls} calls, {fields.devices} devices, {fields.invalid} invalid"
        return f"<Plan{'' if self.run_id is None else f' {printable(self.run_id)}'}: {numbers}>"

    def _repr_html_(self) -> str:
        from telemetron_batch.python_api.notebook import plan_html

        return plan_html(self.summary)


@dataclass(frozen=True, slots=True, repr=False)
class Result:
    """How a run ended."""

    folder: Path
    """The folder of the run, with its files."""
    summary: RunFields
    """The run in numbers."""

    @classmethod
    def of(cls, summary: Summary) -> Self:
        """Return the result with this summary."""
        return cls(summary.folder.absolute(), RunFields(summary.fields))  # the caller may change its folder

    @property
    def exit_code(self) -> int:
        """The exit code that the command would have."""
        return self.summary.exit_code

    @property
    def run_id(self) -> str:
        """The id of the run."""
        return self.summary.run_id

    def reconciliation(self) -> "pd.DataFrame":
        """Return every row of the input with its outcome, in input order, as texts. Raises BatchError."""
        is_guarded = not self.summary.options.get("raw_csv", False)
        return self._read("reconciliation.csv", is_guarded=is_guarded)

    def attention(self) -> "pd.DataFrame":
        """Return the rows that want attention in the input's own columns, with the reasons, as texts.

        Corrected, they can be run again. Raises BatchError.
        """
        names = Summary(self.folder, self.summary).attention_files
        delimiter = next((one["delimiter"] for one in self.summary.inputs if one["delimiter"]), ",")
        return self._read(next(name for name in names if name.endswith(".csv")), delimiter)

    def undo(self) -> "pd.DataFrame":
        """Return the rows that take back what the run is sure to have changed, as texts. Raises BatchError."""
        return self._read("undo.csv")

    def _read(self, name: str, delimiter: str = ",", *, is_guarded: bool = True) -> "pd.DataFrame":
        from telemetron_batch.python_api.result_frames import read_frame

        return read_frame(self.folder / name, delimiter, is_guarded=is_guarded)

    def __repr__(self) -> str:
        verdict = verdict_sentence(self.summary, fixed=True)
        return f"<Result {printable(self.run_id)}: {verdict}; exit code {self.exit_code}>"

    def _repr_html_(self) -> str:
        from telemetron_batch.python_api.notebook import run_html

        return run_html(self.folder, self.summary)
