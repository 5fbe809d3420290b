"""The parts of a JSON Schema."""

from collections.abc import Iterable
from typing import Any, Final

Schema = dict[str, Any]

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_TIME_PATTERN: Final = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{3})?Z$"


def text(description: str, **more: Any) -> Schema:
    """Return the schema of a string."""
    return {"type": "string", "description": description, **more}


def time_text(description: str) -> Schema:
    """Return the schema of a time in UTC with seconds or milliseconds."""
    return text(f"{description} ISO 8601 in UTC.", pattern=_TIME_PATTERN)


def count(description: str) -> Schema:
    """Return the schema of a whole number."""
    return {"type": "integer", "minimum": 0, "description": description}


def number(description: str) -> Schema:
    """Return the schema of a number that is not negative."""
    return {"type": "number", "minimum": 0, "description": description}


def flag(description: str) -> Schema:
    """Return the schema of yes or no."""
    return {"type": "boolean", "description": description}


def array(items: Schema, description: str) -> Schema:
    """Return the schema of a list."""
    return {"type": "array", "items": items, "description": description}


def nullable(schema: Schema) -> Schema:
    """Return a schema that allows null too."""
    return {**schema, "type": [schema["type"], "null"]}


def record(description: str, fields: dict[str, Schema], optional: Iterable[str] = ()) -> Schema:
    """Return the schema of an object with these fields and no others."""
    absent = set(optional)
    return {
        "type": "object",
        "description": description,
        "properties": fields,
        "required": [name for name in fields if name not in absent],
        "additionalProperties": False,
    }


def counts(description: str, words: Iterable[str], *, all_required: bool = True) -> Schema:
    """Return the schema of an object that counts words."""
    names = [str(word) for word in words]
    return record(
        description, {name: {"type": "integer", "minimum": 0} for name in names}, () if all_required else names
    )
