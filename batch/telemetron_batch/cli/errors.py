"""Turn errors into exit codes and into one line on standard error that says what to do."""

import io
import os
import shutil
import sys
import textwrap
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import click

from telemetron_batch.domain.errors import BatchError, system_error
from telemetron_batch.domain.printable import json_text, printable
from telemetron_batch.domain.signals import handle_end_signals
from telemetron_batch.domain.stops import ExitCode
from telemetron_batch.storage.open_files import require_open_files

STDERR_FILENO = 2


@contextmanager
def tolerate_closed_stdout() -> Iterator[None]:
    """Ignore a closed standard output: the files have all results. Other write errors become a warning."""
    try:
        yield
        sys.stdout.flush()
    except OSError as exc:
        _discard_output()
        if not isinstance(exc, BrokenPipeError):
            print_error(f"warning: standard output cannot be written ({exc.strerror}); the files are complete")


@contextmanager
def exit_on_error(*, verbose: bool, as_json: bool = False) -> Iterator[None]:
    """Turn an exception of a command into a line on standard error and an exit code."""
    try:
        yield
    except (BatchError, OSError) as exc:
        error = system_error(exc) if isinstance(exc, OSError) else exc
        if verbose:
            _show_traceback()
        print_error(f"Error: {error}")
        if as_json:
            with tolerate_closed_stdout():
                click.echo(json_text({"exitCode": int(error.exit_code), "error": str(error)}, ensure_ascii=True))
        raise SystemExit(error.exit_code) from None
    except click.Abort:
        print_error("Error: not confirmed; nothing was sent")
        raise SystemExit(ExitCode.NOT_STARTED) from None
    except KeyboardInterrupt as exc:
        again = str(exc) or "run the same command again"
        print_error(f"Stopped. {again[:1].upper()}{again[1:]}.")
        raise SystemExit(ExitCode.STOPPED) from None
    except Exception as exc:  # noqa: BLE001 - the last resort: users see no traceback without -v
        if verbose:
            _show_traceback()
        bug = f"a bug: {type(exc).__name__}: {exc}"
        print_error(f"Error: {bug}; please report it with the output of -v, and keep the run's folder")
        raise SystemExit(ExitCode.UNBALANCED) from None


def print_error(text: str) -> None:
    """Print one line on standard error, with control characters escaped; wrapped only on a terminal."""
    line = printable(text)
    if sys.stderr.isatty():
        width = shutil.get_terminal_size().columns
        line = textwrap.fill(line, width, break_long_words=False, break_on_hyphens=False)
    with suppress(OSError):
        click.echo(line, err=True)


def _show_traceback() -> None:
    with suppress(OSError):
        click.echo("\n".join(map(printable, traceback.format_exc().splitlines())), err=True)


def _ensure_std_streams() -> None:
    """Open closed standard streams on the null device; else the journal's file would get their numbers."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= STDERR_FILENO:
        pass
    os.close(number)
    sys.stdin, sys.stdout = sys.stdin or os.fdopen(0), sys.stdout or os.fdopen(1, "w")
    sys.stderr = sys.stderr or os.fdopen(STDERR_FILENO, "w")


def _write_any_character() -> None:
    """Make standard streams escape characters that they cannot encode, such as those of undecodable names."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _discard_output() -> None:
    """Redirect the rest of standard output to the null device."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _install_signal_handlers() -> None:
    """Make other signals do what Ctrl-C does; while calls are made, the run installs its own handlers."""
    if threading.current_thread() is threading.main_thread():
        handle_end_signals(_interrupted)


class _InterruptedError(KeyboardInterrupt):
    """Raised by a signal. A plain KeyboardInterrupt in `exec` makes Python exit as if killed, even if caught."""


def _interrupted(*_: object) -> None:
    raise _InterruptedError


class OneLineErrorGroup(click.Group):
    """A group of commands whose usage errors are one line, like all our messages."""

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run a command and, in standalone mode, exit with its exit code."""
        run: Callable[..., Any] = super().main
        if not extra.pop("standalone_mode", True):
            return run(*args, standalone_mode=False, **extra)
        from telemetron_batch.cli.refusals import tell_usage_error  # it prints by this module

        given = [*(args[0] if args else extra.get("args") or sys.argv[1:])]
        try:
            _ensure_std_streams()
            _write_any_character()
            require_open_files()
            _install_signal_handlers()
            code = run(*args, standalone_mode=False, **extra)
        except BatchError as exc:
            print_error(f"Error: {exc}")
            sys.exit(exc.exit_code)
        except OSError as exc:  # from `--help`; commands translate their own errors
            print_error(f"Error: standard output cannot be written ({exc.strerror}); redirect it elsewhere")
            _discard_output()
            sys.exit(ExitCode.NOT_STARTED)
        except click.exceptions.NoArgsIsHelpError as exc:
            click.echo(exc.format_message(), err=True)
            sys.exit(ExitCode.NOT_STARTED)
        except click.UsageError as exc:
            tell_usage_error(exc, self, given)
            command = exc.ctx.command_path if exc.ctx else "telemetron-batch"
            problem = " ".join(exc.format_message().split())
            print_error(f"Error: {problem.removesuffix('.')}. See {command} --help.")
            sys.exit(ExitCode.NOT_STARTED)
        except click.ClickException as exc:
            print_error(f"Error: {exc.format_message()}")
            sys.exit(exc.exit_code)
        except (click.Abort, KeyboardInterrupt):
            print_error("Stopped.")
            sys.exit(ExitCode.STOPPED)
        sys.exit(code if isinstance(code, int) else 0)
