"""Every error says in one line what is wrong and what to do, and carries its exit code."""

import re

import pytest

import telemetron_batch.domain.errors
from telemetron_batch.domain.errors import BatchError, ConfigError, DiskError
from telemetron_batch.domain.stops import ExitCode

CLASSES = [
    kind
    for kind in vars(telemetron_batch.domain.errors).values()
    if isinstance(kind, type) and issubclass(kind, BatchError)
]
DRAWN = {name: int(code) for name, code in re.findall(r"── (\w+) +(\d)", str(telemetron_batch.domain.errors.__doc__))}


@pytest.mark.parametrize("kind", [kind for kind in CLASSES if kind is not BatchError], ids=lambda kind: kind.__name__)
def test_the_tree_in_the_docstring_has_each_error_with_its_exit_code(kind: type[BatchError]) -> None:
    assert DRAWN[kind.__name__] == kind.exit_code


def test_the_tree_in_the_docstring_has_no_error_that_does_not_exist() -> None:
    assert set(DRAWN) == {kind.__name__ for kind in CLASSES} - {"BatchError"}


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_an_error_is_its_cause_and_its_advice_in_one_line(kind: type[BatchError]) -> None:
    error = kind("the disk is full", "make room")
    assert (str(error), error.reason, error.advice) == ("the disk is full; make room", "the disk is full", "make room")


def test_an_error_without_advice_is_its_cause() -> None:
    assert str(BatchError("the disk is full")) == "the disk is full"


def test_what_could_not_start_and_what_stopped_are_told_apart() -> None:
    assert ConfigError("x").exit_code is ExitCode.NOT_STARTED
    assert DiskError("x").exit_code is ExitCode.STOPPED
