"""Requests through proxies: what leaves, what it means when a proxy refuses or breaks, and what stays secret."""

import asyncio
import base64
import logging
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from telemetron_batch.api.classify import FailureKind, NoUsableResponse
from telemetron_batch.api.http_client import HttpClient, HttpResult, open_client
from telemetron_batch.api.target import ApiTarget
from telemetron_batch.config.config import resolve
from telemetron_batch.config.network import NetworkOptions, ProxyMode, choose_proxy, parse_proxy
from telemetron_batch.domain.errors import ConfigError
from telemetron_batch.domain.model import Secret
from telemetron_batch.run.check import check
from telemetron_batch.run.requirements import chosen_proxy
from telemetron_batch.sandbox.server import serve_in_thread
from telemetron_batch.sandbox.state import SandboxState
from tests.support.listening import Background, packed, request_from
from tests.support.program import ROWS, Program
from tests.support.proxy import TINYPROXY, ConnectProxy, Proxy, RealProxy, SocksProxy, tinyproxy
from tests.support.scripted import Says
from tests.support.tls import Authority, TlsProxy, needs_openssl, server_context

pytestmark = needs_openssl

KEY = "sk-live-of-the-proxy-tests"
PASSWORD = "s3cret/of-the:proxy@tests"
ESCAPED = "s3cret%2Fof-the%3Aproxy%40tests"
LOGIN = ("me", PASSWORD)
HOST = "api.test"
"""Has no address; only the proxy knows where it is."""
BODY = b"{}"
SOON = 0.3
"""Timeout in seconds of requests that are meant to time out."""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def certificates(authority: Authority) -> dict[str, Path]:
    return {name: authority.signs(name) for name in (HOST, "localhost", "a-client")}


@pytest.fixture(autouse=True)
def _no_proxies_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


