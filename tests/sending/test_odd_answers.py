"""Texts of any answer come out printable and without the key, and no answer is taken for another one."""

import asyncio
import gzip
import json
import socket
import threading
import zlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpcore2
import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetron_batch.api import customer_query, protocol
from telemetron_batch.api.classify import CallRejected, ErrorResponse, FailureKind, NoUsableResponse, StopRun
from telemetron_batch.api.http import LARGEST_ERROR
from telemetron_batch.api.http_client import HttpClient, HttpResult, open_client
from telemetron_batch.api.protocol import Reply, UnusableError, read_error, read_holdings, read_reply
from telemetron_batch.api.target import ApiTarget
from telemetron_batch.config.config import resolve
from telemetron_batch.domain.actions import Action
from telemetron_batch.domain.answers import CustomerHoldings
from telemetron_batch.domain.model import Call, Secret
from telemetron_batch.domain.outcomes import Outcome
from telemetron_batch.domain.printable import printable
from telemetron_batch.domain.reasons import Reason
from telemetron_batch.run import pipeline
from telemetron_batch.storage.redaction import Redactor
from tests.api.test_protocol import ASSIGN_ANSWER, UNASSIGN_ANSWER
from tests.conftest import Desk
from tests.support.scripted import Rewrites, Seen

KEY = "sk-live-0123456789"
CALL = Call(1, 0, "a@x.com", Action.ASSIGN, ("SN-001", "SN-002", "SN-003"), None)


# Bytes behind an answer


def sized(number: str) -> bytes:
    body = b'{"number": "%s"}' % number.encode()
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body


def chunked(number: str) -> bytes:
    body = b'{"number": "%s"}' % number.encode()
    return b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n%x\r\n" % len(body) + body + b"\r\n0\r\n\r\n"


@dataclass
class Chatterbox:
    """Answers with the connection's number; the first connection sends more bytes behind the answer."""

    answer: Callable[[str], bytes]
    stray: bytes
    at_once: bool
    may_stray: threading.Event = field(default_factory=threading.Event)
    strayed: threading.Event = field(default_factory=threading.Event)
    url: str = ""

    @contextmanager
    def listening(self) -> Iterator[None]:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            threading.Thread(target=self._serve, args=(listener,), daemon=True).start()
            yield

    def _serve(self, listener: socket.socket) -> None:
        for number in range(3):
            try:
                connection, _ = listener.accept()
            except OSError:
                return  # it was closed
            threading.Thread(target=self._talk, args=(connection, str(number)), daemon=True).start()

    def _talk(self, connection: socket.socket, number: str) -> None:
        with closing(connection), suppress(ConnectionError):
            connection.recv(65536)
            connection.sendall(self.answer(number) + (self.stray if self.at_once and number == "0" else b""))
            if not self.at_once and number == "0":
                self.may_stray.wait(5)
                connection.sendall(self.stray)
                self.strayed.set()
            if connection.recv(65536):
                connection.sendall(self.answer("a second request over one connection"))


STRAY = [sized("stray"), chunked("stray"), b"HTTP/1.1 200 OK\r\n", b"\r\n", b"\x00no HTTP at all"]


def numbers(server: Chatterbox, between: Callable[[], Any]) -> list[str | NoUsableResponse | ErrorResponse]:
    """Make two requests, with an action between them."""

    async def main() -> list[str | NoUsableResponse | ErrorResponse]:
        async with open_client(ApiTarget(server.url, Secret(KEY)), timeout=5, wall=lambda: 0.0) as exchanger:
            first = await exchanger.post("/path", b"{}")
            if (wait := between()) is not None:
                await wait
            second = await exchanger.post("/path", b"{}")
            return [one.failure or json.loads(one.body)["number"] for one in (first, second)]

    with server.listening():
        return asyncio.run(main())


@pytest.mark.parametrize("answer", [sized, chunked])
@pytest.mark.parametrize("stray", STRAY)
def test_what_comes_in_the_packet_of_an_answer_is_not_the_next_answer(
    answer: Callable[[str], bytes], stray: bytes
) -> None:
    first, second = numbers(Chatterbox(answer, stray, at_once=True), lambda: None)
    assert first == "0"
    # The library has read the bytes together with the answer, so they show only after the next request has left.
    assert second == "1" or (isinstance(second, NoUsableResponse) and second.sent)


