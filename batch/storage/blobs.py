"""What the journal's blobs hold: blocks of the input, positions, devices, answers. Knows no table."""

import json
import zlib
from collections.abc import Collection

import pyarrow as pa

from batch.model import OUTCOMES, Answer, DeviceResult

Positions = tuple[int, ...]
"""Of some of a call's devices, from 0."""


def packed(batch: pa.RecordBatch) -> bytes:
    """A part of a block, compressed."""
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_stream(sink, batch.schema, options=options) as stream:
        stream.write_batch(batch)
    return bytes(sink.getvalue())


def unpacked(blob: bytes) -> pa.RecordBatch:
    """What was packed."""
    with pa.ipc.open_stream(blob) as stream:
        return stream.read_next_batch()


def positions_blob(positions: Positions | None) -> bytes | None:
    """Positions of a call's devices; None for all of them."""
    return None if positions is None else json.dumps(positions).encode()


def positions_of(blob: bytes | None) -> Positions | None:
    """The positions; None for all devices of the call."""
    return None if blob is None else tuple(json.loads(blob))


def devices_blob(devices: Collection[str]) -> bytes:
    """Identifiers of devices."""
    return zlib.compress(json.dumps(sorted(devices)).encode(), 1)


def devices_of(blob: bytes) -> frozenset[str]:
    """The identifiers."""
    return frozenset(json.loads(zlib.decompress(blob)))


def answer_blob(answer: Answer) -> bytes:
    """Columns rather than records: half the size once compressed."""
    outcomes, device_ids, created, details = zip(*answer.results.values(), strict=True) if answer.results else [()] * 4
    fields = {
        "positions": [*answer.results],
        "outcomes": [outcome.code for outcome in outcomes],
        "deviceIds": device_ids,
        "created": created,
        "details": details,
        "customerId": answer.customer_id,
        "customerWasCreated": answer.customer_was_created,
        "httpStatus": answer.http_status,
        "attempts": answer.attempts,
        "unclearAttempts": answer.unclear_attempts,
        "answeredAt": answer.answered_at,
    }
    return zlib.compress(json.dumps(fields, separators=(",", ":")).encode(), 1)


def outcome_codes_of(blob: bytes) -> list[int]:
    """What an answer says of each device, without the rest of it."""
    codes: list[int] = json.loads(zlib.decompress(blob))["outcomes"]
    return codes


def answer_of(blob: bytes) -> Answer:
    """The answer."""
    fields = json.loads(zlib.decompress(blob))
    results = zip(fields["outcomes"], fields["deviceIds"], fields["created"], fields["details"], strict=True)
    return Answer(
        results={
            position: DeviceResult(OUTCOMES[code], *rest)
            for position, (code, *rest) in zip(fields["positions"], results, strict=True)
        },
        customer_id=fields["customerId"],
        customer_was_created=fields["customerWasCreated"],
        http_status=fields["httpStatus"],
        attempts=fields["attempts"],
        unclear_attempts=fields["unclearAttempts"],
        answered_at=fields["answeredAt"],
    )
