"""The files of a run as OpenLineage datasets, if the OpenLineage provider is installed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from telemetron_batch.domain.urls import is_url, strip_file_scheme

_WRITTEN: Final = ("reconciliation.csv", "attention.csv", "undo.csv", "summary.json")


def lineage(files: Sequence[str], folder: Path | None) -> Any:
    """Return the inputs and the files in the run's folder (None: this task writes none); None without OpenLineage."""
    try:
        from airflow.providers.openlineage.extractors import OperatorLineage
        from openlineage.client.event_v2 import Dataset
    except ImportError:
        return None
    written = () if folder is None else tuple(str(folder / name) for name in _WRITTEN)
    inputs, outputs = ([Dataset(*_named(file)) for file in some if file != "-"] for some in (files, written))
    return OperatorLineage(inputs=inputs, outputs=outputs)


def _named(file: str) -> tuple[str, str]:
    """Return namespace and name of a file; for an object, its bucket and key."""
    path = strip_file_scheme(file)
    if not is_url(path):
        return "file", str(Path(path).absolute())
    parts = urlsplit(path)
    return f"{parts.scheme}://{parts.netloc}", parts.path.lstrip("/")