class Api:
    """An API behind TLS that accepts everything."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.connections = 0
        self.protocols: list[str | None] = []

    async def listen(self, certificate: Path, clients: Path | None = None) -> int:
        tls = server_context(certificate, clients)
        tls.set_alpn_protocols(["h2", "http/1.1"])
        self.listener = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=tls)
        return int(self.listener.sockets[0].getsockname()[1])

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.protocols.append(writer.get_extra_info("ssl_object").selected_alpn_protocol())
        try:
            while True:
                _, headers, _ = await request_from(reader)
                self.keys.append(headers["x-api-key"])
                writer.write(packed(Says(200, {"success": True})))
        except (OSError, asyncio.IncompleteReadError):
            writer.close()


class World:
    """An API that only a proxy can reach."""

    def __init__(self, api: Api, proxy: Proxy, url: str, ca_file: Path) -> None:
        self.api, self.proxy, self.url = api, proxy, url
        self.network: dict[str, Any] = {"ca_file": str(ca_file)}

    def through(self, scheme: str = "http", login: str = "") -> Secret:
        """Return the URL of the proxy."""
        host = "localhost" if scheme == "https" else "127.0.0.1"
        return Secret(f"{scheme}://{login and login + '@'}{host}:{self.proxy.port}")

    @asynccontextmanager
    async def client(self, proxy: ProxyMode | Secret, timeout: float = 5.0) -> AsyncIterator[HttpClient]:  # noqa: ASYNC109
        network = NetworkOptions(proxy=proxy, **self.network)
        target = ApiTarget(self.url, Secret(KEY), network)
        async with open_client(target, timeout=timeout, wall=lambda: 0.0) as client:
            yield client

    async def post(self, proxy: ProxyMode | Secret, timeout: float = 5.0) -> HttpResult:  # noqa: ASYNC109
        async with self.client(proxy, timeout) as client:
            return await client.post("/path", BODY)


@asynccontextmanager
async def world(
    proxy: Proxy,
    certificates: dict[str, Path],
    authority: Authority,
    *,
    over_tls: bool = False,
    clients: Path | None = None,
) -> AsyncIterator[World]:
    """Start an API and a proxy. `over_tls`: the proxy speaks TLS; `clients`: whose certificates the API wants."""
    api = Api()
    port = await api.listen(certificates[HOST], clients)
    proxy.hosts = {HOST: port}
    await proxy.listen(server_context(certificates["localhost"]) if over_tls else None)
    try:
        yield World(api, proxy, f"https://{HOST}:{port}/api", authority.certificate)
    finally:
        await proxy.close()
        api.listener.close()


def broken(result: HttpResult) -> tuple[FailureKind, bool]:
    assert isinstance(result.failure, NoUsableResponse)
    return result.failure.how, result.failure.sent


def text_of(result: HttpResult) -> str:
    assert isinstance(result.failure, NoUsableResponse)
    return result.failure.text


def assert_saw_no_key(proxy: Proxy) -> None:
    assert KEY.encode() not in proxy.received
    assert b"x-api-key" not in proxy.received.lower()


def met_through(
    proxy: Proxy, certificates: dict[str, Path], authority: Authority, scheme: str = "http", login: str = ""
) -> tuple[HttpResult, World]:
    """Make one request through a proxy."""

    async def main() -> tuple[HttpResult, World]:
        async with world(proxy, certificates, authority, over_tls=scheme == "https") as there:
            return await there.post(there.through(scheme, login), timeout=2), there

    return asyncio.run(main())


# The way through


@pytest.mark.parametrize("scheme", ["http", "https", "socks5", "socks5h"])
@pytest.mark.parametrize("login", ["", f"me:{ESCAPED}"], ids=["without credentials", "with credentials"])
def test_a_request_goes_through_a_proxy_that_never_sees_the_key(
    certificates: dict[str, Path], authority: Authority, scheme: str, login: str
) -> None:
    kind = SocksProxy if scheme.startswith("socks") else ConnectProxy
    proxy = kind(login=LOGIN if login else None)
    result, there = met_through(proxy, certificates, authority, scheme, login)
    assert result.failure is None
    assert there.api.keys == [KEY]
    assert there.api.protocols == ["http/1.1"], "HTTP/2 is not offered"
    assert proxy.asked == [f"{HOST}:{proxy.hosts[HOST]}"]
    assert_saw_no_key(proxy)


def test_a_connection_through_a_proxy_is_used_again(certificates: dict[str, Path], authority: Authority) -> None:
    async def main() -> tuple[int, list[str]]:
        async with (
            world(ConnectProxy(), certificates, authority) as there,
            there.client(there.through()) as client,
        ):
            for _ in range(3):
                assert (await client.post("/path", BODY)).failure is None
            return there.api.connections, there.proxy.asked

    connections, asked = asyncio.run(main())
    assert (connections, len(asked)) == (1, 1)


# A proxy that refuses or breaks


def refusal(status: str) -> bytes:
    return f"HTTP/1.1 {status}\r\ncontent-length: 2\r\n\r\nno".encode()


@pytest.mark.parametrize(
    ("proxy", "how", "words"),
    [
        (ConnectProxy(login=LOGIN), FailureKind.PROXY_LOGIN, "407 Who Are You"),
        (ConnectProxy(refusal=refusal("401 Unauthorized")), FailureKind.PROXY_LOGIN, "401 Unauthorized"),
        (ConnectProxy(refusal=refusal("403 Forbidden")), FailureKind.PROXY_REFUSED, "403 Forbidden"),
        (ConnectProxy(refusal=refusal("400 Bad Request")), FailureKind.PROXY_REFUSED, "400 Bad Request"),
        (ConnectProxy(refusal=refusal("302 Found")), FailureKind.PROXY_REFUSED, "302 Found"),
        (ConnectProxy(refusal=refusal("408 Slow")), FailureKind.CONNECTION, "the proxy answered 408 Slow"),
        (ConnectProxy(refusal=refusal("429 Easy")), FailureKind.CONNECTION, "the proxy answered 429 Easy"),
        (ConnectProxy(refusal=refusal("502 Bad Gateway")), FailureKind.CONNECTION, "the proxy answered 502 Bad"),
        (ConnectProxy(refusal=refusal("503 No")), FailureKind.CONNECTION, "the proxy answered 503 No"),
        (ConnectProxy(refusal=b""), FailureKind.PROXY, "the proxy"),
        (ConnectProxy(refusal=b"HTTP/1.1 20"), FailureKind.PROXY, "the proxy"),
        (ConnectProxy(refusal=b"SSH-2.0-OpenSSH_9.6\r\n"), FailureKind.PROXY, "the proxy"),
        (ConnectProxy(refusal=b"HTTP/1.1 200 OK\r\n\r\n"), FailureKind.CONNECTION, "no connection"),
        (
            ConnectProxy(refusal=b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 400 Bad\r\n\r\n"),
            FailureKind.CONNECTION,
            "no connection",
        ),
        (ConnectProxy(silent=True), FailureKind.PROXY, "the proxy"),
    ],
    ids=lambda one: f"{one.refusal!r:.30}" if isinstance(one, ConnectProxy) else "",
)
def test_a_proxy_that_opens_no_tunnel_was_given_nothing(
    certificates: dict[str, Path], authority: Authority, proxy: ConnectProxy, how: FailureKind, words: str
) -> None:
    result, there = met_through(proxy, certificates, authority)
    assert broken(result) == (how, False)
    assert words in text_of(result)
    assert there.api.keys == []
    assert_saw_no_key(proxy)


@pytest.mark.parametrize(
    ("proxy", "how", "words"),
    [
        (SocksProxy(login=LOGIN), FailureKind.PROXY_LOGIN, "NO ACCEPTABLE METHODS"),
        (SocksProxy(reply=2), FailureKind.PROXY_REFUSED, "not allowed"),
        (SocksProxy(reply=1), FailureKind.CONNECTION, "General SOCKS server failure"),
        (SocksProxy(reply=4), FailureKind.CONNECTION, "Host unreachable"),
        (SocksProxy(reply=5), FailureKind.CONNECTION, "Connection refused"),
        (SocksProxy(reply=9), FailureKind.PROXY, "the proxy"),
        (SocksProxy(garbage=b""), FailureKind.PROXY, "the proxy"),
        (SocksProxy(garbage=b"\x05"), FailureKind.PROXY, "the proxy"),
        (SocksProxy(garbage=b"HTTP/1.1 400 Bad Request\r\n\r\n"), FailureKind.PROXY, "the proxy"),
    ],
    ids=lambda one: f"{one.garbage!r:.20} {one.reply}" if isinstance(one, SocksProxy) else "",
)
def test_a_socks_proxy_that_opens_no_connection_was_given_nothing(
    certificates: dict[str, Path], authority: Authority, proxy: SocksProxy, how: FailureKind, words: str
) -> None:
    result, there = met_through(proxy, certificates, authority, "socks5h")
    assert broken(result) == (how, False)
    assert words in text_of(result)
    assert there.api.keys == []
    assert_saw_no_key(proxy)


@pytest.mark.parametrize("kind", [ConnectProxy, SocksProxy])
def test_wrong_credentials_are_named_and_not_shown(
    certificates: dict[str, Path], authority: Authority, kind: type[Proxy], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    scheme = "http" if kind is ConnectProxy else "socks5"
    result, there = met_through(kind(login=LOGIN), certificates, authority, scheme, "me:another-password")
    assert broken(result) == (FailureKind.PROXY_LOGIN, False)
    assert "another-password" not in text_of(result) + caplog.text
    assert base64.b64encode(b"me:another-password").decode() not in caplog.text
    assert there.api.keys == []


@pytest.mark.parametrize("scheme", ["http", "https", "socks5"])
def test_a_proxy_that_cannot_be_reached_was_given_nothing(authority: Authority, scheme: str) -> None:
    proxy = ConnectProxy()

    async def main() -> HttpResult:
        await proxy.listen()
        await proxy.close()
        there = World(Api(), proxy, f"https://{HOST}/api", authority.certificate)
        return await there.post(there.through(scheme))

    assert broken(asyncio.run(main())) == (FailureKind.PROXY, False)


class PlainHttp(ConnectProxy):
    """Answers whatever comes as a web server does that knows no TLS."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
        await reader.read()


