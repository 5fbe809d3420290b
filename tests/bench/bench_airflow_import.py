"""What reading a DAG file costs with all classes of the Airflow provider, beyond what Airflow itself imports.

Run it in an environment with Airflow: `make bench-airflow`.
"""

import os
import subprocess
import sys
import tempfile
from statistics import median

REPEATS = 5
AIRFLOW = (
    "from airflow.sdk import DAG, Asset, BaseHook, BaseNotifier, BaseOperator, BaseSensorOperator, TaskGroup, task"
)
MODULES = "hooks", "operators", "shards", "groups", "sensors", "notifications"
MEASURE = """
import sys, time

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 2**20

exec(sys.argv[1])
before, began = resident(), time.process_time()
exec(sys.argv[2])
print(time.process_time() - began, resident() - before)
"""


def measure(baseline: str, code: str) -> tuple[float, float]:
    """Return seconds of processor time and MiB that code costs in a new process after the baseline."""
    with tempfile.TemporaryDirectory() as home:
        environ = {**os.environ, "AIRFLOW_HOME": home}
        command = [sys.executable, "-c", MEASURE, baseline, code]
        found = [
            [
                *map(
                    float,
                    subprocess.run(command, env=environ, capture_output=True, text=True, check=True).stdout.split()[
                        -2:
                    ],
                )
            ]
            for _ in range(REPEATS)
        ]
    return median(one[0] for one in found), median(one[1] for one in found)


def main() -> None:
    """Print the medians."""
    ours = "; ".join(f"import telemetron_batch.airflow_provider.{name}" for name in MODULES)
    for words, baseline, code in (
        ("Airflow's own libraries", "pass", AIRFLOW),
        ("all classes of the provider, in addition", AIRFLOW, ours),
        (
            "operators only, in addition to `import airflow.sdk`",
            "import airflow.sdk",
            "import telemetron_batch.airflow_provider.operators",
        ),
    ):
        seconds, mebibytes = measure(baseline, code)
        sys.stdout.write(f"{words}: {seconds:.2f} s of processor time, {mebibytes:.1f} MiB\n")
