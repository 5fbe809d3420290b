"""The base classes of the operators: the run's folder, the connection, and the options."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from airflow.providers.common.compat.sdk import AirflowFailException, BaseOperator

from telemetron_batch.airflow_provider.airflow_words import ARGUMENTS
from telemetron_batch.airflow_provider.connections import named_options
from telemetron_batch.airflow_provider.failures import LOOK_AGAIN_S, FailurePolicy
from telemetron_batch.airflow_provider.folder_names import folder_name
from telemetron_batch.airflow_provider.hooks import TelemetronHook, default_reports_dir, require_absolute
from telemetron_batch.airflow_provider.lineage import lineage
from telemetron_batch.airflow_provider.rendered import options_in, time_in
from telemetron_batch.airflow_provider.shared_storage import sharing_warning
from telemetron_batch.airflow_provider.task_work import do_in_task, map_index_variables
from telemetron_batch.domain.cancellation import CancelToken

if TYPE_CHECKING:  # heavy; a DAG file must be read without
    from telemetron_batch.config.config import RunConfig

T = TypeVar("T")

SUMMARY: Final = "summary"
AS_OF: Final = "{{ dag_run.data_interval_end.isoformat() if dag_run.data_interval_end else '' }}"
"""The end of the task's data interval; empty for a manual run without one."""

_LOCK_WAIT: Final = "30s"
"""Time that a task waits inside its slot for another process that has its run or key."""


