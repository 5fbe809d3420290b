"""URLs in the place of paths, as texts: nothing here is looked up.

None holds credentials, so that each can be told and written down. A `file://` URL is a path
like any other.
"""

import re
from typing import Final
from urllib.parse import unquote, urlsplit

_SCHEMES: Final = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss"})
_EXAMPLES: Final = "s3://bucket/key, gs://bucket/key or az://container/key"
_URL: Final = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)


def is_url(path: str) -> bool:
    """Is it the URL of a file, rather than its path?"""
    return bool(_URL.match(path))


def strip_file_scheme(path: str) -> str:
    """A `file://` URL as the path that it is; anything else as it is."""
    return unquote(urlsplit(path).path) if path.lower().startswith("file://") else path


def redact_url(url: str) -> str:
    """Return a URL that was refused, without what may be a secret: user, password, query and other URLs inside it."""
    outer = url.partition("::")[0]
    return re.sub("[?#].*", "", re.sub("//.*@", "//", outer, flags=re.DOTALL), flags=re.DOTALL)


def validate_object_url(url: str) -> str:
    """Return the URL of an object. Raises ValueError for another kind of URL, and for one that holds credentials."""
    scheme = url.partition("://")[0].lower()
    if scheme not in _SCHEMES:
        raise ValueError(f"{scheme}:// is not supported; name a file, or an object store: {_EXAMPLES}")
    if "::" in url:
        raise ValueError(f"one URL inside another is not supported; name a file, or an object store: {_EXAMPLES}")
    if not url.isprintable():
        raise ValueError("a control character does not belong into a URL; remove it")
    parts = urlsplit(url)
    if "@" in parts.netloc or parts.query:
        raise ValueError("credentials do not belong into a URL; give them as that store's other tools take them")
    if not parts.netloc:
        raise ValueError("it names no bucket, as in s3://bucket/key")
    return url