@pytest.mark.parametrize("steps", range(5))
@pytest.mark.parametrize("stray", STRAY)
def test_what_comes_just_before_the_next_request_is_not_its_answer(stray: bytes, steps: int) -> None:
    server = Chatterbox(sized, stray, at_once=False)

    async def let_it_come() -> None:
        server.may_stray.set()
        server.strayed.wait(5)  # keeps the event loop from reading it
        for _ in range(steps):
            await asyncio.sleep(0)  # lets the event loop read it, but not the connection's reader

    assert numbers(server, let_it_come) == ["0", "1"]


@pytest.mark.parametrize("stray", STRAY)
def test_what_comes_over_an_idle_connection_is_not_the_next_answer(stray: bytes) -> None:
    server = Chatterbox(sized, stray, at_once=False)

    async def wait_for_it() -> None:
        server.may_stray.set()
        await asyncio.sleep(0.1)

    assert numbers(server, wait_for_it) == ["0", "1"]


@pytest.mark.parametrize("answer", [sized, chunked, lambda _: b"HTTP/1.1 204 No Content\r\n\r\n"])
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_a_connection_with_nothing_behind_its_answers_is_used_again_however_they_are_cut(
    answer: Callable[[str], bytes], size: int
) -> None:
    connections: list[object] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        with closing(writer), suppress(asyncio.IncompleteReadError):
            while await reader.readuntil(b"{}"):
                text = answer("0")
                for at in range(0, len(text), size):
                    writer.write(text[at : at + size])
                    await asyncio.sleep(0)

    async def main() -> list[HttpResult]:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with server, open_client(ApiTarget(url, Secret(KEY)), timeout=5, wall=lambda: 0.0) as exchanger:
            return [await exchanger.post("/path", b"{}") for _ in range(3)]

    assert [exchange.failure for exchange in asyncio.run(main())] == [None] * 3
    assert len(connections) == 1


def test_a_new_connection_with_unexpected_data_is_not_used_and_nothing_was_sent() -> None:
    async def main() -> HttpResult:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"

            def answer_before_the_request() -> None:
                with closing(listener.accept()[0]) as connection, suppress(ConnectionError):
                    connection.sendall(sized("0"))
                    said.set()
                    connection.recv(65536)

            said = threading.Event()
            threading.Thread(target=answer_before_the_request, daemon=True).start()
            async with open_client(ApiTarget(url, Secret(KEY)), timeout=5, wall=lambda: 0.0) as client:
                # The client's own backend connects, and the answer is there before the request begins.
                connect = httpcore2.AnyIOBackend.connect_tcp

                async def connect_late(*args: Any, **options: Any) -> httpcore2.AsyncNetworkStream:
                    stream = await connect(*args, **options)
                    await asyncio.to_thread(said.wait, 5)
                    return stream

                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(httpcore2.AnyIOBackend, "connect_tcp", connect_late)
                    return await client.post("/path", b"{}")

    failure = asyncio.run(main()).failure
    assert isinstance(failure, NoUsableResponse)
    assert (failure.how, failure.sent) == (FailureKind.CUT, False)
    assert "before it was asked" in failure.text


# Error bodies


def answered(status: int, *chunks: bytes, **headers: str) -> HttpResult:
    """Return the result of a request that is answered by these chunks."""

    async def body() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    spelled = {name.replace("_", "-"): text for name, text in headers.items()}
    respond = httpx2.MockTransport(lambda _: httpx2.Response(status, headers=spelled, content=body()))
    return exchanged(respond)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_compressed_error_is_decoded(encoding: str) -> None:
    body = b'{"error": "no such device"}'
    packed = gzip.compress(body) if encoding == "gzip" else zlib.compress(body)
    failure = answered(500, packed, content_encoding=encoding).failure
    assert isinstance(failure, ErrorResponse)
    assert failure.text == "no such device"


@pytest.mark.parametrize("status", [404, 429, 500, 302])
def test_of_an_errors_body_one_mebibyte_is_read_and_the_rest_is_not_waited_for(status: int) -> None:
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        while True:
            taken += 65536
            yield b" " * 65536

    respond = httpx2.MockTransport(lambda _: httpx2.Response(status, content=endless()))
    assert exchanged(respond).status == status
    assert LARGEST_ERROR < taken <= LARGEST_ERROR + 2 * 65536


# Texts


