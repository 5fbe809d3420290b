"""The configuration of a run that was begun, from the options that its journal has."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from batch.config import RunConfig, resolve


def as_recorded(
    folder: Path, options: Mapping[str, Any], environ: Mapping[str, str] | None = None, *, with_key: bool = True
) -> RunConfig:
    """The options of the run in this folder. Raises ConfigError.

    Without the key for what needs none: the file that it was in may be gone by now.
    """
    told = options if with_key else {**options, "api_key_file": None}
    return replace(resolve((), told, environ or {}), reports_dir=folder.parent, run_id=folder.name)