def test_a_proxy_that_speaks_plain_http_behind_an_https_url_is_named(
    certificates: dict[str, Path], authority: Authority
) -> None:
    async def main() -> HttpResult:
        async with world(PlainHttp(), certificates, authority) as there:
            return await there.post(Secret(f"https://localhost:{there.proxy.port}"), timeout=2)

    result = asyncio.run(main())
    assert broken(result) == (FailureKind.TLS, False)
    assert text_of(result).endswith("of the proxy)")


def test_the_certificate_of_a_proxy_is_checked(certificates: dict[str, Path], authority: Authority) -> None:
    async def main() -> HttpResult:
        async with world(ConnectProxy(), certificates, authority, over_tls=True) as there:
            there.network.clear()
            return await there.post(there.through("https", f"me:{ESCAPED}"), timeout=2)

    result = asyncio.run(main())
    assert broken(result) == (FailureKind.UNTRUSTED, False)
    assert text_of(result).endswith("of the proxy)")


def test_a_tunnel_that_breaks_under_a_request_may_have_carried_it(
    certificates: dict[str, Path], authority: Authority
) -> None:
    async def main() -> HttpResult:
        async with world(ConnectProxy(), certificates, authority) as there:

            async def hang(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
                await reader.readuntil(b"\r\n\r\n")
                await there.proxy.close()

            there.api.listener.close()
            tls = server_context(certificates[HOST])
            async with await asyncio.start_server(hang, "127.0.0.1", 0, ssl=tls) as listener:
                there.proxy.hosts = {HOST: listener.sockets[0].getsockname()[1]}
                return await there.post(there.through())

    assert broken(asyncio.run(main())) == (FailureKind.CUT, True)


@dataclass
class Patient(SocksProxy):
    """Refuses, and waits for the client to close the connection."""

    closed: asyncio.Queue[None] = field(default_factory=asyncio.Queue)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await super().serve(reader, writer)
        await reader.read()
        self.closed.put_nowait(None)


def test_a_connection_that_a_socks_proxy_refused_is_closed(certificates: dict[str, Path], authority: Authority) -> None:
    async def main() -> None:
        proxy = Patient(reply=4)
        async with world(proxy, certificates, authority) as there, there.client(there.through("socks5")) as client:
            for _ in range(3):
                await client.post("/path", BODY)
                await asyncio.wait_for(proxy.closed.get(), 2)

    asyncio.run(main())


def test_a_request_that_is_ended_while_a_proxy_is_asked_was_not_sent_and_closes_its_connection(
    certificates: dict[str, Path], authority: Authority
) -> None:
    async def main() -> HttpResult:
        proxy = Patient(garbage=b"\x05\x00")
        async with (
            world(proxy, certificates, authority) as there,
            there.client(there.through("socks5")) as client,
        ):
            request = asyncio.create_task(client.post("/path", BODY))
            await asyncio.sleep(0.1)
            client.shorten_deadlines(0)
            result = await request
            await asyncio.wait_for(proxy.closed.get(), 2)
            return result

    assert broken(asyncio.run(main())) == (FailureKind.TIMEOUT, False)


# Which proxy


@pytest.mark.parametrize(
    ("environment", "url", "chosen"),
    [
        ({"HTTPS_PROXY": "http://p:1"}, "https://api.test", "http://p:1"),
        ({"https_proxy": "http://p:1"}, "https://api.test", "http://p:1"),
        ({"https_proxy": "http://lower:1", "HTTPS_PROXY": "http://upper:1"}, "https://api.test", "http://lower:1"),
        ({"HTTPS_PROXY": "p:1"}, "https://api.test", "http://p:1"),
        ({"ALL_PROXY": "socks5h://p:1"}, "https://api.test", "socks5h://p:1"),
        ({"all_proxy": "http://p:1"}, "https://api.test", "http://p:1"),
        ({"HTTPS_PROXY": "http://https:1", "ALL_PROXY": "http://all:1"}, "https://api.test", "http://https:1"),
        ({"HTTP_PROXY": "http://p:1"}, "https://api.test", None),
        ({"HTTPS_PROXY": ""}, "https://api.test", None),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "api.test"}, "https://api.test", None),
        ({"HTTPS_PROXY": "http://p:1", "no_proxy": ".test"}, "https://api.test", None),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "test"}, "https://api.test", None),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "x, API.test:443"}, "https://api.test:443", None),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "api.test:443"}, "https://api.test", None),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "*.test"}, "https://api.test", "http://p:1"),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "test:8443"}, "https://api.test:8443", None),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "[2001:db8::1]"}, "https://[2001:db8::1]", None),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "api.test:444"}, "https://api.test:445", "http://p:1"),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "*"}, "https://api.test", None),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "pi.test"}, "https://api.test", "http://p:1"),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "10.0.0.0/8"}, "https://10.1.2.3", "http://p:1"),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "10.1.2.3"}, "https://10.1.2.3:8443", None),
        ({"HTTPS_PROXY": "http://p:1"}, "https://localhost:8443", None),
        ({"ALL_PROXY": "http://p:1"}, "http://127.0.0.1:8000", None),
        ({"HTTPS_PROXY": "http://p:1"}, "https://[::1]:8443", None),
    ],
)
def test_the_environment_names_the_proxy(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], url: str, chosen: str | None
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    proxy = choose_proxy(f"{url}/api", ProxyMode.ENV)
    assert (None if proxy is None else proxy.shown) == chosen
    assert choose_proxy(url, ProxyMode.NONE) is None


