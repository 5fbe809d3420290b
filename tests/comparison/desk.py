"""The commands `holdings` and `compare` at a desk of the tests."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from telemetron_batch.comparison.compare import compare_fleet
from telemetron_batch.comparison.holdings import list_holdings
from telemetron_batch.comparison.lookup import LookupRequest, Surroundings
from telemetron_batch.comparison.summary import CompareSummary, HoldingsSummary
from telemetron_batch.config.config import resolve
from tests.conftest import KEY, Desk
from tests.support.scripted import BASE_URL

FLEET = ("customerEmail", "deviceIdentifier")


class Lookups:
    """Runs both commands at a desk, and reads what they write."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.output = desk.folder / "out.csv"

    def request(self, *files: str, keep: float = 3600.0, force: bool = True, **flags: Any) -> LookupRequest:
        options = {"base_url": BASE_URL, "reports_dir": str(self.desk.folder / "reports"), **flags}
        config = resolve(files, options, {"TELEMETRON_API_KEY": KEY})
        return LookupRequest(config, self.output, force=force, keep_answers=keep)

    @property
    def surroundings(self) -> Surroundings:
        return Surroundings(self.desk.face, self.desk.clock, self.desk.server)

    def holdings(self, *customers: str, file: str | None = None, **options: Any) -> HoldingsSummary:
        request = self.request(*([file] if file else []), **options)
        return list_holdings(customers, request, self.surroundings)

    def compare(self, rows: str | Sequence[tuple[str, ...]], *, remove: bool = False, **options: Any) -> CompareSummary:
        """Compare a text, or rows below the header of a fleet without actions."""
        path = rows if isinstance(rows, str) else "\n".join(",".join(row) for row in [FLEET, *rows]) + "\n"
        path = path if path.startswith("/") else self.desk.file(path, "fleet.csv")
        return compare_fleet(self.request(path, **options), remove_extra=remove, surroundings=self.surroundings)

    @property
    def rows(self) -> list[tuple[str, ...]]:
        """The rows of the output, without its header."""
        with self.output.open(newline="") as file:
            header, *rows = csv.reader(file)
        assert header == ["customerEmail", "deviceIdentifier", "action"]
        return [tuple(row) for row in rows]

    @property
    def asked(self) -> list[str]:
        """The customers that were asked about, in order."""
        return [str(seen.body["email"]) for seen in self.desk.server.seen if seen.action == "query"]

    @property
    def kept(self) -> list[Path]:
        """The files with kept answers."""
        return sorted((self.desk.folder / "reports" / ".answers").iterdir())
