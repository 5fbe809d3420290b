"""An object store in memory for `gs://bucket/key`."""

from typing import Any, ClassVar

import fsspec
from fsspec.implementations.memory import MemoryFileSystem


class MemoryStore(MemoryFileSystem):
    """Files in memory under URLs of an object store."""

    protocol = "gs"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        return super()._strip_protocol(path.removeprefix("gs://") if isinstance(path, str) else path)


def memory_store() -> Any:
    """Return the empty store, registered for `gs://`."""
    fsspec.register_implementation("gs", MemoryStore, clobber=True)
    store = fsspec.filesystem("gs")
    store.store.clear()
    store.pseudo_dirs[:] = [""]
    return store
