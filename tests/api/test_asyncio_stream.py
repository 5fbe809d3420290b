"""The asyncio stream: bytes arrive in order and complete, and each kind of end is distinguished."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import httpcore2
import pytest

from telemetron_batch.api.asyncio_stream import Stream, open_stream
from tests.support.listening import reset

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def connected_to(serve: Serve) -> AsyncIterator[Stream]:
    """Open a stream to a server with this handler."""
    ended = asyncio.Event()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
            await ended.wait()
        finally:
            writer.close()

    listener = await asyncio.start_server(accept, "127.0.0.1", 0)
    stream = await open_stream("127.0.0.1", listener.sockets[0].getsockname()[1], None)
    try:
        yield stream
    finally:
        await stream.aclose()
        ended.set()
        listener.close()


def run(main: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(main)


async def read_to_the_end(stream: Stream) -> bytes:
    pieces = []
    while piece := await stream.read(1000):
        assert len(piece) <= 1000
        pieces.append(piece)
    return b"".join(pieces)


async def readable(stream: Stream) -> bool:
    """Return whether an idle connection becomes readable within a short time."""
    for _ in range(1000):
        if stream.get_extra_info("is_readable"):
            return True
        await asyncio.sleep(0.005)
    return False


TEXT = bytes(range(256)) * 20_000


def test_bytes_are_read_completely_at_any_speed_and_size() -> None:
    async def say(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(TEXT)
        writer.write_eof()
        await writer.drain()

    async def main() -> bytes:
        async with connected_to(say) as stream:
            await asyncio.sleep(0.05)
            return await read_to_the_end(stream)

    assert run(main()) == TEXT


def test_reading_pauses_while_the_buffer_is_full() -> None:
    said = 0

    async def flood(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal said
        while True:
            writer.write(TEXT)
            await writer.drain()
            said += len(TEXT)

    async def main() -> bool:
        async with connected_to(flood) as stream:
            before = -1
            while said > before:
                before = said
                await asyncio.sleep(0.1)
            return len(await stream.read(64 << 20)) < 1 << 20

    assert run(main())


def test_what_is_written_arrives_whole_however_much_it_is() -> None:
    heard: list[bytes] = []

    async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.readexactly(len(TEXT)))
        writer.write(b"ok")

    async def main() -> bytes:
        async with connected_to(hear) as stream:
            await stream.write(TEXT)
            return await stream.read(10)

    assert run(main()) == b"ok"
    assert heard == [TEXT]


def test_a_broken_connection_differs_from_a_closed_one_and_comes_after_the_bytes_before() -> None:
    async def break_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"half")
        await reader.readexactly(2)
        reset(writer)

    async def main() -> None:
        async with connected_to(break_off) as stream:
            assert await readable(stream)
            await stream.write(b"go")
            assert await stream.read(10) == b"half"
            with pytest.raises(httpcore2.ReadError, match="reset"):
                await stream.read(10)

    run(main())


def test_unexpected_data_is_noticed_before_it_could_be_taken_for_an_answer() -> None:
    async def speak_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 408 Request Timeout\r\n\r\n")

    async def main() -> None:
        async with connected_to(speak_up) as stream:
            assert await readable(stream)

    run(main())


def test_a_connection_that_the_other_side_closed_shows_it_and_takes_nothing_more() -> None:
    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async def main() -> None:
        async with connected_to(hang_up) as stream:
            assert await readable(stream)
            with pytest.raises(httpcore2.WriteError):
                await stream.write(b"too late")
            assert await stream.read(10) == b""

    run(main())


def test_nothing_is_written_that_may_not_leave() -> None:
    heard: list[bytes] = []

    async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(10))
        writer.write(b"ok")

    def withhold() -> None:
        raise RuntimeError("withdrawn")

    async def main() -> None:
        async with connected_to(hear) as stream:
            stream.before_write = withhold
            with pytest.raises(RuntimeError, match="withdrawn"):
                await stream.write(b"first")
            stream.before_write = lambda: None
            await stream.write(b"second")
            await stream.read(10)

    run(main())
    assert heard == [b"second"]
