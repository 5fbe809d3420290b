"""Messages of the program in the words of Airflow."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import telemetron_batch
from telemetron_batch.airflow_provider.airflow_words import RETRY, in_airflow_words
from telemetron_batch.domain.stops import ResumeHint, Stop, StopReason

ROOT = Path(telemetron_batch.__file__).parent
NOT_IN_TASKS = {"cli", "web", "init", "comparison", "python_api", "airflow_provider"}
"""Packages whose messages no task shows."""
COMMAND_LINE = re.compile(r"(?<![\w-])--[a-z]|\bsame command\b|telemetron-batch (?:resume|run --)")
HINTS = [
    None,
    ResumeHint("--run-id r --base-url http://h/x"),
    ResumeHint("--run-id r", "telemetron-batch resume /r/x --base-url http://h/x"),
]


def texts_of(path: Path) -> Iterator[str]:
    """Yield the texts of a module but its docstrings; the values of an f-string are X."""
    tree = ast.parse(path.read_text())
    docstrings = {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if node in docstrings:
            continue
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "X" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def every_message() -> list[str]:
    modules = (path for path in ROOT.rglob("*.py") if path.relative_to(ROOT).parts[0] not in NOT_IN_TASKS)
    texts = (text for path in modules if path.name != "options.py" for text in texts_of(path))
    return sorted({text for text in texts if COMMAND_LINE.search(text) and "\n" not in text})


def test_no_message_of_the_program_keeps_a_flag_or_a_command() -> None:
    messages = every_message()
    assert len(messages) > 100
    assert [text for text in messages if COMMAND_LINE.search(in_airflow_words(text))] == []


@pytest.mark.parametrize("reason", StopReason)
@pytest.mark.parametrize("hint", HINTS)
def test_no_stop_keeps_a_flag_or_a_command(reason: StopReason, hint: ResumeHint | None) -> None:
    told = Stop(reason, "T").as_json(hint)
    words = in_airflow_words(f"{told['reason']}; {told['advice']}", "connection c")
    assert not COMMAND_LINE.search(words)
    assert not re.search(r"\b(the|an?) (the|an?)\b", words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "check TELEMETRON_API_KEY or --api-key-file, then run the same command again",
            "check the password of connection c, then clear this task",
        ),
        (
            "correct --base-url, which ends in /api/ext-v1, and start again under another --run-id",
            "correct the host of connection c, which ends in /api/ext-v1, and start a new run of the DAG",
        ),
        (
            "nothing was sent; if it shall be processed again, say --again",
            'nothing was sent; if it shall be processed again, start a new run of the DAG with options={"again": True}',
        ),
        (
            "look at attention.csv and raise --max-failed, then run the same command again with --run-id r later",
            "look at attention.csv and raise the option max_failed, then clear this task",
        ),
        ("wait for it, or give run --wait 10m", "this task looks again by itself"),
        (
            "run them again (telemetron-batch run --run-id r --shard N --reports-dir /r), then report again",
            "clear the shards that failed with their downstream tasks",
        ),
        ("the API refuses a lower --rate", "the API refuses a lower option rate"),
        ("check --reports-dir", "check the argument reports_dir"),
        ("nothing is sent; say --out-of-order", 'nothing is sent; set options={"out_of_order": True}'),
        ("/data/pre--post.csv is empty", "/data/pre--post.csv is empty"),
    ],
)
def test_what_a_person_can_do_in_airflow_is_named(text: str, words: str) -> None:
    assert in_airflow_words(text, "connection c") == words


def test_a_try_that_airflow_repeats_needs_no_person() -> None:
    told = Stop(StopReason.API_DOWN, "900").as_json()
    assert in_airflow_words(told["advice"], again=RETRY) == RETRY
