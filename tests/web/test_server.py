"""The server itself: connections that bring nothing are bounded, and it ends when it is told to."""

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from telemetron_batch.domain.errors import ConfigError
from telemetron_batch.web import server as module
from telemetron_batch.web.options import ServeOptions
from telemetron_batch.web.server import DeskServer, listen, tls_context
from tests.support.listening import free_port
from tests.support.tls import Authority, needs_openssl

ASK = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answer anything; /slow only when the request's body is complete, /much with more than a socket takes."""
    if scope["path"] == "/slow":
        while (await receive()).get("more_body"):
            pass
    body = b"x" * (64 << 20) if scope["path"] == "/much" else b"ok\n"
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": 200, "headers": [length]})
    await send({"type": "http.response.body", "body": body})


@contextmanager
def served(on_end: Any = lambda: None, tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """Serve in a thread; yield the port."""
    with listen(ServeOptions(port=0)) as listener:
        server = DeskServer(app, tls, on_end)
        thread = threading.Thread(target=lambda: asyncio.run(server._serve([listener])))
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), 20)


def answer(port: int, request: bytes = ASK) -> bytes:
    """Return the first bytes of the answer on a new connection; nothing if it was closed."""
    with connect(port) as one:
        one.sendall(request)
        return one.recv(1000)


def is_closed(one: socket.socket) -> bool:
    """Wait until the server closes a connection or sends something; return whether it was closed."""
    try:
        return one.recv(1) == b""
    except ConnectionError:
        return True


def test_it_answers() -> None:
    with served() as port:
        assert answer(port).startswith(b"HTTP/1.1 200")


@pytest.mark.slow
@pytest.mark.parametrize("begin", [b"", b"GET / HTTP/1.1\r\nHost: x\r\n"])
def test_a_connection_that_brings_no_complete_head_is_closed(monkeypatch: pytest.MonkeyPatch, begin: bytes) -> None:
    monkeypatch.setattr(module, "_HEAD_S", 0.3)
    with served() as port, connect(port) as one:
        one.sendall(begin)
        assert is_closed(one)


@pytest.mark.slow
def test_a_head_that_comes_byte_by_byte_gets_no_more_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_HEAD_S", 0.5)
    with served() as port, connect(port) as one:
        one.sendall(ASK)
        assert one.recv(1000)
        one.settimeout(0.05)
        closed, sent = False, 0
        while not closed and sent < 100:
            with suppress(TimeoutError):
                closed = is_closed(one)
            with suppress(OSError):
                one.sendall(b"a" if sent else b"GET /")
            sent += 1
        assert closed


@pytest.mark.slow
def test_a_request_that_has_begun_is_not_cut_by_that_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_HEAD_S", 0.3)
    with served() as port, connect(port) as one:
        one.sendall(b"POST /slow HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\na")
        time.sleep(0.8)
        one.sendall(b"b")
        assert one.recv(1000).startswith(b"HTTP/1.1 200")


@pytest.mark.slow
def test_a_client_that_takes_no_answer_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_STALLED_S", 0.3)
    with served() as port, connect(port) as one:
        one.sendall(b"GET /much HTTP/1.1\r\nHost: x\r\n\r\n")
        time.sleep(1.5)
        received = 0
        try:
            while piece := one.recv(1 << 20):
                received += len(piece)
        except ConnectionError:
            pass
        assert received < 64 << 20


@pytest.mark.slow
def test_connections_that_bring_nothing_keep_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_CONNECTIONS", 50)
    with served() as port, ExitStack() as open_ones:
        first = [open_ones.enter_context(connect(port)) for _ in range(120)]
        assert answer(port).startswith(b"HTTP/1.1 200")
        assert is_closed(first[0])


@pytest.mark.slow
def test_the_desk_is_ended_once_and_open_requests_do_not_hold_the_end_up() -> None:
    ended: list[float] = []
    with ExitStack() as stack:
        with served(lambda: ended.append(time.monotonic())) as port:
            one = stack.enter_context(connect(port))
            one.sendall(b"POST /slow HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\na")
            time.sleep(0.2)
        assert len(ended) == 1


def test_a_port_in_use_is_one_line_with_advice() -> None:
    port = free_port()
    with listen(ServeOptions(port=port)), pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1 port {port}"):
        listen(ServeOptions(port=port))


@pytest.mark.parametrize("host", ["192.0.2.1", "no such host.invalid", "x" * 300])
def test_a_host_that_is_not_this_machine_is_one_line_with_advice(host: str) -> None:
    with pytest.raises(ConfigError, match="cannot listen on"):
        listen(ServeOptions(host=host, port=0))


def test_a_certificate_that_cannot_be_used_is_one_line_with_advice(tmp_path: Path) -> None:
    (tmp_path / "cert.pem").write_text("nonsense")
    for name in ("cert.pem", "missing.pem"):
        with pytest.raises(ConfigError, match="cannot be used") as caught:
            tls_context(ServeOptions(tls_cert=tmp_path / name))
        assert caught.value.advice


@needs_openssl
def test_a_certificate_and_its_key_may_be_one_file_or_two(tmp_path: Path) -> None:
    pem = Authority(tmp_path).signs("desk")
    assert tls_context(ServeOptions(tls_cert=pem)) is not None
    assert tls_context(ServeOptions(tls_cert=pem, tls_key=pem)) is not None
    assert tls_context(ServeOptions()) is None


@needs_openssl
@pytest.mark.slow
def test_it_speaks_tls_and_closes_a_connection_that_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_HANDSHAKE_S", 0.3)
    authority = Authority(tmp_path)
    ours = tls_context(ServeOptions(tls_cert=authority.signs("localhost")))
    theirs = ssl.create_default_context(cafile=str(authority.certificate))
    with served(tls=ours) as port:
        with connect(port) as plain, theirs.wrap_socket(plain, server_hostname="localhost") as one:
            one.sendall(ASK)
            assert one.recv(1000).startswith(b"HTTP/1.1 200")
            assert one.version() in ("TLSv1.2", "TLSv1.3")
        with connect(port) as silent:
            assert is_closed(silent)
