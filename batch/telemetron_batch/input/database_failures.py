"""Tell whether the same query may work later, from what a driver raised; knows no driver.

It may where the database cannot be reached, is locked, overloaded or ending, or where the connection ended early.
Any other failure needs a person, and repeating it would go on for ever.
"""

import errno
import os
import re
from typing import Any, Final

_PASSING_STATES: Final = re.compile("08|40|53|55P03|57P0|25P03")
"""SQLSTATE: connection, rolled back for others, no resources, locked, ended by an operator or for its silence."""
_SQLITE_BUSY: Final = frozenset((5, 6))
_MYSQL_PASSING: Final = frozenset(
    (1040, 1053, 1077, *range(1158, 1162), 1203, 1205, 1213, 2002, 2003, 2006, 2013, 2055)
)
_UNREACHABLE: Final = tuple(
    os.strerror(number)
    for number in (
        errno.ECONNREFUSED,
        errno.ECONNRESET,
        errno.ECONNABORTED,
        errno.EPIPE,
        errno.ETIMEDOUT,
        errno.EHOSTUNREACH,
        errno.EHOSTDOWN,
        errno.ENETUNREACH,
        errno.ENETDOWN,
        errno.EAGAIN,
        errno.ENOENT,  # the socket of a server that does not run
    )
)
_AT_SIGN_IN: Final = re.compile(
    r"failed to resolve host|could not translate host name|name or service not known|name resolution"
    r"|timed? ?out|timeout expired|closed the connection|connection has been closed|unexpected eof"
    r"|starting up|shutting down|in recovery mode|not yet accepting|terminating connection"
    r"|too many (clients|connections)|connection slots",
    re.IGNORECASE,
)
"""What libpq says where a server cannot be reached or is not ready: at sign-in it hands on no SQLSTATE."""


def is_passing(original: BaseException, why: str, *, is_connected: bool) -> bool:
    """Return whether the same query may work later; `why` is the text of the failure, `original` the driver's error."""
    state = getattr(original, "sqlstate", None) or getattr(original, "pgcode", None)
    if isinstance(state, str):
        return _PASSING_STATES.match(state) is not None
    if type(original).__module__.startswith("sqlite3"):
        return getattr(original, "sqlite_errorcode", 0) & 0xFF in _SQLITE_BUSY
    number = _error_number(original)
    if number is not None:
        return number in _MYSQL_PASSING
    if isinstance(original, OSError):
        return not isinstance(original, FileNotFoundError | PermissionError)
    if type(original).__name__ not in ("OperationalError", "InterfaceError", "ConnectionTimeout"):
        return False
    return is_connected or any(words in why for words in _UNREACHABLE) or _AT_SIGN_IN.search(why) is not None


def _error_number(original: Any) -> int | None:
    """Return the number of an error of MySQL, which its drivers put first."""
    if isinstance(original, OSError) or not original.args or type(original.args[0]) is not int:
        return None
    return int(original.args[0])