class FolderOperator(BaseOperator):
    """A task that works in the folder of a run.

    :param reports_dir: folder that contains the run's folder; an absolute path on storage that every worker
        can access, because a retry continues from the journal in it. By default `reports_dir` in the section
        `[telemetron]` of Airflow's configuration. (templated)
    :param run_id: the run's id. (templated)
    :param telemetron_conn_id: connection of type `telemetron`; None: the key is in the
        worker's environment, or not needed (option `sandbox`). (templated)
    :param look_again_after: if another process has the run or the key, the task leaves its slot and looks again
        after this time, in the same try.
    """

    template_fields: Sequence[str] = ("reports_dir", "run_id", "telemetron_conn_id")
    ui_color = "#dcecf4"

    def __init__(
        self,
        *,
        run_id: str,
        reports_dir: str | None = None,
        telemetron_conn_id: str | None = TelemetronHook.default_conn_name,
        look_again_after: timedelta = timedelta(seconds=LOOK_AGAIN_S),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.reports_dir = reports_dir or default_reports_dir()
        self.run_id = run_id
        self.telemetron_conn_id = telemetron_conn_id
        self.look_again_after = look_again_after
        self._interrupt: CancelToken | None = None

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return Path(self.reports_dir) / folder_name(self.run_id)

    @property
    def hook(self) -> TelemetronHook:
        """The hook of the connection."""
        return TelemetronHook(self.telemetron_conn_id)

    @property
    def policy(self) -> FailurePolicy:
        """The policy by which the task fails."""
        return FailurePolicy(self.telemetron_conn_id, self.look_again_after.total_seconds())

    def on_kill(self) -> None:
        """Ask the run to end. Called in a signal handler, so it must not wait."""
        if self._interrupt is not None:
            self._interrupt.cancel("stopped by Airflow")

    def get_openlineage_facets_on_start(self) -> Any:
        """Return the files read and written, for OpenLineage."""
        return lineage(self._files(), self._output_folder())

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:  # noqa: ARG002
        """Return the same after success."""
        return self.get_openlineage_facets_on_start()

    def get_openlineage_facets_on_failure(self, task_instance: Any) -> Any:  # noqa: ARG002
        """Return the same after a failure: the files are written then, too."""
        return self.get_openlineage_facets_on_start()

    def _files(self) -> list[str]:
        """Return the inputs that the task reads."""
        return []

    def _output_folder(self) -> Path | None:
        """Return the folder to which the task writes the files of a run, if it does."""
        return None

    def _accepts_empty_files(self) -> bool:
        """Return whether an input without a header is accepted."""
        return True

    def _check_reports_dir(self) -> None:
        """Warn if other workers may not see the folder; fail if the path is relative."""
        with self.policy.translate_errors():
            require_absolute(self.reports_dir)
        if warning := sharing_warning(Path(self.reports_dir)):
            self.log.warning("%s", warning)

    def _run_in_thread(self, work: Callable[..., T], on_late_result: Callable[[T], Any] = lambda _: None) -> T:
        """Do the work, which takes an `observer`, in a thread that ends when the task is cancelled.

        If Airflow raises a timeout meanwhile, `on_late_result` gets the result. Raises exceptions of Airflow.
        """
        self._interrupt = CancelToken()
        accepts = self._accepts_empty_files()
        return do_in_task(
            work, self._interrupt, self.policy, accepts_empty_files=accepts, on_late_result=on_late_result
        )


class TelemetronOperator(FolderOperator):
    """A task that reads an input, or makes calls.

    :param options: options of `telemetron-batch run` by name, e.g. `{"max_failed": "5%"}`,
        or their JSON text. They override those of the connection. (templated)
    :param as_of: the time that the input describes, as ISO 8601 text with zone or as a datetime: an older
        run is not sent after a newer one. The default is the end of the data interval, or what the run of this id
        was started with; None: not known. (templated)
    """

    template_fields: Sequence[str] = (*FolderOperator.template_fields, "options", "as_of")
    template_fields_renderers: Mapping[str, str] = {"options": "json"}

    def __init__(
        self,
        *,
        options: Mapping[str, Any] | str | None = None,
        as_of: str | datetime | None = AS_OF,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.options = options
        self.as_of = as_of
        self._as_of_is_default = as_of == AS_OF
        _check_options(options)

    def _config(self, context: Mapping[str, Any], *, is_run: bool = False, **besides: Any) -> "RunConfig":
        """Return the configuration of the task's work, with further options. Raises exceptions of Airflow.

        With `is_run` the task is a whole run, so those who hear of its end also hear if the options are refused.
        """
        self._check_reports_dir()
        place = {"reports_dir": str(self.folder.parent), "run_id": self.folder.name}
        options = {**self._own_options(), **self._own_as_of(), **besides, **place}
        with self.policy.translate_errors(), self.hook.announcing(options, self.folder.name if is_run else None):
            return self.hook.config(self._files(), options, map_index_variables(context), self._defaults())

    def _own_as_of(self) -> dict[str, Any]:
        """Return the option `as_of`. A run that was started before keeps its own, unless the DAG gives another."""
        with suppress(OSError):  # the run itself reports what is wrong with its folder
            if self._as_of_is_default and has_run(self.folder):
                return {}
        return {"as_of": time_in(self.as_of)}

    def _own_options(self) -> dict[str, Any]:
        """Return the options of the task after rendering. Raises exceptions of Airflow."""
        options = options_in(self.options)
        try:
            with self.policy.translate_errors():
                _check_options(options)
        except ValueError as exc:
            raise AirflowFailException(str(exc)) from exc
        return options

    def _defaults(self) -> dict[str, Any]:
        """Return options that apply unless connection, task or environment give them."""
        return {"wait": _LOCK_WAIT}


def has_run(folder: Path) -> bool:
    """Return whether there is a run in a folder."""
    from telemetron_batch.journal.layout import JOURNAL_NAME

    return (folder / JOURNAL_NAME).exists()


def _check_options(options: Any) -> None:
    """Raise ValueError for options that are arguments of their own, when the DAG is parsed."""
    if isinstance(options, Mapping):
        doubled = [name for name in ARGUMENTS if name in named_options(options, "options")]
        if doubled:
            raise ValueError(f"options: {', '.join(doubled)} is an argument of its own")
