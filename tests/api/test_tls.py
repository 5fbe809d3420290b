"""TLS as it is met in the field: certificates that are trusted or not, and peers that hang up in the middle.

A small proxy ends the TLS in front of the sandbox; the program trusts what `SSL_CERT_FILE` holds,
as it would trust what the system holds.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from telemetron_batch.sandbox.server import serve_in_thread
from telemetron_batch.sandbox.state import SandboxState
from tests.support.listening import Background
from tests.support.program import ROWS, Program
from tests.support.tls import Authority, TlsProxy, needs_openssl

pytestmark = [pytest.mark.slow, needs_openssl]

KEY = "key-of-the-tls-tests"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def localhost(authority: Authority) -> Path:
    return authority.signs("localhost")


@pytest.fixture
def background() -> Iterator[Background]:
    with Background() as background:
        yield background


@pytest.fixture
def program(tmp_path: Path, background: Background) -> Iterator[Program]:
    with SandboxState() as fleet, serve_in_thread(fleet, api_key=KEY) as base_url:
        fleet.assign("stock@x.com", [f"SN-{n}" for n in range(ROWS)], create=True)
        program = Program(tmp_path, TlsProxy(urlsplit(base_url).port or 0), KEY)
        yield program
        background.do(program.proxy.close())


def test_a_server_with_a_trusted_certificate_gets_the_request(
    program: Program, background: Background, authority: Authority, localhost: Path
) -> None:
    background.do(program.proxy.listen(localhost))
    program.trusts = authority.certificate
    assert program("check").returncode == 0
    assert Counter(row["outcome"] for row in program.run()) == {"assigned": ROWS}
    assert program.proxy.connections <= 1 + 8, "connections are used again"


@pytest.mark.parametrize(
    ("name", "days", "trusted"),
    [("localhost", "2", False), ("elsewhere.example", "2", True), ("localhost", "0", True)],
    ids=["a CA nobody knows", "another's name", "expired"],
)
def test_a_certificate_that_is_not_trusted_is_reported_and_gets_no_request(
    program: Program, background: Background, tmp_path: Path, name: str, days: str, *, trusted: bool
) -> None:
    (tmp_path / "other").mkdir()
    other = Authority(tmp_path / "other")
    background.do(program.proxy.listen(other.signs(name, days=days)))
    program.trusts = other.certificate if trusted else None
    ended = program("check")
    assert ended.returncode == 3
    assert "certificate" in ended.stdout + ended.stderr
    assert KEY not in ended.stdout + ended.stderr


def test_a_tls_peer_that_hangs_up_without_a_word_may_have_acted(
    program: Program, background: Background, authority: Authority, localhost: Path
) -> None:
    background.do(program.proxy.listen(localhost))
    program.trusts = authority.certificate
    program.proxy.hangs_up_on = 5
    rows = program.run()
    marked = [row for row in rows if row["unclearAttempts"] != "0"]
    assert sum(int(row["unclearAttempts"]) for row in marked) == 5  # a second attempt may be cut off, too
    assert {row["outcome"] for row in marked} == {"alreadyAssigned"}
    assert Counter(row["outcome"] for row in rows) == {"assigned": ROWS - len(marked), "alreadyAssigned": len(marked)}