def test_a_proxy_that_is_named_by_its_url_is_used_for_a_loopback_host_too() -> None:
    proxy = choose_proxy("https://localhost:1", parse_proxy("http://p:3128"))
    assert proxy is not None
    assert proxy.shown == "http://p:3128"


@pytest.mark.parametrize(("variable", "mode"), [("HTTPS_PROXY", "env"), ("ALL_PROXY", "env")])
def test_a_request_follows_the_environment(
    certificates: dict[str, Path], authority: Authority, monkeypatch: pytest.MonkeyPatch, variable: str, mode: str
) -> None:
    async def main() -> tuple[HttpResult, HttpResult, list[str]]:
        async with world(ConnectProxy(), certificates, authority) as there:
            monkeypatch.setenv(variable, there.through().reveal())
            through = await there.post(ProxyMode(mode))
            return through, await there.post(ProxyMode.NONE), there.proxy.asked

    through, around, asked = asyncio.run(main())
    assert through.failure is None
    assert len(asked) == 1
    assert broken(around) == (FailureKind.NAME, False)


def test_the_key_goes_to_no_proxy_in_clear() -> None:
    flags = {"base_url": "http://127.0.0.1:8000/api", "yes": True}
    environ = {"TELEMETRON_API_KEY": KEY, "TELEMETRON_PROXY": "http://proxy.example:3128"}
    with pytest.raises(ConfigError, match="unencrypted"):
        chosen_proxy(resolve((), flags, environ))