TEXTS = st.text(st.characters(exclude_categories=()), max_size=12)  # lone surrogates as well
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
ENTRY = (
    TEXTS
    | st.sampled_from(CALL.devices)
    | st.fixed_dictionaries(
        {"identifier": TEXTS | st.sampled_from(CALL.devices)}, optional={"deviceId": TEXTS | JSON, "wasCreated": JSON}
    )
)
NAMES = [*ASSIGN_ANSWER, *UNASSIGN_ANSWER, "error", "email", "devices"]
ANSWERS = st.fixed_dictionaries(
    {}, optional={name: st.lists(ENTRY, max_size=4) | JSON for name in NAMES} | {"success": st.just(True)}
)


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    answer = draw(ANSWERS | JSON)
    if draw(st.booleans()):
        return json.dumps(answer).encode()
    return json.dumps(answer, ensure_ascii=False).encode("utf-8", "surrogatepass")


def says(status: int, body: bytes, broken: str | None = None) -> httpx2.MockTransport:
    """Return a transport that returns this answer, or fails with this text."""

    def respond(_: httpx2.Request) -> httpx2.Response:
        if broken is not None:
            raise httpx2.ReadError(broken)
        return httpx2.Response(status, content=body)

    return httpx2.MockTransport(respond)


def exchanged(
    transport: httpx2.AsyncBaseTransport, key: str = KEY, secrets: Sequence[Secret] | None = None
) -> HttpResult:
    exchanger = HttpClient(
        ApiTarget("http://h", Secret(key), transport=transport), timeout=5, wall=lambda: 0.0, secrets=secrets
    )
    return asyncio.run(exchanger.post("/path", b"{}"))


def replied(exchange: HttpResult, call: Call = CALL) -> Any:
    asked = range(len(call.devices))
    return exchange.read(lambda body: read_reply(body, call, asked, exchange.sanitize), call.action)


def texts_of(result: Any) -> Iterator[str]:
    """Yield every text of a result."""
    if isinstance(result, Reply):
        yield from (result.customer_id, *result.unrequested)
        for device in result.results.values():
            yield from (device.device_id, device.text)
    elif isinstance(result, StopRun):
        yield from (result.stop.sentence, result.stop.advice.words())
    elif isinstance(result, HttpResult):
        yield from [result.failure.text] if result.failure else []
    elif isinstance(result, CustomerHoldings):
        yield result.error
    else:
        yield result.text


def assert_fit(texts: Iterator[str]) -> None:
    for text in texts:
        assert text.isprintable()
        text.encode()


@given(bodies(), st.sampled_from([200, 200, 400, 404, 401, 429, 500]), st.sampled_from(Action), st.none() | TEXTS)
def test_every_text_of_an_exchange_is_printable_and_can_be_stored(
    body: bytes, status: int, action: Action, broken: str | None
) -> None:
    exchange = exchanged(says(status, body, broken))
    assert_fit(texts_of(exchange))
    assert_fit(texts_of(replied(exchange, replace(CALL, action=action))))
    held = customer_query._read(exchange, "a@x.com", 0.0)
    if isinstance(held, CustomerHoldings):
        _ = [device.encode() for device in held.devices or ()]
    else:
        assert_fit(texts_of(CustomerHoldings("a@x.com", 0.0, None, next(texts_of(held)))))


def reason(read: Callable[[], object]) -> str:
    """Return why a body cannot be read; empty if it can."""
    try:
        read()
    except UnusableError as exc:
        return str(exc)
    return ""


@given(bodies(), st.sampled_from(Action))
def test_any_body_is_read_or_unusable(body: bytes, action: Action) -> None:
    assert read_error(body).text.isprintable()
    for read in (
        lambda: read_reply(body, replace(CALL, action=action), (0, 1, 2)),
        lambda: read_holdings(body, "a@x.com"),
    ):
        assert reason(read).isprintable()


@pytest.mark.parametrize("depth", range(900, 1000, 7))
def test_no_depth_of_nesting_is_too_much(depth: int) -> None:
    nested = b"[" * depth + b"]" * depth
    read_error(b'{"error": ' + nested + b"}")
    for field_of in (b'"customerId": ', b'"skipped": [{"identifier": "A", "deviceId": '):
        end = b"}]}" if b"skipped" in field_of else b"}"
        body = b'{"success": true, ' + field_of + nested + end
        why = reason(lambda: read_reply(body, CALL, (0, 1, 2)))  # noqa: B023 - called at once
        assert why in ("", "it is not JSON", "it is nested too deeply")


