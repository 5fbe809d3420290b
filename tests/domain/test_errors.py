"""Every error is one line with the problem and the advice, and has its exit code."""

import re

import pytest

import telemetron_batch.domain.errors
from telemetron_batch.domain.errors import BatchError, ConfigError, DiskError, remedy
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


def test_the_tree_in_the_docstring_has_no_unknown_error() -> None:
    assert set(DRAWN) == {kind.__name__ for kind in CLASSES} - {"BatchError"}


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_an_error_is_reason_and_advice_in_one_line(kind: type[BatchError]) -> None:
    error = kind("the disk is full", "make room")
    assert (str(error), error.reason, error.advice) == ("the disk is full; make room", "the disk is full", "make room")


def test_an_error_without_advice_is_its_reason() -> None:
    assert str(BatchError("the disk is full")) == "the disk is full"


def test_exit_codes_distinguish_not_started_and_stopped() -> None:
    assert ConfigError("x").exit_code is ExitCode.NOT_STARTED
    assert DiskError("x").exit_code is ExitCode.STOPPED


@pytest.mark.parametrize("number", [5, 32, 33])
def test_a_file_that_a_program_has_open_on_windows_is_to_be_closed(number: int) -> None:
    refused = PermissionError(13, "Permission denied")
    refused.winerror = number  # type: ignore[attr-defined]
    assert "close the file if a program has it open" in remedy(refused).words()