def test_a_socks_proxy_without_its_library_is_refused_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("telemetron_batch.run.requirements.find_spec", lambda _: None)
    environ = {"TELEMETRON_API_KEY": KEY, "TELEMETRON_PROXY": "socks5h://proxy.example:1080"}
    with pytest.raises(ConfigError) as caught:
        chosen_proxy(resolve((), {}, environ))
    assert "pip install 'telemetron-batch[socks]'" in str(caught.value)


# Client certificates


def test_a_server_that_wants_a_client_certificate_gets_it(certificates: dict[str, Path], authority: Authority) -> None:
    async def main() -> tuple[HttpResult, HttpResult]:
        clients = authority.certificate
        async with world(ConnectProxy(), certificates, authority, clients=clients) as there:
            without = await there.post(there.through())
            there.network["client_cert"] = str(certificates["a-client"])
            return without, await there.post(there.through())

    without, with_it = asyncio.run(main())
    assert isinstance(without.failure, NoUsableResponse)
    assert with_it.failure is None


@contextmanager
def openssl_server(certificate: Path, clients: Path) -> Iterator[int]:
    """Serve TLS handshakes on a port; unlike asyncio's, this server says why it ends one."""
    context = server_context(certificate, clients)

    def serve(listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False) as tls:
                    with suppress(OSError):
                        tls.do_handshake()
                    time.sleep(0.2)  # a reset would overtake the alert

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_a_missing_client_certificate_is_named(certificates: dict[str, Path], authority: Authority) -> None:
    with openssl_server(certificates["localhost"], authority.certificate) as port:
        flags = {"base_url": f"https://localhost:{port}/api", "ca_file": str(authority.certificate)}
        stop = check(resolve((), flags, {"TELEMETRON_API_KEY": KEY})).stop
    assert stop is not None
    assert "certificate required" in stop.sentence
    assert "--client-cert" in stop.advice.words()


