"""The run that a caller names, and the options that the caller gives for it: for `resume`, `verify` and `report`."""

import os
from collections.abc import Mapping
from pathlib import Path

from telemetron_batch.config.options import KEY_VARIABLE, OPTIONS_BY_KEY
from telemetron_batch.journal.layout import JOURNAL_NAME


def has_run(folder: Path) -> bool:
    """Return whether there is a run in this folder, or something in the place of its journal."""
    return os.path.lexists(folder / JOURNAL_NAME)


def find_run_folder(run: str, reports_dir: str) -> Path:
    """Return the folder of a run, given its id or its path."""
    is_path = os.sep in run or has_run(Path(run))
    return Path(run) if is_path else Path(reports_dir) / run


def environ_with(given: Mapping[str, object], environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment with the options that the caller gives, by key; None counts as not given.

    Options for a run that exists reach it as variables: they override those in its journal. A command that gives the
    key beats any key of the environment.
    """
    texts = {OPTIONS_BY_KEY[key].variable: _variable(value) for key, value in given.items() if value not in (None, ())}
    key_file, key_command = (OPTIONS_BY_KEY[key].variable for key in ("api_key_file", "api_key_command"))
    beaten = (KEY_VARIABLE, key_file) if key_command in texts else ()
    return {**{name: text for name, text in environ.items() if name not in beaten}, **texts}


def _variable(value: object) -> str:
    """Return a value as an environment variable has it; each of several values is a line."""
    if isinstance(value, bool):
        return str(value).lower()
    return "\n".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
