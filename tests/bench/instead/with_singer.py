"""Meltano's Singer SDK: a target whose batch sink makes bulk calls; the tap is a generator of messages.

requests retries and heeds Retry-After; a batch that fails ends the target.
"""

import io
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import requests
from requests.adapters import HTTPAdapter
from singer_sdk import typing as th
from singer_sdk.sinks import BatchSink
from singer_sdk.target_base import Target
from urllib3.util import Retry

from tests.bench.instead.common import BATCH, KEY, PATHS, WORKERS, Pace, Record, calls_of, rows_of, told

BASE_URL, FILE, RECORD, RATE = told()
record, pace = Record(RECORD), Pace(RATE)
http = requests.Session()
retry = Retry(
    total=6, backoff_factor=0.5, status_forcelist=(429, 500, 502, 503, 504), allowed_methods=None, raise_on_status=False
)
http.mount("http://", HTTPAdapter(pool_maxsize=WORKERS, max_retries=retry))
FIELDS = ("customer", "device", "action")
SCHEMA = th.PropertiesList(*(th.Property(name, th.StringType, required=True) for name in FIELDS)).to_dict()


class AssignmentsSink(BatchSink):
    max_size = BATCH

    def process_batch(self, context: dict[str, Any]) -> None:
        for action, calls in calls_of(context["records"]).items():  # unassigns first: no device with two
            with ThreadPoolExecutor(WORKERS) as workers:
                for done in [workers.submit(self.send, action, *call) for call in calls]:
                    done.result()

    def send(self, action: str, customer: str, devices: list[str]) -> None:
        pace.wait()
        body = {"customerEmail": customer, "deviceIdentifiers": devices}
        response = http.post(BASE_URL + PATHS[action], json=body, headers={"x-api-key": KEY}, timeout=30)
        if response.ok:
            record.answered({"customer": customer}, action, response.json())
        elif response.status_code in (400, 404):
            for device in devices:
                row = {"customer": customer, "device": device, "action": action}
                record.write(row, f"failed: {response.text}")
        else:
            response.raise_for_status()


class TelemetronTarget(Target):
    name = "target-telemetron"
    config_jsonschema: ClassVar[dict[str, Any]] = th.PropertiesList().to_dict()
    default_sink_class = AssignmentsSink


def messages() -> io.StringIO:
    """What a tap writes."""
    found = [{"type": "SCHEMA", "stream": "assignments", "schema": SCHEMA, "key_properties": []}]
    found += [{"type": "RECORD", "stream": "assignments", "record": row} for row in rows_of(FILE, record)]
    return io.StringIO("".join(json.dumps(message) + "\n" for message in found))


if __name__ == "__main__":
    TelemetronTarget(config={}).listen(messages())
