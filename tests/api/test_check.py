"""`check`: whether the API is reachable and accepts the key."""

import asyncio
import shutil
import ssl
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from telemetron_batch.api.check import _unreachable
from telemetron_batch.api.classify import FailureKind, NoUsableResponse
from telemetron_batch.config.config import resolve
from telemetron_batch.domain.stops import Stop
from telemetron_batch.run.check import check
from tests.conftest import KEY, Desk
from tests.support.listening import Background
from tests.support.scripted import BASE_URL, Event, Hangs, Loses, Refuses, Says


def checked(desk: Desk, event: Event = None) -> Stop | None:
    desk.server.script = lambda _: event
    flags: dict[str, Any] = {"base_url": BASE_URL, "timeout": "3"}
    return check(resolve((), flags, {"TELEMETRON_API_KEY": KEY}), transport=desk.server, clock=desk.clock).stop


def test_an_api_that_knows_no_such_customer_is_all_right(desk: Desk) -> None:
    assert checked(desk) is None
    assert [seen.action for seen in desk.server.seen] == ["query"]


@pytest.mark.parametrize(
    ("event", "exit_code", "words"),
    [
        (Says(401, {"error": "Invalid or missing API key"}), 4, "refuses this key"),
        (Says(403, {"error": "no"}), 4, "refuses this key"),
        (Says(302, b""), 4, "redirects elsewhere"),
        (Says(404, b"<h1>Not Found</h1>"), 4, "no Telemetron API"),
        (Says(200, b"<h1>Welcome</h1>"), 4, "no Telemetron API"),
        (Says(429, {}), 3, "429"),
        (Says(502, b"<html>"), 3, "502"),
        (Refuses(), 3, "cannot be reached"),
        (Loses(), 3, "cannot be reached"),
        (Hangs(), 3, "cannot be reached"),
    ],
)
def test_each_failure_has_its_words_and_its_exit_code(desk: Desk, event: Event, exit_code: int, words: str) -> None:
    stop = checked(desk, event)
    assert stop is not None
    assert (stop.exit_code, words in stop.sentence) == (exit_code, True)
    assert KEY not in stop.sentence + stop.advice.words()


@pytest.mark.parametrize("host", ["a" * 64 + ".example", "no-such-host.invalid"])
def test_a_host_that_does_not_exist_is_named_as_such(host: str) -> None:
    stop = checked_at(f"https://{host}/api/ext-v1")
    assert stop.sentence.startswith("the API cannot be reached: host name not found (")
    assert "behind a proxy, set HTTPS_PROXY or --proxy" in stop.advice.words()


# TLS

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OF_TLS = "the clock of this machine and its trusted certificates"


@pytest.fixture
def served() -> Iterator[Callable[..., str]]:
    """Start a server with this handler and return its https URL."""
    with Background() as background:
        listeners: list[asyncio.Server] = []

        async def start(serve: Serve, tls: ssl.SSLContext | None) -> str:
            listener = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
            listeners.append(listener)
            return f"https://127.0.0.1:{listener.sockets[0].getsockname()[1]}/api/ext-v1"

        async def stop() -> None:
            for listener in listeners:
                listener.close()

        yield lambda serve, tls=None: background.do(start(serve, tls))
        background.do(stop())


def checked_at(url: str) -> Stop:
    stop = check(resolve((), {"base_url": url, "timeout": "5"}, {"TELEMETRON_API_KEY": KEY})).stop
    assert stop is not None
    return stop


@pytest.mark.skipif(shutil.which("openssl") is None, reason="certificates are made with openssl")
def test_a_self_signed_certificate_is_reported_as_one_of_an_unknown_authority(
    served: Callable[..., str], tmp_path: Path
) -> None:
    made = "req -x509 -nodes -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -keyout pem -out cert -subj /CN=x"
    subprocess.run(["openssl", *made.split()], cwd=tmp_path, check=True, capture_output=True)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "cert", tmp_path / "pem")

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    stop = checked_at(served(hang_up, tls))
    assert stop.sentence.startswith("the API cannot be reached: a certificate of an unknown authority (")
    assert "--ca-file" in stop.advice.words()


def test_plain_http_behind_an_https_url_is_reported_as_a_tls_failure(served: Callable[..., str]) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
        writer.close()

    stop = checked_at(served(refuse))
    assert stop.sentence.startswith("the API cannot be reached: TLS failed (")
    assert OF_TLS in stop.advice.words()


def test_a_peer_that_hangs_up_in_the_handshake_is_no_failure_of_tls(served: Callable[..., str]) -> None:
    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    assert OF_TLS not in checked_at(served(hang_up)).advice.words()


@pytest.mark.parametrize("how", FailureKind)
def test_the_words_of_a_failure_do_not_decide_on_the_advice(how: FailureKind) -> None:
    advice = _unreachable(
        NoUsableResponse(how, sent=False, text="no route to ssl.tls-certificate.example")
    ).advice.words()
    assert (OF_TLS in advice) == (how is FailureKind.TLS)
