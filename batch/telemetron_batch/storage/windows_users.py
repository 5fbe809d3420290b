"""The users of Windows, who are known by a security identifier (SID) instead of a number. Empty on other systems."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

if sys.platform == "win32":
    from hashlib import sha256

    import pywintypes
    import win32api
    import win32con
    import win32security

    if TYPE_CHECKING:
        import _win32typing

    _ADMINISTRATORS: Final = frozenset({"S-1-5-18", "S-1-5-32-544"})
    """The system and its administrators, who own the files that an elevated process makes."""

    def current_user() -> tuple[int, str]:
        """Return a number and the name of the user of this process."""
        token = win32security.OpenProcessToken(win32api.GetCurrentProcess(), win32con.TOKEN_QUERY)
        sid, _ = win32security.GetTokenInformation(token, win32security.TokenUser)
        return _described(sid)

    def owner_of(file: Path) -> tuple[int, str]:
        """Return a number and the name of the owner of a file. Raises OSError."""
        try:
            found = win32security.GetFileSecurity(str(file), win32security.OWNER_SECURITY_INFORMATION)
        except pywintypes.error as exc:
            raise OSError(0, exc.strerror, str(file), exc.winerror) from exc
        return _described(found.GetSecurityDescriptorOwner())

    def _described(sid: "_win32typing.PySID") -> tuple[int, str]:
        """Return the number that stands for a SID, 0 for administrators, and its name."""
        text = win32security.ConvertSidToStringSid(sid)
        number = 0 if text in _ADMINISTRATORS else int.from_bytes(sha256(text.encode()).digest()[:6]) + 1
        try:
            name, domain, _ = win32security.LookupAccountSid(None, sid)
        except pywintypes.error:  # the domain cannot be reached, or the account was deleted
            return number, text
        return number, f"{domain}\\{name}" if domain else name