# The program


@pytest.fixture
def background() -> Iterator[Background]:
    with Background() as background:
        yield background


@pytest.fixture
def fleet() -> Iterator[SandboxState]:
    with SandboxState() as fleet:
        fleet.assign("stock@x.com", [f"SN-{n}" for n in range(ROWS)], create=True)
        yield fleet


@pytest.fixture
def program(
    tmp_path: Path, fleet: SandboxState, background: Background, authority: Authority, certificates: dict[str, Path]
) -> Iterator[Program]:
    """The program, and the sandbox behind TLS at https://localhost."""
    with serve_in_thread(fleet, api_key=KEY) as base_url:
        program = Program(tmp_path, TlsProxy(urlsplit(base_url).port or 0), KEY)
        program.environment["TELEMETRON_CA_FILE"] = str(authority.certificate)
        background.do(program.proxy.listen(certificates["localhost"]))
        yield program
        background.do(program.proxy.close())


def assert_kept_secret(program: Program, *printed: str) -> None:
    """Check that neither key nor credentials of the proxy are in a file of the run or in what was printed."""
    secrets = (KEY, PASSWORD, ESCAPED, base64.b64encode(":".join(LOGIN).encode()).decode())
    files = [file for file in program.folder.rglob("*") if file.is_file() and file.parent.name not in ("proxy", "ca")]
    assert any(file.name == "journal.sqlite3" for file in files)
    texts = [*(file.read_bytes() for file in files), *(text.encode() for text in printed)]
    assert [secret for secret in secrets for text in texts if secret.encode() in text] == []


@pytest.fixture
def real(tmp_path: Path) -> Iterator[RealProxy]:
    """A tinyproxy that wants credentials."""
    if TINYPROXY is None:
        pytest.skip("tinyproxy is not installed")
    with tinyproxy(tmp_path / "proxy", login=("me", "s3cret-of-tinyproxy")) as proxy:
        yield proxy


@pytest.mark.slow
def test_a_run_goes_through_tinyproxy_with_credentials_from_a_file(program: Program, real: RealProxy) -> None:
    file = program.folder / "proxy-url"
    file.write_text(f"http://me:s3cret-of-tinyproxy@127.0.0.1:{real.port}\n")
    file.chmod(0o600)
    arguments = [*program.run_arguments, "--proxy", f"@{file}", "-v"]
    with program.open(*arguments) as process:
        seen = Path(f"/proc/{process.pid}/cmdline").read_bytes()
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert Counter(row["outcome"] for row in program.rows()) == {"assigned": ROWS}
    assert f"CONNECT localhost:{program.proxy.port} " in real.log
    assert f"proxy: http://127.0.0.1:{real.port}" in (program.folder / "r" / "run.log").read_text()
    file.unlink()
    (real.folder / "tinyproxy.conf").unlink()
    assert b"s3cret-of-tinyproxy" not in seen
    files = [one for one in program.folder.rglob("*") if one.is_file()]
    assert not [one for one in files if b"s3cret-of-tinyproxy" in one.read_bytes()]
    assert "s3cret-of-tinyproxy" not in out + err


@pytest.mark.slow
def test_a_run_goes_through_tinyproxy_without_credentials(program: Program, tmp_path: Path) -> None:
    if TINYPROXY is None:
        pytest.skip("tinyproxy is not installed")
    with tinyproxy(tmp_path / "proxy") as proxy:
        program.environment["TELEMETRON_PROXY"] = f"http://127.0.0.1:{proxy.port}"
        rows = program.run()
    assert Counter(row["outcome"] for row in rows) == {"assigned": ROWS}


