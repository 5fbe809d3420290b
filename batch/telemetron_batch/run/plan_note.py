"""plan.json in the folder of a run: what the person who approves a plan may read of it.

The owner of the folder can read it, and with `--shared-reports-dir` the group. It holds numbers, and no addresses or
devices. A run does not read it: what is sent depends on the journal only.
"""

import json
import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from telemetron_batch.domain.approval import ApprovalPolicy, parse_fingerprint, short_fingerprint
from telemetron_batch.domain.printable import json_text
from telemetron_batch.storage.atomic_file import atomic_write
from telemetron_batch.storage.clock import iso
from telemetron_batch.storage.system_users import User

NAME: Final = "plan.json"
_MAX_BYTES: Final = 1 << 16
_COUNTS: Final = ("rows", "calls", "devices", "customers")


@dataclass(frozen=True, slots=True)
class PlanNote:
    """A saved plan in numbers, and what its approval must name."""

    run_id: str
    journal_id: str
    fingerprint: str
    """The full form."""
    planned_by: User
    planned_at: float
    policy: ApprovalPolicy
    counts: dict[str, int]
    """The numbers of rows, calls, devices and customers."""

    def write(self, folder: Path) -> None:
        """Write the file. Raises DiskError."""
        fields = {
            "runId": self.run_id,
            "journalId": self.journal_id,
            "fingerprint": short_fingerprint(self.fingerprint),
            "fingerprintFull": self.fingerprint,
            "plannedBy": self.planned_by.name,
            "plannedByUid": self.planned_by.uid,
            "plannedAt": iso(self.planned_at),
            "approval": str(self.policy),
            **self.counts,
        }
        with atomic_write(folder / NAME) as file:
            file.write(json_text(fields, indent=2).encode() + b"\n")

    @classmethod
    def read(cls, folder: Path) -> "PlanNote | None":
        """Return the note of a run; None if it cannot be read. Follows no link.

        Another user wrote it, so what it says is not trusted.
        """
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        try:
            with os.fdopen(os.open(folder / NAME, flags), "rb") as file:
                fields: Any = json.loads(file.read(_MAX_BYTES))
            return cls(
                run_id=str(fields["runId"]),
                journal_id=str(fields["journalId"]),
                fingerprint=parse_fingerprint(fields["fingerprintFull"]),
                planned_by=User(int(fields["plannedByUid"]), str(fields["plannedBy"])),
                planned_at=datetime.fromisoformat(fields["plannedAt"]).timestamp(),
                policy=ApprovalPolicy(fields["approval"]),
                counts={name: int(fields[name]) for name in _COUNTS},
            )
        except (OSError, LookupError, TypeError, AttributeError, ValueError, OverflowError, RecursionError):
            return None
