"""The program as a process of its own, against an API behind TLS."""

import csv
import os
import subprocess
import sys
from pathlib import Path

from tests.support.tls import TlsProxy

ROOT = Path(__file__).parents[2]
ROWS = 40


class Program:
    """Run the program against an API at https://localhost, which the TLS proxy serves."""

    def __init__(self, folder: Path, proxy: TlsProxy, key: str) -> None:
        self.folder, self.proxy, self.key = folder, proxy, key
        self.base_url: str | None = None
        """Another API."""
        self.trusts: Path | None = None
        self.start = ["-m", "telemetron_batch"]
        self.environment: dict[str, str] = {}
        lines = [f"user{n}@x.com,SN-{n},assign" for n in range(ROWS)]
        (folder / "rows.csv").write_text("\n".join(["customerEmail,deviceIdentifier,action", *lines]) + "\n")

    def __call__(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        with self.open(*arguments) as process:
            out, err = process.communicate(timeout=60)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def open(self, *arguments: str) -> "subprocess.Popen[str]":
        """Start the program without waiting for its end."""
        environment = {**os.environ, "TELEMETRON_API_KEY": self.key, "XDG_STATE_HOME": str(self.folder / "state")}
        if self.trusts is not None:
            environment["SSL_CERT_FILE"] = str(self.trusts)
        url = self.base_url or f"https://localhost:{self.proxy.port}/api/ext-v1"
        command = [sys.executable, *self.start, *arguments, "--base-url", url]
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env={**environment, **self.environment},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    @property
    def run_arguments(self) -> list[str]:
        """The arguments of a run of the rows."""
        rows = str(self.folder / "rows.csv")
        return ["run", rows, "--reports-dir", str(self.folder), "--run-id", "r", "--rate", "100/s"]

    def run(self) -> list[dict[str, str]]:
        """Return the rows of the reconciliation."""
        ended = self(*self.run_arguments)
        assert ended.returncode == 0, ended.stderr
        return self.rows()

    def rows(self) -> list[dict[str, str]]:
        """Return the rows of the reconciliation that the run has written."""
        with (self.folder / "r" / "reconciliation.csv").open(newline="") as file:
            return [*csv.DictReader(file)]
