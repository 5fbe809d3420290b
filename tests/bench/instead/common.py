"""What each of the alternatives needs besides its tool: rows, a pace, calls and a record of the answers.

Written as one writes it for such a job: cells are trimmed, emails lowered and looked at,
unknown movements turned away, calls filled as far as the API's batch goes, and every answer
is recorded device by device.
"""

import csv
import re
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

Row = dict[str, str]

KEY = "key-of-the-bench"
PATHS = {
    "assign": "/deviceAssignment/assignDevicesToOwner",
    "unassign": "/deviceAssignment/unassignDevicesFromOwner",
}
BATCH = 10_000
"""Rows at a time: what the Singer SDK does if it is told nothing."""
CHUNK = 500
WORKERS = 8
_ACTIONS = {"issue": "assign", "return": "unassign", "assign": "assign", "unassign": "unassign"}
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")


def told() -> tuple[str, str, str, float]:
    """Base URL, file to read, file to write and attempts a second, from the command line."""
    base_url, file, record, rate = sys.argv[1:]
    return base_url, file, record, float(rate)


class Record:
    """What became of which row, as a CSV file that grows."""

    def __init__(self, path: str) -> None:
        self._file = Path(path).open("a", encoding="utf-8", newline="")  # noqa: SIM115 - open as long as the process
        self._writer = csv.writer(self._file)
        self._lock = threading.Lock()

    def write(self, row: Row, outcome: str) -> None:
        with self._lock:
            self._writer.writerow([row["customer"], row["device"], row["action"], outcome])
            self._file.flush()

    def answered(self, body: Row, action: str, answer: dict[str, Any]) -> None:
        """The lists of an answer, device by device."""
        for field, outcome in (("assignedDevices", "assigned"), ("alreadyAssigned", "alreadyAssigned")):
            for device in answer.get(field, []):
                self.write({**body, "device": device["identifier"], "action": action}, outcome)
        for field, outcome in (("unassignedDevices", "unassigned"), ("skipped", "skipped")):
            for device in answer.get(field, []):
                self.write({**body, "device": device, "action": action}, outcome)


class Pace:
    """Even spacing for all threads together."""

    def __init__(self, rate: float) -> None:
        self._gap = 1 / rate
        self._due = 0.0
        self._lock = threading.Lock()

    def wait_for(self) -> float:
        """Book the next place, and give the seconds until it comes."""
        with self._lock:
            now = time.monotonic()
            self._due = max(self._due + self._gap, now)
            return self._due - now

    def wait(self) -> None:
        time.sleep(self.wait_for())


def rows_of(path: str, record: Record) -> Iterator[Row]:
    """The rows of the file that look right; the others are recorded as invalid."""
    with Path(path).open(encoding="utf-8-sig", newline="") as file:
        header = file.readline()
        delimiter = ";" if ";" in header else ","
        names = header.strip().split(delimiter)
        for cells in csv.DictReader(file, names, delimiter=delimiter):
            email, device, word = (
                cells.get(old) or cells.get(new) or ""
                for old, new in (
                    ("E-Mail", "customerEmail"),
                    ("Serial Number", "deviceIdentifier"),
                    ("Movement", "action"),
                )
            )
            action = _ACTIONS.get(word.strip().lower(), "")
            row = {"customer": email.strip().lower(), "device": device.strip(), "action": action}
            if _EMAIL.fullmatch(row["customer"]) and row["device"] and action:
                yield row
            else:
                record.write(row, "invalid")


def calls_of(rows: Iterable[Row]) -> dict[str, list[tuple[str, list[str]]]]:
    """Customer and devices of each call, by action; of several rows about a customer's device the last one counts."""
    last = {(row["customer"], row["device"]): row["action"] for row in rows}
    groups: dict[str, dict[str, list[str]]] = {"unassign": {}, "assign": {}}
    for (customer, device), action in last.items():
        groups[action].setdefault(customer, []).append(device)
    return {
        action: [
            (customer, devices[at : at + CHUNK])
            for customer, devices in of_customers.items()
            for at in range(0, len(devices), CHUNK)
        ]
        for action, of_customers in groups.items()
    }
