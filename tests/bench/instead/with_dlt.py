"""dlt: the file as a resource, the API as a custom destination that makes bulk calls of each batch.

dlt's own HTTP client retries and heeds Retry-After; a batch that fails is dlt's to load again.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from tempfile import TemporaryDirectory
from typing import Any

import dlt
import requests
from dlt.sources.helpers.requests import Client

from tests.bench.instead.common import BATCH, KEY, PATHS, WORKERS, Pace, Record, Row, calls_of, rows_of, told

BASE_URL, FILE, RECORD, RATE = told()
record, pace = Record(RECORD), Pace(RATE)
http = Client(request_max_attempts=6, request_backoff_factor=0.5, raise_for_status=False)


def send(action: str, customer: str, devices: list[str]) -> None:
    pace.wait()
    body = {"customerEmail": customer, "deviceIdentifiers": devices}
    response = http.post(BASE_URL + PATHS[action], json=body, headers={"x-api-key": KEY})
    if response.ok:
        record.answered({"customer": customer}, action, response.json())
    elif response.status_code in (400, 404):  # no reason to load the whole batch again
        for device in devices:
            row = {"customer": customer, "device": device, "action": action}
            record.write(row, f"failed: {response.text}")
    else:
        raise requests.HTTPError(f"{response.status_code} {response.text}")


@dlt.resource(name="assignments", write_disposition="append")
def assignments() -> Iterator[Row]:
    yield from rows_of(FILE, record)


@dlt.destination(batch_size=BATCH, name="telemetron", loader_parallelism_strategy="sequential")
def telemetron(items: Any, table: Any) -> None:  # noqa: ARG001 - dlt gives both
    for action, calls in calls_of(items).items():  # all unassigns first: a device shall not be with two
        with ThreadPoolExecutor(WORKERS) as workers:
            for done in [workers.submit(send, action, *call) for call in calls]:
                done.result()


if __name__ == "__main__":
    with TemporaryDirectory() as folder:
        pipeline = dlt.pipeline("telemetron", destination=telemetron, pipelines_dir=folder)
        pipeline.run(assignments()).raise_on_failed_jobs()
