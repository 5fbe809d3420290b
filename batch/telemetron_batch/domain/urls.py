"""URLs of objects in place of file paths.

URLs with credentials are refused, so that every accepted URL can be logged and stored. A `file://` URL is
treated as a path.
"""

import re
from typing import Final
from urllib.parse import unquote, urlsplit

_SCHEMES: Final = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss"})
_EXAMPLES: Final = "s3://bucket/key, gs://bucket/key or az://container/key"
_URL: Final = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)


def is_url(path: str) -> bool:
    """Return whether a text is a URL rather than a path."""
    return bool(_URL.match(path))


def strip_file_scheme(path: str) -> str:
    """Return the path of a `file://` URL; any other text unchanged."""
    return unquote(urlsplit(path).path) if path.lower().startswith("file://") else path


def redact_url(url: str) -> str:
    """Return a refused URL without parts that may be secret: user, password, query and nested URLs."""
    outer = url.partition("::")[0]
    return re.sub("[?#].*", "", re.sub("//.*@", "//", outer, flags=re.DOTALL), flags=re.DOTALL)


def validate_object_url(url: str) -> str:
    """Return the URL of an object. Raises ValueError for other URLs and for URLs with credentials."""
    scheme = url.partition("://")[0].lower()
    if scheme not in _SCHEMES:
        raise ValueError(f"{scheme}:// is not supported; name a file, or an object store: {_EXAMPLES}")
    if "::" in url:
        raise ValueError(f"one URL inside another is not supported; name a file, or an object store: {_EXAMPLES}")
    if not url.isprintable():
        raise ValueError("a URL must not contain control characters; remove them")
    parts = urlsplit(url)
    if "@" in parts.netloc or parts.query:
        raise ValueError("a URL must not contain credentials; configure them as for the other tools of that store")
    if not parts.netloc:
        raise ValueError("the URL names no bucket, as in s3://bucket/key")
    return url
