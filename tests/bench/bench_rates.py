"""How much of a limit is used over a minute, and how many calls it refuses: told, and found by `--rate auto`.

Real sockets and the whole program: a token bucket, a fixed and a sliding window in the server, and
nginx's `limit_req` before it, all of 50 calls a second. Each limit is met twice at once, by a run that
is told of it and by one that is not. Needs nginx; some six minutes.
"""

# ruff: noqa: T201 - figures are all it is for

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tests.support import nginx
from tests.support.faulty import Arrived, Bucket, FaultyServer, FixedWindow, SlidingWindow
from tests.support.scripted import Says

PER_SECOND = 50
MINUTE = 60.0
BURST = 20
"""Of the token bucket; it is full when a run begins."""
LATENCY = 0.05

WINDOWS = {
    "token bucket of 20": partial(Bucket, PER_SECOND, 1.0, retry_after=False, burst=BURST),
    "fixed window": partial(FixedWindow, PER_SECOND, 1.0, retry_after=False),
    "sliding window": partial(SlidingWindow, PER_SECOND, 1.0, retry_after=False),
    "fixed window, with Retry-After": partial(FixedWindow, PER_SECOND, 1.0, retry_after=True),
    "sliding window, with Retry-After": partial(SlidingWindow, PER_SECOND, 1.0, retry_after=True),
}
NGINX = {"nginx, burst=5 nodelay": "burst=5 nodelay", "nginx without burst": ""}


class Gate:
    """A limit, if there is one here, and when it let calls in."""

    def __init__(self, limit: Callable[[Arrived], Says | None] | None) -> None:
        self._limit = limit
        self.let_in: list[float] = []
        self.refused = 0

    def __call__(self, arrived: Arrived) -> Says | None:
        fault = None if self._limit is None else self._limit(arrived)
        if fault is None:
            self.let_in.append(arrived.at)
        self.refused += fault is not None
        return fault


@contextmanager
def windowed(limit: partial[Bucket | FixedWindow | SlidingWindow], _: Path) -> Iterator[tuple[Gate, str]]:
    with FaultyServer(gate := Gate(limit()), latency=LATENCY) as server:
        yield gate, server.base_url


@contextmanager
def behind_nginx(burst: str, folder: Path) -> Iterator[tuple[Gate, str]]:
    with (
        FaultyServer(gate := Gate(None), latency=LATENCY) as server,
        nginx.nginx(folder / "nginx", server.port, burst, rate=PER_SECOND) as port,
    ):
        yield gate, server.base_url.replace(f":{server.port}/", f":{port}/")
    gate.refused = nginx.refused(folder / "nginx")


def play(opened: Callable[[Path], object], rate: str) -> tuple[float, float]:
    """The share of the limit that was used in the first minute, and the share of all calls that was refused."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = "".join(f"user{row:05}@example.com,SN-{row:05},assign\n" for row in range(int(PER_SECOND * MINUTE)))
        (folder / "rows.csv").write_text(f"customerEmail,deviceIdentifier,action\n{rows}")
        with opened(folder) as (gate, base_url):  # type: ignore[attr-defined]  # one of the two above
            command = [
                sys.executable,
                "-m",
                "telemetron_batch",
                "run",
                str(folder / "rows.csv"),
                "--base-url",
                base_url,
                "--yes",
            ]
            command += ["--quiet", "--rate", rate, "--attempts", "6", "--reports-dir", str(folder / "reports")]
            environment = {**os.environ, "TELEMETRON_API_KEY": "key-of-the-bench", "XDG_STATE_HOME": name}
            subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    began = gate.let_in[0]
    used = sum(at < began + MINUTE for at in gate.let_in) / (PER_SECOND * MINUTE)
    return used, gate.refused / (gate.refused + len(gate.let_in))


def main() -> None:
    """Print all figures."""
    limits = {name: partial(windowed, limit) for name, limit in WINDOWS.items()}
    if nginx.BINARY is not None:
        limits |= {name: partial(behind_nginx, burst) for name, burst in NGINX.items()}
    print(f"{PER_SECOND} calls a second for a minute, answers after {1000 * LATENCY:.0f} ms: share used, calls refused")
    for name, opened in limits.items():
        with ThreadPoolExecutor() as pool:
            both = [*pool.map(partial(play, opened), (f"{PER_SECOND}/s", "auto"))]
        told, found = (f"{used:.1%} used, {away:.1%} refused" for used, away in both)
        print(f"  {name:<34} told: {told:<28} auto: {found}", flush=True)


if __name__ == "__main__":
    main()
