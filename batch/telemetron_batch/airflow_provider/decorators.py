"""The decorator `@task.telemetron_batch`: a Python function returns the rows, and the task sends them."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import (
    DecoratedOperator,
    TaskDecorator,
    context_merge,
    determine_kwargs,
    task_decorator_factory,
)

from telemetron_batch.airflow_provider.base import has_run
from telemetron_batch.airflow_provider.operators import TelemetronBatchOperator
from telemetron_batch.airflow_provider.row_files import frame_rows

if TYPE_CHECKING:
    from telemetron_batch.config.config import RunConfig


class TelemetronDecoratedOperator(DecoratedOperator, TelemetronBatchOperator):
    """Calls a function and sends what it returns: a DataFrame, a path, or a list of paths.

    The function is called until its rows are in the journal of the run; a retry after that continues with these rows.
    """

    template_fields: Sequence[str] = (*DecoratedOperator.template_fields, *TelemetronBatchOperator.template_fields)
    template_fields_renderers: Mapping[str, str] = {
        **DecoratedOperator.template_fields_renderers,
        **TelemetronBatchOperator.template_fields_renderers,
    }
    custom_operator_name: str = "@task.telemetron_batch"

    def __init__(
        self,
        *,
        python_callable: Callable[..., Any],
        op_args: Collection[Any] | None = None,
        op_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(python_callable=python_callable, op_args=op_args, op_kwargs=op_kwargs, **kwargs)

    def _check_source(self) -> None:
        """Raise ValueError for another source than the function, when the DAG is parsed."""
        if not (self.file is self.sql is self.sql_conn_id is None):
            raise ValueError("the function gives the rows, so there is no file and no sql")

    @contextmanager
    def _with_rows(self, context: Mapping[str, Any], config: "RunConfig") -> Iterator["RunConfig"]:
        """Yield the configuration with what the function returns; a run that exists needs nothing."""
        if has_run(self.folder):
            yield config
            return
        self._returned = self._call(context)
        if isinstance(self._returned, str | Path) or (
            isinstance(self._returned, list | tuple) and all(isinstance(one, str | Path) for one in self._returned)
        ):
            one_or_more = [self._returned] if isinstance(self._returned, str | Path) else self._returned
            yield replace(config, files=tuple(map(str, one_or_more)))
            return
        with super()._with_rows(context, config) as filled:
            yield filled

    @contextmanager
    def _open_rows(self, context: Mapping[str, Any]) -> Iterator[tuple[Sequence[str], Iterable[Any]]]:  # noqa: ARG002
        yield frame_rows(self._returned)

    def _call(self, context: Mapping[str, Any]) -> Any:
        """Return what the function returns."""
        context_merge(context, self.op_kwargs)
        arguments = determine_kwargs(self.python_callable, self.op_args, context)
        return self.python_callable(*self.op_args, **arguments)


def telemetron_batch_task(python_callable: Callable[..., Any] | None = None, **kwargs: Any) -> TaskDecorator:
    """Wrap a function into a task that sends the rows it returns; takes the arguments of TelemetronBatchOperator."""
    return task_decorator_factory(
        python_callable=python_callable, decorated_operator_class=TelemetronDecoratedOperator, **kwargs
    )