@pytest.mark.parametrize("value", [b"[],", b"{},", b"0,", b'"",'])
@pytest.mark.parametrize("start", [b'{"success": true, "assignedDevices": [', b'{"error": [', b'{"devices": ['])
def test_more_values_than_any_answer_has_are_not_read(start: bytes, value: bytes) -> None:
    body = start + value * 2_000_001 + b"0]}"
    for read in (lambda: read_reply(body, CALL, (0,)), lambda: read_holdings(body, "a@x.com")):
        assert reason(read) == "it contains more than 2,000,000 values"
    assert not read_error(body).is_api_error


def test_an_error_of_more_than_64_kib_is_none_of_the_api() -> None:
    texts = [b"x" * (64 * 1024 - len(b'{"error":""}') + more) for more in (0, 1)]
    errors = [read_error(b'{"error":"%s"}' % text) for text in texts]
    assert [error.is_api_error for error in errors] == [True, False]
    assert all(len(error.text) <= 300 for error in errors)


@pytest.mark.parametrize("blank", [" ", "\u3000", "\u2003\n"])
def test_of_a_long_text_no_half_word_is_shown(blank: str) -> None:
    for number in range(4050, 4110):
        text = blank * number + "secret" + "x" * 9000
        for body in (text.encode(), json.dumps({"error": text}, ensure_ascii=False).encode()):
            assert read_error(body).text == ""


def test_text_of_one_kind_comes_out_as_it_was_and_of_the_other_in_escapes() -> None:
    assert printable("Gerät № 7 😀") == "Gerät № 7 😀"
    assert printable("a\u202eb\x1b[31m\ud83d\x00\x7f\u200b") == r"a\u202eb\x1b[31m\ud83d\x00\x7f\u200b"


@pytest.mark.parametrize("odd", ["\x7f", "\u202e", "\\u202e", "\\u007f", "\\ud83d\\ude00\\u0000"])
def test_the_usual_answer_is_made_printable_as_well(odd: str) -> None:
    body = json.dumps(ASSIGN_ANSWER, ensure_ascii=False).replace("dev_x1", f"dev{odd}x").replace("cust_", f"c{odd}_")
    read = read_reply(body.encode(), CALL, (0, 1, 2))
    assert_fit(texts_of(read))
    assert read.results[0].device_id.startswith("dev")


def test_identifiers_that_a_customer_holds_are_compared_as_they_were_sent() -> None:
    body = rb'{"devices": ["SN-\u202e", "SN-1\u00a0", "SN-\ud83d"]}'
    assert read_holdings(body, "a@x.com") == {"SN-\u202e", "SN-1\u00a0", r"SN-\ud83d"}


def test_a_foreign_identifier_with_half_a_surrogate_pair_ends_the_run_normally(desk: Desk) -> None:
    def script(seen: Seen) -> Rewrites | None:
        return Rewrites(lambda answer: {**answer, "skipped": ["SN-\ud83d\x1b[2J"]}) if seen.action == "assign" else None

    desk.server.script = script
    desk.server.fleet.assign("a@x.com", ["D1"], create=True)
    ran = desk.run([("a@x.com", "D1", "unassign"), ("b@x.com", "D1", "assign")])
    assert ran.outcomes == ["unassigned", "assigned"]
    assert ran.summary.exit_code == 0
    names = {path.name for path in ran.folder.iterdir()}
    assert {"attention.csv", "reconciliation.csv", "report.html", "summary.json", "undo.csv", "run.log"} <= names
    log = (ran.folder / "run.log").read_text("utf-8")
    assert r"not requested: SN-\\ud83d\\x1b[2J" in log


# The key


@pytest.mark.parametrize("key", ["SN", "dev", "k", "s", "cust_abc", "SN-001"])
@pytest.mark.parametrize(("answer", "action"), [(ASSIGN_ANSWER, Action.ASSIGN), (UNASSIGN_ANSWER, Action.UNASSIGN)])
def test_a_key_that_is_part_of_an_answer_does_not_disturb_how_it_is_read(
    key: str, answer: dict[str, Any], action: Action
) -> None:
    call, body = replace(CALL, action=action), json.dumps(answer).encode()
    read, expected = replied(exchanged(says(200, body), key), call), read_reply(body, call, (0, 1, 2))
    assert {at: one._replace(device_id="") for at, one in read.results.items()} == {
        at: one._replace(device_id="") for at, one in expected.results.items()
    }
    if len(key) < 8:
        assert read == expected


