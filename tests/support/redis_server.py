"""A Redis of its own for a test, and the script that shares a pace run on it at times that the test chooses."""

import json
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import redis

from telemetron_batch.config.rate import Rate
from telemetron_batch.rate_limit.pacer import Permit, spacing
from telemetron_batch.rate_limit.script_backend import SCRIPT, learn_from_incident
from telemetron_batch.rate_limit.shared import _SharedPermit

PROGRAM = shutil.which("redis-server") or ""


class RedisServer:
    """A redis-server on a free port, without persistence."""

    def __init__(self, folder: Path, *options: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.folder, self.options = folder, options
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        folder = ["--dir", str(self.folder), "--save", "", "--appendonly", "no"]
        command = [PROGRAM, "--port", str(self.port), "--bind", "127.0.0.1", *folder, *self.options]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        until = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                return
            except OSError:
                assert time.monotonic() < until, "redis-server does not answer"
                time.sleep(0.01)

    def stop(self) -> None:
        """Stop the server immediately; its data is lost."""
        self.process.kill()
        self.process.wait()

    def freeze(self) -> None:
        """Make the server accept connections but not answer."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def client(self) -> redis.Redis:
        return redis.Redis(port=self.port, decode_responses=True)


class Member:
    """A process that shares the rate, with the methods of `Pacer`; each call is one exchange at a given time."""

    def __init__(self, client: redis.Redis, rate: Rate, name: str = "one", lost: float = 600.0) -> None:
        self.script = client.register_script(SCRIPT)
        self.name, self.lost = name, lost
        told = {} if rate == Rate.AUTO else {"attempts": rate.attempts, "seconds": rate.seconds}
        limit, window_s, gap = spacing(rate)
        self.rule = {"places": limit, "span": window_s, "gap": gap} | told
        self.answer: dict[str, Any] = {}

    def exchange(self, now: float, *news: dict[str, Any], **besides: Any) -> dict[str, Any]:
        request = {"now": now, "member": self.name, "rule": self.rule, "lost": self.lost, "news": news, **besides}
        answer = json.loads(self.script(keys=["state", "log", "accepted"], args=[json.dumps(request)]))
        self.answer = answer
        if "facts" in answer:
            self.exchange(now, {"kind": "lesson", "known": learn_from_incident(answer["facts"])})
        return answer

    def acquire(self, now: float) -> Permit | float:
        answer = self.exchange(now, wants=True)
        if "permit" not in answer:
            return float(answer["wait"])
        told = answer["permit"]
        return _SharedPermit(told["epoch"], now, told["probe"], id=told["id"])

    def succeeded(self, permit: _SharedPermit, now: float) -> None:
        self.exchange(now, {"kind": "succeeded", "id": permit.id})

    def throttled(self, permit: _SharedPermit, now: float, wait: float | None, jitter: float) -> None:
        asked = {} if wait is None else {"wait": wait}
        self.exchange(now, {"kind": "throttled", "id": permit.id, "epoch": permit.epoch, "jitter": jitter, **asked})

    def abandoned(self, permit: _SharedPermit, now: float) -> None:
        self.exchange(now, {"kind": "abandoned", "id": permit.id})

    def apply_quotas(self, quotas: Iterable[tuple[int, float]], now: float) -> None:
        if told := [*quotas]:
            self.exchange(now, {"kind": "quotas", "quotas": told})

    def before_send(self, permit: _SharedPermit, now: float) -> float:
        return float(self.exchange(now, move=permit.id)["wait"])
