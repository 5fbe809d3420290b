"""Names that a file or folder cannot have on Windows."""

import re
from typing import Final

_DEVICE: Final = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?", re.IGNORECASE)


def is_reserved(name: str) -> bool:
    """Return whether Windows takes a name for that of a device, or cuts it because it ends with a full stop."""
    return bool(_DEVICE.fullmatch(name)) or name.endswith((".", " "))
