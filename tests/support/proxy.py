"""Proxies of the tests: small ones in Python with behaviour to choose, and a real tinyproxy."""

import asyncio
import base64
import shutil
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.listening import Wire, free_port, is_listening

TINYPROXY = shutil.which("tinyproxy") or shutil.which("tinyproxy", path="/usr/bin:/usr/sbin")


@dataclass
class Proxy:
    """A proxy on a loopback port that knows the addresses of its hosts."""

    hosts: Mapping[str, int] = field(default_factory=dict)
    """The port on 127.0.0.1 of each host that it reaches."""
    login: tuple[str, str] | None = None
    """User and password that clients must have."""
    asked: list[str] = field(default_factory=list)
    """HOST:PORT of each connection that was asked for."""
    received: bytearray = field(default_factory=bytearray)
    """All bytes of its clients."""
    port: int = 0

    async def listen(self, tls: ssl.SSLContext | None = None) -> None:
        self.clients: set[asyncio.Task[None]] = set()
        self.listener = await asyncio.start_server(self._accept, "127.0.0.1", self.port, ssl=tls)
        self.port = self.listener.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """End at once, with all its connections."""
        self.listener.close()
        for task in self.clients:
            task.cancel()
        await asyncio.gather(*self.clients, return_exceptions=True)

    async def _accept(self, *client: *Wire) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.clients.add(task)
        try:
            await self.serve(*client)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            client[1].transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one client."""
        raise NotImplementedError

    async def hear(self, reader: asyncio.StreamReader, size: int) -> bytes:
        """Return the next bytes of a client."""
        data = await reader.readexactly(size)
        self.received += data
        return data

    async def tunnel(self, client: Wire, host: str) -> None:
        """Pass bytes on in both directions until one side ends."""
        server = await asyncio.open_connection("127.0.0.1", self.hosts[host])
        tasks = {
            asyncio.create_task(self._pass_on(client[0], server[1], heard=True)),
            asyncio.create_task(self._pass_on(server[0], client[1], heard=False)),
        }
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            server[1].transport.abort()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, heard: bool) -> None:
        while data := await reader.read(1 << 16):
            if heard:
                self.received += data
            writer.write(data)


@dataclass
class ConnectProxy(Proxy):
    """An HTTP proxy for CONNECT."""

    refusal: bytes | None = None
    """What it answers to CONNECT instead of opening a tunnel; empty: it hangs up without an answer."""
    silent: bool = False
    """Whether it never answers."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.received += head
        method, target, _ = head.split(b"\r\n")[0].decode().split()
        assert method == "CONNECT"
        self.asked.append(target)
        if self.silent:
            await reader.read()
        if self.refusal is not None:
            writer.write(self.refusal)
        elif not self._knows(head):
            writer.write(
                b'HTTP/1.1 407 Who Are You\r\nproxy-authenticate: Basic realm="x"\r\ncontent-length: 0\r\n\r\n'
            )
        else:
            writer.write(b"HTTP/1.1 200 Connection Established\r\n\r\n")
            await self.tunnel((reader, writer), target.rpartition(":")[0].strip("[]"))
        await writer.drain()
        writer.close()

    def _knows(self, head: bytes) -> bool:
        if self.login is None:
            return True
        expected = base64.b64encode(":".join(self.login).encode())
        return b"proxy-authorization: basic " + expected.lower() in head.lower() and expected in head


@dataclass
class SocksProxy(Proxy):
    """A SOCKS 5 proxy (RFC 1928, 1929)."""

    reply: int = 0
    """Its reply to CONNECT; 0 opens the connection."""
    garbage: bytes | None = None
    """What it answers to the greeting instead; empty: it hangs up."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _, count = await self.hear(reader, 2)
        methods = await self.hear(reader, count)
        if self.garbage is not None:
            writer.write(self.garbage)
            return await writer.drain()
        method = 0 if self.login is None else 2
        writer.write(bytes((5, method if method in methods else 0xFF)))
        if method not in methods or (method == 2 and not await self._lets_in(reader, writer)):
            return await writer.drain()
        kind = (await self.hear(reader, 4))[3]
        size = {1: 4, 3: -1, 4: 16}[kind]
        if size < 0:
            (size,) = await self.hear(reader, 1)
        host = await self.hear(reader, size)
        port = int.from_bytes(await self.hear(reader, 2), "big")
        name = host.decode() if kind == 3 else socket.inet_ntop(socket.AF_INET if kind == 1 else socket.AF_INET6, host)
        self.asked.append(f"{name}:{port}")
        writer.write(bytes((5, self.reply, 0, 1, 127, 0, 0, 1, 0, 0)))
        if self.reply:
            return await writer.drain()
        return await self.tunnel((reader, writer), name)

    async def _lets_in(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        _, size = await self.hear(reader, 2)
        user = await self.hear(reader, size)
        (size,) = await self.hear(reader, 1)
        password = await self.hear(reader, size)
        knows = (user.decode(), password.decode()) == self.login
        writer.write(bytes((1, 0 if knows else 1)))
        return knows


_TINYPROXY = """
Port {port}
Listen 127.0.0.1
Timeout 60
LogFile "{folder}/proxy.log"
LogLevel Connect
MaxClients 50
"""


@contextmanager
def tinyproxy(
    folder: Path, *, login: tuple[str, str] | None = None, refuses: str = "", port: int = 0
) -> Iterator["RealProxy"]:
    """Run tinyproxy; `refuses` is a host that it filters out."""
    assert TINYPROXY is not None, "tinyproxy is not installed"
    folder.mkdir(exist_ok=True)
    port = port or free_port()
    text = _TINYPROXY.format(folder=folder, port=port)
    if login is not None:
        text += f"BasicAuth {login[0]} {login[1]}\n"
    if refuses:
        (folder / "filter").write_text(f"^{refuses}$\n")
        text += f'Filter "{folder}/filter"\n'
    (folder / "tinyproxy.conf").write_text(text)
    with _running([TINYPROXY, "-d", "-c", str(folder / "tinyproxy.conf")], port, folder) as proxy:
        yield proxy


@dataclass
class RealProxy:
    """A proxy in a process of its own."""

    process: "subprocess.Popen[bytes]"
    port: int
    folder: Path

    @property
    def log(self) -> str:
        """What it has logged."""
        return (self.folder / "proxy.log").read_text()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def _running(command: list[str], port: int, folder: Path) -> Iterator[RealProxy]:
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            until = time.monotonic() + 20
            while not is_listening(port):
                assert process.poll() is None, f"{command[0]} ended: {process.returncode}"
                assert time.monotonic() < until, f"{command[0]} does not answer"
                time.sleep(0.02)
            yield RealProxy(process, port, folder)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
