"""The sandbox fails as it is told, and a repeated rehearsal meets the same faults."""

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from telemetron_batch.config.config import resolve
from telemetron_batch.domain.errors import ConfigError
from telemetron_batch.run import pipeline
from telemetron_batch.sandbox.faults import Fault, Faults
from telemetron_batch.sandbox.serve import SandboxOptions, serve_sandbox
from telemetron_batch.sandbox.server import sandbox_app, serve_in_thread
from telemetron_batch.sandbox.state import SandboxState
from tests.support.books import reconciliation_of

ASSIGN = "/api/ext-v1/deviceAssignment/assignDevicesToOwner"
HEADERS = {"x-api-key": "any"}
BODIES = [json.dumps({"customerEmail": "a@x.com", "deviceIdentifiers": [f"S{n}"]}).encode() for n in range(2000)]


def test_about_the_given_share_fails_and_in_every_way() -> None:
    chosen = Counter(Faults(0.25).choose(ASSIGN, body, 0) for body in BODIES)
    assert chosen.keys() == {None, *Fault}
    assert 400 < sum(count for fault, count in chosen.items() if fault) < 600
    assert all(count > 60 for count in chosen.values())


def test_the_same_requests_fail_each_time_and_others_with_another_number() -> None:
    first, again, other = (
        [faults.choose(ASSIGN, body, 0) for body in BODIES]
        for faults in (Faults(0.25), Faults(0.25), Faults(0.25, seed=2))
    )
    assert first == again != other


def test_a_request_that_failed_may_succeed_when_it_comes_again() -> None:
    faults = Faults(0.5)
    failed = [body for body in BODIES if faults.choose(ASSIGN, body, 0)]
    assert any(faults.choose(ASSIGN, body, 1) is None for body in failed)


@pytest.mark.parametrize(("share", "failing"), [(0.0, 0), (1.0, len(BODIES))])
def test_none_or_all_requests_fail_at_the_ends(share: float, failing: int) -> None:
    assert sum(Faults(share).choose(ASSIGN, body, 0) is not None for body in BODIES) == failing


def post(app: object, body: bytes) -> httpx2.Response:
    async def send() -> httpx2.Response:
        transport = httpx2.ASGITransport(app=app)  # type: ignore[arg-type]
        async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return await client.post(ASSIGN, content=body, headers=HEADERS)

    return asyncio.run(send())


def body_that(fault: Fault | None, faults: Faults) -> bytes:
    return next(body for body in BODIES if faults.choose(ASSIGN, body, 0) is fault)


@pytest.mark.parametrize(("fault", "status"), [(Fault.ERROR, 500), (Fault.UNAVAILABLE, 503)])
def test_a_request_that_is_answered_with_an_error_does_nothing(fault: Fault, status: int) -> None:
    faults = Faults(0.25)
    with SandboxState() as state:
        answer = post(sandbox_app(state, faults=faults), body_that(fault, faults))
        assert (answer.status_code, "error" in answer.json()) == (status, True)
        assert state.customer("a@x.com") is None


def test_other_requests_are_answered_as_always() -> None:
    faults = Faults(0.25)
    with SandboxState() as state:
        answer = post(sandbox_app(state, faults=faults), body_that(None, faults))
        assert (answer.status_code, answer.json()["success"]) == (200, True)


def test_every_key_is_refused_on_request() -> None:
    with SandboxState() as state:
        answer = post(sandbox_app(state, faults=Faults(refuse_key=True)), BODIES[0])
        assert (answer.status_code, answer.json()) == (401, {"error": "Invalid or missing API key"})
        assert state.customer("a@x.com") is None


@pytest.mark.parametrize("text", ["5", "101%", "some", "-1%"])
def test_a_share_that_is_none_is_refused(text: str) -> None:
    options = SandboxOptions(port=0, db=None, limit=None, max_devices=1, environ={}, fail=text)
    with pytest.raises(ConfigError, match=r"--fail: .* is not a share of the requests; write it as 5%"):
        serve_sandbox(options, announce=print, note=print)


@contextmanager
def served(state: SandboxState, faults: Faults) -> Iterator[str]:
    with serve_in_thread(state, faults=faults) as base_url:
        yield base_url


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "error", "is_done"),
    [
        (Fault.LOST, httpx2.ReadError, False),
        (Fault.ANSWER_LOST, httpx2.ReadError, True),
        (Fault.SILENT, httpx2.ReadTimeout, True),
    ],
)
def test_a_lost_request_is_heard_of_no_more(fault: Fault, error: type[Exception], is_done: bool) -> None:
    faults = Faults(0.25)
    with SandboxState() as state, served(state, faults) as base_url:
        url = base_url.removesuffix("/api/ext-v1") + ASSIGN
        with pytest.raises(error):
            httpx2.post(url, content=body_that(fault, faults), headers=HEADERS, timeout=0.5, trust_env=False)
        assert (state.customer("a@x.com") is not None) is is_done


@pytest.mark.slow
def test_a_rehearsal_of_faults_ends_with_every_row_where_it_should_be(tmp_path: Path) -> None:
    rows = "".join(f"c{n % 40}@x.com,S{n},assign\n" for n in range(400))
    (tmp_path / "rows.csv").write_text(f"customerEmail,deviceIdentifier,action\n{rows}")
    with SandboxState() as state, served(state, Faults(0.3)) as base_url:
        flags = {
            "base_url": base_url,
            "reports_dir": str(tmp_path),
            "run_id": "r1",
            "timeout": "0.5",
            "chunk_size": "3",
        }
        config = resolve([str(tmp_path / "rows.csv")], {**flags, "rate": "200/s"}, {"TELEMETRON_API_KEY": "key"})
        summary = pipeline.run(config)
    outcomes = Counter(row["outcome"] for row in reconciliation_of(tmp_path / "r1"))
    assert summary.exit_code == 0
    assert outcomes.keys() <= {"assigned", "alreadyAssigned"}
    assert sum(outcomes.values()) == 400
