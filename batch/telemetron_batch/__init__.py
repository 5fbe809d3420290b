"""Bulk device assignments for Telemetron: a CSV in, paced bulk calls out, one outcome for every row.

The packages, the lowest first. A package imports only from lower ones, here those above it. Read
`run/pipeline.py` first: it says what a run does, in order.

    domain          the words that all others use: actions, outcomes, reasons, stops, errors
    storage         files, folders, locks and spill files
    config          one frozen configuration from flags, environment, profile and defaults
    rows            input rows as columns
    journal         the durable record of a run
    input           files -> rows
    planning        rows -> calls in stages
    sandbox         the embedded stand-in for the API
    rate_limit      when an attempt may leave
    api             one request, and what its answer means
    sending         calls -> answers
    reconciliation  answers -> one outcome for each row
    verification    what customers hold, compared with what a run did
    reports         the files that people read
    notices         tell people and monitoring how a run ended
    run             one run from start to end
    sharding        one run by several processes or machines
    retention       old runs and the addresses of people go
    comparison      what customers hold -> input files
    init            a profile from a look at a file
    cli, python_api, airflow_provider  the doors

The Python interface (docs/python.md) is loaded when one of its names is used, so importing this package loads nothing.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from telemetron_batch.domain.errors import BatchError as BatchError
    from telemetron_batch.python_api.functions import plan as plan
    from telemetron_batch.python_api.functions import report as report
    from telemetron_batch.python_api.functions import resume as resume
    from telemetron_batch.python_api.functions import run as run
    from telemetron_batch.python_api.functions import verify as verify
    from telemetron_batch.python_api.progress import Progress as Progress
    from telemetron_batch.python_api.results import Plan as Plan
    from telemetron_batch.python_api.results import Result as Result

__version__ = "1.0.0"
__all__ = ["BatchError", "Plan", "Progress", "Result", "plan", "report", "resume", "run", "verify"]

_FUNCTIONS = "telemetron_batch.python_api.functions"
_MODULES = {
    "BatchError": "telemetron_batch.domain.errors",
    "Plan": "telemetron_batch.python_api.results",
    "Progress": "telemetron_batch.python_api.progress",
    "Result": "telemetron_batch.python_api.results",
    **dict.fromkeys(("plan", "report", "resume", "verify"), _FUNCTIONS),
}
"""Where each public name is, apart from `run`."""


if not TYPE_CHECKING:  # else type checkers would believe any name

    def __getattr__(name: str) -> Any:
        if name == "run":
            return import_module(f"{__name__}.run")
        if name in _MODULES:
            value = globals()[name] = getattr(import_module(_MODULES[name]), name)
            return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _CallablePackage(ModuleType):
    """The package `telemetron_batch.run`, which can be called as the function `run` of the Python interface."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return import_module(_FUNCTIONS).run(*arguments, **options)

    @property
    def __signature__(self) -> Any:
        """The signature of the function, for `help` and editors."""
        from inspect import signature

        return signature(import_module(_FUNCTIONS).run)

    def __reduce__(self) -> Any:
        """Make it picklable, as functions are."""
        return import_module, (self.__name__,)


class _RootPackage(ModuleType):
    """This package, in which `run` is two things: a package, and a function of the Python interface.

    Importing any module of a package sets the package as an attribute of its parent, and so would replace a function of
    its name. So there is no such function here: the package itself can be called. It is made callable at the
    moment when the import system sets it, so `telemetron_batch.run(...)` works whatever was imported before.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "run" and isinstance(value, ModuleType):
            value.__class__ = _CallablePackage
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _RootPackage
