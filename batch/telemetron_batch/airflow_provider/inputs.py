"""The base class of the operators that read an input: files, or the rows of a query."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowSkipException

from telemetron_batch.airflow_provider.base import TelemetronOperator, has_run
from telemetron_batch.airflow_provider.folder_names import folder_name
from telemetron_batch.airflow_provider.rendered import files_in

if TYPE_CHECKING:  # heavy; a DAG file must be read without
    from telemetron_batch.config.config import RunConfig


class InputOperator(TelemetronOperator):
    """A task that reads an input: files, or the rows of a query.

    :param file: path of the input, or a list of paths, or the JSON text of a list. (templated)
    :param sql: a query, or a template file that ends in `.sql`, in place of `file`. (templated)
    :param sql_conn_id: connection of the database for `sql`, of any type with a DbApiHook. (templated)
    :param skip_if_empty: an input with a header but without rows skips the task; else it is an error. A file without
        even a header is an error, unless the options have `allow_empty`.
    """

    template_fields: Sequence[str] = (*TelemetronOperator.template_fields, "file", "sql", "sql_conn_id")
    template_fields_renderers: Mapping[str, str] = {**TelemetronOperator.template_fields_renderers, "sql": "sql"}
    template_ext: Sequence[str] = (".sql",)

    def __init__(
        self,
        *,
        file: str | Sequence[str] | None = None,
        sql: str | None = None,
        sql_conn_id: str | None = None,
        skip_if_empty: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.file = file
        self.sql = sql
        self.sql_conn_id = sql_conn_id
        self.skip_if_empty = skip_if_empty
        self._allows_empty = False
        self._check_source()

    def _check_source(self) -> None:
        """Raise ValueError unless there is one source of rows, when the DAG is parsed."""
        if (self.file is None) == (self.sql is None):
            raise ValueError("give either file or sql")
        if (self.sql is None) != (self.sql_conn_id is None):
            raise ValueError("sql and sql_conn_id belong together")

    def _config(self, context: Mapping[str, Any], *, is_run: bool = False, **besides: Any) -> "RunConfig":
        config = super()._config(context, is_run=is_run, **besides)
        self._allows_empty = config.brakes.allow_empty
        brakes = replace(config.brakes, allow_empty=config.brakes.allow_empty or self.skip_if_empty)
        return replace(config, brakes=brakes)

    @contextmanager
    def _with_rows(self, context: Mapping[str, Any], config: "RunConfig") -> Iterator["RunConfig"]:
        """Yield the configuration with a file that has the rows of the source; a run that exists needs none."""
        if self.file is not None or has_run(self.folder):
            yield config
            return
        from telemetron_batch.airflow_provider.row_files import SUFFIX, write_rows

        with TemporaryDirectory() as folder, self.policy.translate_errors():
            target = Path(folder) / f"{folder_name(f'{self.dag_id}.{self.task_id}')}{SUFFIX}"
            with self._open_rows(context) as (names, batches):
                count = write_rows(names, batches, target, config.input)
            self.log.info("%d rows were read", count)
            yield replace(config, files=(str(target),))

    @contextmanager
    def _open_rows(self, context: Mapping[str, Any]) -> Iterator[tuple[Sequence[str], Iterable[Any]]]:  # noqa: ARG002
        """Yield the names of the columns, and the rows in batches."""
        from telemetron_batch.airflow_provider.sql_rows import query_rows

        with query_rows(str(self.sql_conn_id), str(self.sql)) as opened:
            yield opened

    def _skip_exception(self, rows: int) -> Exception | None:
        """Return the exception that skips the task, if the input has no rows and `skip_if_empty` is set."""
        if rows or not self.skip_if_empty:
            return None
        kind: type[Exception] = AirflowSkipException
        return kind("the input has no rows: nothing to do")

    def _accepts_empty_files(self) -> bool:
        return self._allows_empty

    def _files(self) -> list[str]:
        return [] if self.file is None else files_in(self.file)
