"""pyarrow without pandas: what later conversions do, in processes of their own because it is done once in each."""

import subprocess
import sys

START = """
import sys
from telemetron_batch.cli.arrow import import_pyarrow_without_pandas
"""
CONVERSIONS = """
import numpy as np, pyarrow as pa, pyarrow.compute as pc
converted = [pa.array(np.arange(2)), pa.array(["a"]), pc.equal(pa.array([1, 2]), 2), pa.array(np.ones(2, bool))]
assert [len(one) for one in converted] == [2, 1, 2, 2]
print("pandas" in sys.modules)
"""


def output_of(script: str) -> list[str]:
    """Run a script in a process of its own; return the lines that it wrote."""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.splitlines()


def test_no_conversion_imports_pandas() -> None:
    assert output_of(f"{START}import_pyarrow_without_pandas()\n{CONVERSIONS}") == ["False"]


def test_without_it_the_first_conversion_would_import_pandas() -> None:
    assert output_of(f"{START}{CONVERSIONS}") == ["True"]


def test_our_own_modules_can_still_import_pandas() -> None:
    grouping = "import pandas as pd; print(pd.Series([1, 2]).groupby([0, 0]).transform('max').to_list())"
    assert output_of(f"{START}import_pyarrow_without_pandas()\n{CONVERSIONS}{grouping}") == ["False", "[2, 2]"]


def test_nothing_changes_in_a_process_that_works_with_pandas_already() -> None:
    count = "import pyarrow as pa; print(pa.array(pandas.Series([1.0, None])).null_count)"
    assert output_of(f"{START}import pandas; import_pyarrow_without_pandas(); {count}") == ["1"]
