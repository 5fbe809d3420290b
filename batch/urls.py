"""URLs in the place of paths, as texts: nothing here is looked up.

None holds credentials, so that each can be told and written down. A `file://` URL is a path
like any other.
"""

import re
from typing import Final
from urllib.parse import unquote, urlsplit

_URL: Final = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)


def is_url(path: str) -> bool:
    """Is it the URL of a file, rather than its path?"""
    return bool(_URL.match(path))


def without_scheme(path: str) -> str:
    """A `file://` URL as the path that it is; anything else as it is."""
    return unquote(urlsplit(path).path) if path.lower().startswith("file://") else path


def without_secrets(url: str) -> str:
    """A URL for those who may not see what somebody wrote into it."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def checked(url: str) -> str:
    """A URL of an object store. Raises ValueError for any other, and for one that holds credentials."""
    parts = urlsplit(url)
    if parts.scheme.lower() in ("http", "https"):
        raise ValueError("web addresses are not read; name a file, or an object such as s3://bucket/key")
    if "@" in parts.netloc or parts.query:
        raise ValueError("credentials do not belong into a URL; give them as that store's other tools take them")
    if not parts.netloc:
        raise ValueError("it names no bucket, as in s3://bucket/key")
    return url
