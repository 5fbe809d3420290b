"""Import pyarrow without pandas, whose import takes as long as all others of a plan together.

For a process of our own only: pyarrow then takes no pandas objects in this process, as if pandas were not installed.
"""

import sys


def import_pyarrow_without_pandas() -> None:
    """Import pyarrow, and let it look for pandas once, in vain.

    At its first conversion of anything, pyarrow imports pandas to recognise its objects; it never looks again. Our
    modules that work with pandas import it themselves, and give pyarrow numpy arrays.
    """
    if "pyarrow" in sys.modules or "pandas" in sys.modules:
        return
    import pyarrow as pa

    finder = _NoPandas()
    sys.meta_path.insert(0, finder)
    try:
        pa.scalar(None)
    finally:
        sys.meta_path.remove(finder)


class _NoPandas:
    """Finds no module, and lets no other finder look for pandas."""

    def find_spec(self, fullname: str, *_: object) -> None:
        """Refuse pandas; leave any other module to the next finder."""
        if fullname == "pandas":
            raise ModuleNotFoundError("pyarrow does without pandas here", name=fullname)
