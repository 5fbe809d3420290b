"""What a notifier says of a run."""

from typing import Any

from telemetron_batch.airflow_provider.messages import message_of

FIELDS: dict[str, Any] = {
    "rows": 28,
    "attention": 8,
    "exitCode": 1,
    "stop": None,
    "counts": {"assigned": 20, "failed": 8, "held": 0},
    "folder": "/r/one",
}


def test_a_message_has_a_sentence_the_counts_and_the_link() -> None:
    told = message_of("dag.task", "monday", FIELDS, link="https://r.example.com/one/report.html").as_dict()
    assert told["sentence"] == "20 of 28 rows are where they should be; 8 want attention"
    assert told["counts"] == {"assigned": 20, "failed": 8}
    assert told["text"].splitlines() == [
        "dag.task, run monday",
        "20 of 28 rows are where they should be; 8 want attention.",
        "20 assigned, 8 failed",
        "https://r.example.com/one/report.html",
    ]
    assert '<a href="https://r.example.com/one/report.html">' in told["html"]


def test_without_a_link_the_folder_is_named() -> None:
    assert message_of("dag.task", "monday", FIELDS).lines[-1] == "/r/one"


def test_a_stopped_run_is_told_in_the_words_of_airflow() -> None:
    stop = {"reason": "the API refuses this key", "advice": "check TELEMETRON_API_KEY or --api-key-file"}
    told = message_of("dag.task", "monday", {**FIELDS, "stop": stop})
    assert told.sentence == "The run stopped: the API refuses this key; check the password of the connection"


def test_a_task_without_a_summary_is_told_by_its_error() -> None:
    told = message_of("dag.task", "monday", None, error="/erp/x.csv: there is no such file.")
    assert told.lines == ["dag.task, run monday", "/erp/x.csv: there is no such file."]
    assert told.counts == {}


def test_names_of_tasks_are_no_markup() -> None:
    assert "<b>" not in message_of("dag.<b>", "monday", FIELDS).as_dict()["html"]
