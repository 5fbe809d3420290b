"""How a command ends: with an exit code, and where something went wrong with one line that says what to do."""

import io
import os
import shutil
import signal
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
from telemetron_batch.domain.stops import ExitCode
from telemetron_batch.storage.open_files import require_open_files

STDERR_FILENO = 2


@contextmanager
def tolerate_closed_stdout() -> Iterator[None]:
    """What is said into a closed pipe is lost, and that is no error: the files have it all."""
    try:
        yield
        sys.stdout.flush()
    except OSError as exc:
        _discard_output()
        if not isinstance(exc, BrokenPipeError):
            print_error(f"warning: standard output cannot be written ({exc.strerror}); the files are there")


@contextmanager
def exit_on_error(*, verbose: bool, as_json: bool = False) -> Iterator[None]:
    """The one place where an error becomes a line on standard error and an exit code."""
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
    except Exception as exc:  # noqa: BLE001 - the last resort: no traceback at the returns desk
        if verbose:
            _show_traceback()
        told = f"Error: a bug: {type(exc).__name__}: {exc}; please report it with what -v prints, and keep the folder"
        print_error(told)
        raise SystemExit(ExitCode.UNBALANCED) from None


def print_error(text: str) -> None:
    """One line on standard error; what a file brought into it does nothing to the terminal.

    Only a terminal gets it folded between words.
    """
    told = printable(text)
    if sys.stderr.isatty():
        width = shutil.get_terminal_size().columns
        told = textwrap.fill(told, width, break_long_words=False, break_on_hyphens=False)
    with suppress(OSError):
        click.echo(told, err=True)


def _show_traceback() -> None:
    with suppress(OSError):
        click.echo("\n".join(map(printable, traceback.format_exc().splitlines())), err=True)


def _ensure_std_streams() -> None:
    """Give closed standard streams an end in nothing; else their numbers would go to the journal."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= STDERR_FILENO:
        pass
    os.close(number)
    sys.stdin, sys.stdout = sys.stdin or os.fdopen(0), sys.stdout or os.fdopen(1, "w")
    sys.stderr = sys.stderr or os.fdopen(STDERR_FILENO, "w")


def _write_any_character() -> None:
    """Have characters that a standard stream cannot encode written as escapes, such as those of undecodable names."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _discard_output() -> None:
    """Have what is still to be written to standard output written to nothing."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _install_signal_handlers() -> None:
    """But while calls are made, SIGTERM does what Ctrl-C does."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _interrupted)
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as a shell's `&` has it
            signal.signal(signal.SIGINT, _interrupted)


class _InterruptedError(KeyboardInterrupt):
    """What a signal raises. A plain KeyboardInterrupt in an `exec` makes Python end as if killed, caught or not."""


def _interrupted(*_: object) -> None:
    raise _InterruptedError


class OneLineErrorGroup(click.Group):
    """A group of commands whose usage errors are one line, as all our messages are."""

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run a command; unless told otherwise, end the process with its exit code."""
        run: Callable[..., Any] = super().main
        if not extra.pop("standalone_mode", True):
            return run(*args, standalone_mode=False, **extra)
        try:
            _ensure_std_streams()
            _write_any_character()
            require_open_files()
            _install_signal_handlers()
            code = run(*args, standalone_mode=False, **extra)
        except BatchError as exc:
            print_error(f"Error: {exc}")
            sys.exit(exc.exit_code)
        except OSError as exc:  # the commands themselves put theirs into words: this is what `--help` meets
            print_error(f"Error: standard output cannot be written ({exc.strerror}); name another place for it")
            _discard_output()
            sys.exit(ExitCode.NOT_STARTED)
        except click.exceptions.NoArgsIsHelpError as exc:
            click.echo(exc.format_message(), err=True)
            sys.exit(ExitCode.NOT_STARTED)
        except click.UsageError as exc:
            command = exc.ctx.command_path if exc.ctx else "telemetron-batch"
            told = " ".join(exc.format_message().split())
            print_error(f"Error: {told.removesuffix('.')}. See {command} --help.")
            sys.exit(ExitCode.NOT_STARTED)
        except click.ClickException as exc:
            print_error(f"Error: {exc.format_message()}")
            sys.exit(exc.exit_code)
        except (click.Abort, KeyboardInterrupt):
            print_error("Stopped.")
            sys.exit(ExitCode.STOPPED)
        sys.exit(code if isinstance(code, int) else 0)
