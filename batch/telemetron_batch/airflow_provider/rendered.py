"""Read arguments after Airflow has rendered their templates.

Without `render_template_as_native_obj` a template always renders to text, so a mapping or
a list may arrive as JSON text.
"""

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from airflow.providers.common.compat.sdk import AirflowFailException

_ADVICE = "use the filter tojson in the template, or set render_template_as_native_obj=True in the DAG"


def options_in(value: Any) -> dict[str, Any]:
    """Return the options in a mapping or its JSON text. Raises AirflowFailException."""
    if isinstance(value, str):
        value = _from_json("options", value) if value.strip() else None
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise _unusable(
            "options", f"has the type {type(value).__name__} and is not a mapping of option names to values"
        )
    return {**value}


def files_in(value: Any) -> list[str]:
    """Return the paths in one path, a list, or the JSON text of a list. Raises AirflowFailException."""
    if isinstance(value, str):
        value = _from_json("file", value) if _is_a_list(value) else [value]
    if isinstance(value, Mapping) or not isinstance(value, Iterable):
        raise _unusable("file", f"has the type {type(value).__name__} and is neither a path nor a list of paths")
    files = [*value]
    if wrong := [one for one in files if not isinstance(one, str)]:
        raise _unusable("file", f"holds an entry of the type {type(wrong[0]).__name__}, which is not a path")
    return files


def time_in(value: Any) -> Any:
    """Return a time as ISO 8601 text; native rendering gives a datetime."""
    return value.isoformat() if isinstance(value, datetime) else value


def _is_a_list(text: str) -> bool:
    return text.strip().startswith("[") and text.strip().endswith("]")


def _from_json(name: str, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as exc:
        raise _unusable(name, f"is not valid JSON ({exc}); {_ADVICE}") from exc


def _unusable(name: str, problem: str) -> Exception:
    kind: type[Exception] = AirflowFailException
    return kind(f"{name}: the value {problem}")
