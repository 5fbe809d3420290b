"""The files of a run as datasets of OpenLineage; none where its provider is not installed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

_WRITTEN: Final = ("reconciliation.csv", "attention.csv", "undo.csv", "summary.json")


def lineage(files: Sequence[str], folder: Path | None) -> Any:
    """The inputs, and the files that a run leaves in its folder; None where they are left by another task."""
    try:
        from airflow.providers.openlineage.extractors import OperatorLineage
        from openlineage.client.event_v2 import Dataset
    except ImportError:
        return None
    written = () if folder is None else tuple(folder / name for name in _WRITTEN)
    return OperatorLineage(
        inputs=[Dataset("file", str(Path(file).absolute())) for file in files if file != "-"],
        outputs=[Dataset("file", str(path.absolute())) for path in written],
    )
