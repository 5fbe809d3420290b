"""Types of databases: which columns can hold keys, and which values a driver must not turn into values of Python."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

_POSTGRES_KEYS: Final = frozenset((18, 19, 20, 21, 23, 25, 705, 1042, 1043, 1700, 2950))
"""char, name, whole numbers, text, unknown, char(n), varchar, numeric, uuid."""
POSTGRES_EXACT: Final = (1082, 1083, 1114, 1184, 1186, 1266, 869, 650)
"""date, time, timestamp, timestamptz, interval, timetz, inet, cidr: Python has no infinity, no 24:00, no months."""
POSTGRES_RANGES: Final = (3904, 3906, 3908, 3910, 3912, 3926, 4451, 4532, 4533, 4534, 4535, 4536)
POSTGRES_EXACT_ARRAYS: Final = (1182, 1183, 1115, 1185, 1187, 1270, 1041, 651)
_TEXT_OID: Final = 25
_MYSQL_OTHERS: Final = {7: "timestamp", 10: "date", 11: "time", 12: "datetime", 245: "json", 255: "geometry"}


class TypedText(str):
    """The text of a value that is no text in the database; a subclass for each type has its name."""

    __slots__ = ()


def typed_text(name: str) -> type[TypedText]:
    """Return the class of texts of a type of the database."""
    return type(name, (TypedText,), {"__slots__": ()})


def is_postgres_key(oid: int) -> bool:
    """Return whether values of a type can be keys. Enums and citext, whose numbers vary, are not known here."""
    return oid in _POSTGRES_KEYS


def postgres_types_query(oids: Sequence[int]) -> str:
    """Return the query for the names of types, and whether each can be a key all the same."""
    listed = ", ".join(str(int(oid)) for oid in sorted(set(oids)))
    is_key = "t.typtype = 'e' OR t.typname = 'citext'"
    return (
        f"SELECT t.oid::bigint, pg_catalog.format_type(t.oid, NULL), {is_key} FROM pg_catalog.pg_type AS t "  # noqa: S608
        f"WHERE t.oid IN ({listed})"
    )


def mysql_type_name(code: Any) -> str | None:
    """Return the name of a type of MySQL whose values are texts in Python and cannot be keys."""
    return _MYSQL_OTHERS.get(code) if isinstance(code, int) else None


def with_types(rows: Sequence[Sequence[Any]], classes: Mapping[int, type[TypedText]]) -> Sequence[Sequence[Any]]:
    """Return the rows with the texts of some columns marked by their types."""
    if not classes:
        return rows
    marked = [list(row) for row in rows]
    for at, text_class in classes.items():
        for row in marked:
            if type(row[at]) is str:
                row[at] = text_class(row[at])
    return marked


def keep_exact_texts(driver: str, library: Any, connection: Any) -> None:
    """Make a driver of PostgreSQL give dates, times, intervals and ranges as the texts of the database."""
    if driver == "psycopg":
        loader = connection.adapters.get_loader(_TEXT_OID, 0)
        for oid in (*POSTGRES_EXACT, *POSTGRES_RANGES):
            connection.adapters.register_loader(oid, loader)
    elif driver == "psycopg2":
        kinds = library.extensions
        exact = kinds.new_type((*POSTGRES_EXACT, *POSTGRES_RANGES), "EXACT", _as_given)
        kinds.register_type(exact, connection)
        kinds.register_type(kinds.new_array_type(POSTGRES_EXACT_ARRAYS, "EXACT[]", exact), connection)


def _as_given(text: str | None, _: object) -> str | None:
    return text
