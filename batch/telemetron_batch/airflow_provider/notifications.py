"""A notifier that says how a run ended, through any other notifier of Airflow."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from airflow.providers.common.compat.sdk import BaseNotifier

from telemetron_batch.airflow_provider.base import SUMMARY
from telemetron_batch.airflow_provider.links import REPORT_URL, web_address
from telemetron_batch.airflow_provider.messages import Message, message_of

MESSAGE: Final = "telemetron"
"""The name of the message in the templates of other notifiers."""
_RETURN_VALUE: Final = "return_value"


class TelemetronNotifier(BaseNotifier):
    """Says how a run ended: a sentence, the counts, and the link to the report.

        on_failure_callback=TelemetronNotifier(
            SlackWebhookNotifier(slack_webhook_conn_id="slack", text="{{ telemetron.text }}")
        )

    :param through: notifiers that deliver the message. Their templates have the variable `telemetron` with `sentence`,
        `counts`, `link`, `folder`, `task`, `run`, `text` and `html`. Without any, the log has the message.
    :param task_id: the task whose run is meant; by default the one that called back.
    """

    def __init__(
        self, through: BaseNotifier | Sequence[BaseNotifier] = (), *, task_id: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.through = [through] if isinstance(through, BaseNotifier) else [*through]
        self.task_id = task_id

    def notify(self, context: Mapping[str, Any]) -> None:
        """Deliver the message, for a callback of a task or of a DAG."""
        message = self.message(context)
        if not self.through:
            self.log.info("%s", "; ".join(message.lines))
        for notifier in self.through:
            notifier({**context, MESSAGE: message.as_dict()})

    def message(self, context: Mapping[str, Any]) -> Message:
        """Return the message about the task of the context."""
        ti = context["ti"]
        task_id = self.task_id or ti.task_id
        index = ti.map_index if task_id == ti.task_id else -1
        name = f"{ti.dag_id}.{task_id}{f' [{index}]' if index >= 0 else ''}"
        keys = (SUMMARY, _RETURN_VALUE) if context.get("exception") else (_RETURN_VALUE, SUMMARY)
        pulled = (self._pull(ti, task_id, index, key) for key in keys)
        fields = next(filter(_is_summary, pulled), None)
        link = web_address(self._pull(ti, task_id, index, REPORT_URL))
        error = str(context.get("exception") or context.get("reason") or "")
        return message_of(name, ti.run_id, fields, link=link, error=error)

    def _pull(self, ti: Any, task_id: str, index: int, key: str) -> Any:
        """Return an XCom of the task; None if there is none, or if it cannot be read where the callback runs."""
        try:
            return ti.xcom_pull(task_ids=task_id, key=key, map_indexes=index)
        except Exception as exc:  # noqa: BLE001 - a message without numbers is better than none
            self.log.warning("the XCom %s of %s cannot be read: %s", key, task_id, exc)
            return None


def _is_summary(fields: Any) -> bool:
    return isinstance(fields, Mapping) and {"rows", "attention", "exitCode"} <= fields.keys()
