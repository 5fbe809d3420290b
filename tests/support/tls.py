"""A certificate authority of the tests, and a proxy that ends TLS in front of a server without it."""

import asyncio
import shutil
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.listening import Wire

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="certificates are made with openssl")


class Authority:
    """Signs certificates for servers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.certificate = folder / "ca.pem"
        files = ("-keyout", "ca.key", "-out", "ca.pem")
        self._openssl("req", "-x509", "-nodes", *_NEW_KEY, *files, "-subj", "/CN=a CA", "-addext", _CA_USAGE)

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


_CA_USAGE = "keyUsage=critical,keyCertSign,cRLSign"
"""Python 3.13 refuses an authority that does not say so."""
_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")


def server_context(certificate: Path, clients: Path | None = None) -> ssl.SSLContext:
    """Return a context for a server; `clients` is the authority of the certificates that clients must have."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    if clients is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(clients)
    return context


@dataclass
class TlsProxy:
    """Terminates TLS in front of a server without TLS."""

    behind: int
    """The server's port."""
    hangs_up_on: int = 0
    """Number of requests that are passed on but get no answer: the connection is reset."""
    connections: int = 0
    port: int = 0

    async def listen(self, certificate: Path, *, clients: Path | None = None) -> None:
        """Listen; `clients` is the authority of the certificates that clients must have."""
        context = server_context(certificate, clients)
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
