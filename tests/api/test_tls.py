"""TLS as it is met in the field: certificates that are trusted or not, and peers that hang up in the middle.

A small proxy ends the TLS in front of the sandbox; the program trusts what `SSL_CERT_FILE` holds,
as it would trust what the system holds.
"""

import asyncio
import os
import shutil
import ssl
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from telemetron_batch.sandbox.server import serve_in_thread
from telemetron_batch.sandbox.state import SandboxState
from tests.support.books import reconciliation_of
from tests.support.listening import Background, Wire

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("openssl") is None, reason="certificates are made with openssl"),
]

ROOT = Path(__file__).parents[2]
KEY = "key-of-the-tls-tests"
ROWS = 40


class Authority:
    """Signs certificates for servers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.certificate = folder / "ca.pem"
        self._openssl("req", "-x509", "-nodes", *_NEW_KEY, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=a CA")

    def signs(self, name: str, *, days: str = "2") -> Path:
        """Return a file with a key and a certificate for this host name."""
        (folder := self.folder / name).mkdir()
        (folder / "names").write_text(f"subjectAltName=DNS:{name}")
        self._openssl(
            "req", "-nodes", "-new", *_NEW_KEY, "-keyout", f"{name}/pem", "-out", f"{name}/csr", "-subj", f"/CN={name}"
        )
        signer = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", days, "-extfile", f"{name}/names")
        self._openssl("x509", "-req", "-in", f"{name}/csr", *signer, "-out", f"{name}/cert")
        with (folder / "pem").open("a") as both:
            both.write((folder / "cert").read_text())
        return folder / "pem"

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=self.folder, check=True, capture_output=True)


_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")


@dataclass
class TlsProxy:
    """Terminates TLS in front of a server without TLS."""

    behind: int
    """The server's port."""
    hangs_up_on: int = 0
    """Number of requests that are passed on but get no answer: the connection is reset."""
    connections: int = 0
    port: int = 0

    async def listen(self, certificate: Path) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        self.listener = await asyncio.start_server(lambda *client: self._serve(client), "127.0.0.1", 0, ssl=context)
        self.port = self.listener.sockets[0].getsockname()[1]

    async def close(self) -> None:
        self.listener.close()

    async def _serve(self, client: Wire) -> None:
        self.connections += 1
        server = await asyncio.open_connection("127.0.0.1", self.behind)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pass_on(client[0], server[1]))
                both.create_task(self._bring_back(server[0], client[1]))
        except* (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            for _, writer in (client, server):
                writer.transport.abort()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            writer.write(data)
        raise ConnectionError("the client is gone")

    async def _bring_back(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            if self.hangs_up_on > 0:
                self.hangs_up_on -= 1
                raise ConnectionError("the server has answered; the client shall not hear of it")
            writer.write(data)
        raise ConnectionError("the server is gone")


class Program:
    """Run the program against the proxy."""

    def __init__(self, folder: Path, proxy: TlsProxy) -> None:
        self.folder, self.proxy = folder, proxy
        self.trusts: Path | None = None
        self.start = ["-m", "telemetron_batch"]
        lines = [f"user{n}@x.com,SN-{n},assign" for n in range(ROWS)]
        (folder / "rows.csv").write_text("\n".join(["customerEmail,deviceIdentifier,action", *lines]) + "\n")

    def __call__(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        environment = {**os.environ, "TELEMETRON_API_KEY": KEY, "XDG_STATE_HOME": str(self.folder / "state")}
        if self.trusts is not None:
            environment["SSL_CERT_FILE"] = str(self.trusts)
        url = f"https://localhost:{self.proxy.port}/api/ext-v1"
        command = [sys.executable, *self.start, *arguments, "--base-url", url]
        return subprocess.run(command, cwd=ROOT, env=environment, text=True, capture_output=True, timeout=60)

    def run(self) -> list[dict[str, str]]:
        """Return the rows of the reconciliation."""
        ended = self(
            "run", str(self.folder / "rows.csv"), "--reports-dir", str(self.folder), "--run-id", "r", "--rate", "100/s"
        )
        assert ended.returncode == 0, ended.stderr
        return reconciliation_of(self.folder / "r")


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
        program = Program(tmp_path, TlsProxy(int(base_url.split(":")[2].split("/")[0])))
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