@pytest.mark.slow
def test_a_plain_api_of_this_machine_may_be_behind_a_proxy_of_this_machine(program: Program, tmp_path: Path) -> None:
    if TINYPROXY is None:
        pytest.skip("tinyproxy is not installed")
    with tinyproxy(tmp_path / "proxy") as proxy, SandboxState() as fleet, serve_in_thread(fleet) as base_url:
        fleet.assign("stock@x.com", [f"SN-{number}" for number in range(ROWS)], create=True)
        program.base_url = base_url
        program.environment["TELEMETRON_PROXY"] = f"http://127.0.0.1:{proxy.port}"
        rows = program.run()
        assert urlsplit(base_url).netloc in proxy.log
    assert Counter(row["outcome"] for row in rows) == {"assigned": ROWS}


@pytest.mark.slow
def test_wrong_credentials_stop_the_run_with_4_and_the_same_command_completes_it(
    program: Program, real: RealProxy
) -> None:
    program.environment["TELEMETRON_PROXY"] = f"http://me:not-the-password@127.0.0.1:{real.port}"
    stopped = program(*program.run_arguments)
    assert stopped.returncode == 4
    assert "the proxy wants credentials (401" in stopped.stderr
    assert "not-the-password" not in stopped.stdout + stopped.stderr
    assert program.proxy.connections == 0
    assert Counter(row["outcome"] for row in program.rows()) == {"notSent": ROWS}
    checked = program("check")
    assert checked.returncode == 4
    assert "the proxy wants credentials (401" in checked.stderr
    assert f"proxy: http://127.0.0.1:{real.port} (--proxy)" in checked.stdout
    program.environment["TELEMETRON_PROXY"] = f"http://127.0.0.1:{real.port}"
    assert "the proxy wants credentials (407" in program(*program.run_arguments).stderr
    program.environment["TELEMETRON_PROXY"] = f"http://me:s3cret-of-tinyproxy@127.0.0.1:{real.port}"
    assert Counter(row["outcome"] for row in program.run()) == {"assigned": ROWS}


@pytest.mark.slow
def test_a_host_that_tinyproxy_filters_out_stops_the_run_with_4(program: Program, tmp_path: Path) -> None:
    if TINYPROXY is None:
        pytest.skip("tinyproxy is not installed")
    with tinyproxy(tmp_path / "proxy", refuses="localhost") as proxy:
        program.environment["TELEMETRON_PROXY"] = f"http://127.0.0.1:{proxy.port}"
        stopped = program(*program.run_arguments)
        checked = program("check")
    assert (stopped.returncode, checked.returncode) == (4, 4)
    for ended in (stopped, checked):
        assert "the proxy refuses the host of --base-url (403 Filtered)" in ended.stderr
    assert program.proxy.connections == 0


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["http", "socks5h"])
def test_a_proxy_that_ends_in_mid_run_leads_to_no_false_claim(
    program: Program, fleet: SandboxState, background: Background, scheme: str
) -> None:
    proxy = (SocksProxy if scheme == "socks5h" else ConnectProxy)({"localhost": program.proxy.port}, LOGIN)
    background.do(proxy.listen())
    program.environment["TELEMETRON_PROXY"] = f"{scheme}://me:{ESCAPED}@127.0.0.1:{proxy.port}"
    arguments = [*program.run_arguments, "--rate", "20/s", "--give-up-after", "1s"]
    with program.open(*arguments) as process:
        until = time.monotonic() + 30
        while proxy.received.count(b"\x17\x03\x03") < 30:  # records of TLS
            assert time.monotonic() < until
            time.sleep(0.01)
        background.do(proxy.close())
        out, err = process.communicate(timeout=60)
    assert process.returncode == 3, err
    assert "the proxy cannot be reached" in err
    for row in program.rows():
        assert row["outcome"] in ("assigned", "alreadyAssigned", "unconfirmed", "notSent")
        if row["outcome"] in ("assigned", "alreadyAssigned"):
            assert row["customerEmail"] in fleet.owners(row["deviceIdentifier"])
    background.do(proxy.listen())
    resumed = program("resume", str(program.folder / "r"))
    background.do(proxy.close())
    assert resumed.returncode == 0, resumed.stderr
    assert {row["outcome"] for row in program.rows()} <= {"assigned", "alreadyAssigned"}
    assert_kept_secret(program, out, err, resumed.stdout, resumed.stderr)
    assert_saw_no_key(proxy)


