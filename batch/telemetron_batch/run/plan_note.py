"""RUN.plan in the folder of approvals: what the second person may read of a plan that waits for an approval.

Its author is the owner of the file. It holds numbers, and no addresses or devices. A run does not read it: what is sent
depends on the journal only.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from telemetron_batch.domain.approval import parse_fingerprint, short_fingerprint
from telemetron_batch.domain.errors import ApprovalError
from telemetron_batch.domain.printable import json_text
from telemetron_batch.storage.approval_folder import read_owned, remove, write_new
from telemetron_batch.storage.system_users import SystemUsers, User

SUFFIX: Final = ".plan"
_COUNTS: Final = ("rows", "calls", "devices", "customers")


@dataclass(frozen=True, slots=True)
class PlanNote:
    """A plan that waits for an approval, in numbers, and what the approval must name."""

    run_id: str
    journal_id: str
    """Identity of the journal that holds the plan."""
    fingerprint: str
    """The full form."""
    planned_by: User
    counts: dict[str, int]
    """The numbers of rows, calls, devices and customers."""

    def write(self, folder: Path, users: SystemUsers) -> None:
        """Write the file, unless it is there already. Raises BatchError."""
        fields = {
            "runId": self.run_id,
            "journalId": self.journal_id,
            "fingerprint": short_fingerprint(self.fingerprint),
            "fingerprintFull": self.fingerprint,
            "plannedBy": self.planned_by.name,
            **self.counts,
        }
        name, content = f"{self.run_id}{SUFFIX}", json_text(fields, indent=2).encode() + b"\n"
        former = read_owned(folder, name, users)
        if former is None or former.content != content:
            remove(folder, name)
            write_new(folder, name, content)

    @classmethod
    def read(cls, folder: Path, run_id: str, users: SystemUsers) -> "PlanNote | None":
        """Return the note of a run; None without one. Raises ApprovalError if it cannot be read as one."""
        file = read_owned(folder, f"{run_id}{SUFFIX}", users)
        if file is None:
            return None
        try:
            fields: Any = json.loads(file.content)
            counts = {name: int(fields[name]) for name in _COUNTS}
            fingerprint = parse_fingerprint(fields["fingerprintFull"])
            return cls(run_id, str(fields["journalId"]), fingerprint, file.owner, counts)
        except (LookupError, TypeError, AttributeError, ValueError, OverflowError, RecursionError) as exc:
            what = f"{folder / run_id}{SUFFIX} of {file.owner.name} cannot be read"
            raise ApprovalError(what, "let the planner save the plan again") from exc