ECHO = {**ASSIGN_ANSWER, "customerId": f"c{KEY}", "skipped": [f"x {KEY}"]}


@pytest.mark.parametrize("spelled", [KEY, KEY.replace("s", "\\u0073", 1), KEY.replace("-", "\\u002d")])
@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (200, ECHO),
        (200, {"success": False, "error": f"key {KEY}"}),
        (400, {"error": f"no such key: {KEY}"}),
        (401, {"error": "x" * 290 + KEY}),
        (500, f"<p>{KEY}</p>"),
    ],
)
def test_a_key_that_is_echoed_goes_no_further(status: int, answer: Any, spelled: str) -> None:
    body = json.dumps(answer).replace(KEY, spelled)
    exchange = exchanged(says(status, body.encode()))
    texts = [*texts_of(exchange), *texts_of(replied(exchange))]
    assert KEY[:4] not in " ".join(texts)
    assert KEY not in repr(exchange.failure)


def test_an_echoed_key_is_struck_out_of_ids_and_foreign_identifiers() -> None:
    read = replied(exchanged(says(200, json.dumps(ECHO).encode())))
    assert (read.customer_id, read.unrequested) == ("c***", ("x ***",))
    assert read.results[0].device_id == "dev_x1y2z3"


def test_a_key_in_a_library_error_is_redacted() -> None:
    ending = exchanged(says(200, b"", f"cannot write x-api-key: {KEY}\r\n")).failure
    assert ending is not None
    assert ending.text == "the connection broke (cannot write x-api-key: ***)"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("SN", "***"),
        ("key SN is wrong", "key *** is wrong"),
        ('x-api-key: "SN"', 'x-api-key: "***"'),
        ("key=SN&x", "key=***&x"),
        ("wrong key SN.", "wrong key ***."),
        ("SN-1 SN_1 1SN SN.1 SN/1 1/SN SN@x a.SN", "SN-1 SN_1 1SN SN.1 SN/1 1/SN SN@x a.SN"),
    ],
)
def test_a_short_key_is_struck_out_as_a_word_only(text: str, shown: str) -> None:
    assert Redactor(Secret("SN")).redact(text) == shown


def test_what_a_refusal_means_is_read_off_the_text_as_it_was_sent() -> None:
    exchange = exchanged(says(400, b'{"error": "No valid devices found"}'), "devices")
    assert exchange.failure == ErrorResponse(400, "No valid *** found")
    assert replied(exchange) == CallRejected(Outcome.SKIPPED, Reason.NO_VALID_DEVICES, "400: No valid *** found")
    exchange = exchanged(says(404, b'{"error": "customer not found"}'), "customer")
    assert customer_query._read(exchange, "a@x.com", 0.0) == CustomerHoldings(
        "a@x.com", 0.0, frozenset(), is_known=False
    )


def test_what_is_no_secret_is_not_struck_out() -> None:
    body = json.dumps({"success": True, "assignedDevices": ["sandbox"]}).encode()
    assert replied(exchanged(says(200, body), "sandbox", secrets=())).unrequested == ("sandbox",)


def test_the_key_of_the_embedded_sandbox_is_no_secret(tmp_path: Path) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text("customerEmail,deviceIdentifier,action\na@x.com,sandbox-001,assign\na@x.com,sandbox,assign\n")
    flags = {"sandbox": True, "reports_dir": str(tmp_path), "run_id": "r", "attempts": "2"}
    summary = pipeline.run(resolve([str(rows)], flags, {}))
    assert summary.exit_code == 0
    assert '"sandbox-001","assign","assigned"' in (tmp_path / "r" / "reconciliation.csv").read_text()
    assert "***" not in (tmp_path / "r" / "reconciliation.csv").read_text()


def test_one_line_is_the_only_way_out_for_long_texts() -> None:
    read = read_reply(json.dumps({"success": True, "skipped": ["x" * 5000]}).encode(), CALL, (0, 1, 2))
    assert len(read.unrequested[0]) == 300
    assert protocol.one_line("a\n b\t\u202e") == r"a b \u202e"