@pytest.mark.slow
def test_check_names_what_is_wrong_with_the_way_and_shows_proxy_trust_and_times(
    program: Program, background: Background, authority: Authority
) -> None:
    proxy = ConnectProxy({"localhost": program.proxy.port}, LOGIN)
    background.do(proxy.listen())
    program.environment["TELEMETRON_PROXY"] = f"http://me:{ESCAPED}@127.0.0.1:{proxy.port}"
    right = program("check")
    assert right.returncode == 0, right.stderr
    assert f"proxy: http://127.0.0.1:{proxy.port} (--proxy)" in right.stdout
    assert f"trusted certificates: --ca-file {authority.certificate}" in right.stdout
    assert all(f"{step} " in right.stdout for step in ("DNS", "connect", "TLS", "answer"))
    del program.environment["TELEMETRON_CA_FILE"]
    resigned = program("check")
    assert resigned.returncode == 3
    assert "a certificate of an unknown authority" in resigned.stderr
    assert "your network re-signs TLS; give its CA with --ca-file" in resigned.stderr
    background.do(proxy.close())
    gone = program("check", "-v")
    assert gone.returncode == 3
    assert "the proxy cannot be reached (Connection refused); check --proxy" in gone.stderr
    shown = "".join(ended.stdout + ended.stderr for ended in (right, resigned, gone))
    assert PASSWORD not in shown
    assert ESCAPED not in shown


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--ca-file", "missing.pem"], "--ca-file: cannot read"),
        (["--ca-file", "garbage.pem"], "holds no certificate in PEM form"),
        (["--ca-file", "empty.pem"], "holds no certificate in PEM form"),
        (["--ca-file", "."], "--ca-file: cannot read"),
        (["--client-cert", "missing.pem"], "--client-cert: cannot read"),
        (["--client-cert", "garbage.pem"], "not PEM"),
        (["--client-cert", "cert.pem"], "do not fit or are not PEM"),
        (["--client-cert", "cert.pem", "--client-key", "missing.pem"], "--client-key: cannot read"),
        (["--client-cert", "cert.pem", "--client-key", "garbage.pem"], "do not fit or are not PEM"),
        (["--client-cert", "cert.pem", "--client-key", "another.pem"], "do not fit or are not PEM"),
        (["--client-cert", "cert.pem", "--client-key", "encrypted.pem"], "is encrypted"),
        (["--client-key", "another.pem"], "is only used with --client-cert"),
    ],
    ids=lambda one: " ".join(one) if isinstance(one, list) else "",
)
def test_a_certificate_file_that_cannot_be_used_ends_the_run_before_anything_is_sent(
    program: Program, certificates: dict[str, Path], options: list[str], words: str
) -> None:
    folder = program.folder
    (folder / "garbage.pem").write_bytes(bytes(range(256)))
    (folder / "empty.pem").touch()
    (folder / "cert.pem").write_bytes((certificates["a-client"].parent / "cert").read_bytes())
    (folder / "another.pem").write_bytes(certificates["localhost"].read_bytes())
    encrypted = ["openssl", "pkey", "-aes256", "-passout", "pass:word", "-in", certificates["a-client"]]
    subprocess.run([*encrypted, "-out", folder / "encrypted.pem"], check=True, capture_output=True)
    named = [str(folder / one) if one.endswith((".pem", ".")) else one for one in options]
    ended = program(*program.run_arguments, *named)
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert words in line
    assert program.proxy.connections == 0
    assert not (folder / "r").exists()
