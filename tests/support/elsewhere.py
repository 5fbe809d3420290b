"""`python -m tests.support.elsewhere HOST run ROWS...` is `telemetron-batch run ROWS...` as if on another host.

Another boot, and kernel locks that do not reach the other hosts, as on some storage that hosts share; seconds
instead of half minutes to wait; and each request says in its user agent from where it comes.
"""

import fcntl
import sys
import tempfile
from pathlib import Path

from telemetron_batch.api import http
from telemetron_batch.cli.commands import main
from telemetron_batch.storage import lease, lease_files

LEASE_TIMES_S = {"LEASE_S": 2.0, "TAKEOVER_AFTER_S": 3.0, "RENEW_EVERY_S": 0.2}
"""Constants of `lease` and the seconds that replace them."""


def be(host: str) -> None:
    """Make this process appear to be on another host."""
    boot = Path(tempfile.mkdtemp()) / "boot_id"
    boot.write_text(host)
    for name, seconds in LEASE_TIMES_S.items():
        assert hasattr(lease, name), name
        setattr(lease, name, seconds)
    lease_files._BOOT_ID = boot  # type: ignore[misc]
    lease_files.socket.gethostname = lambda: host
    fcntl.flock = lambda *_: None
    http._HEADERS["user-agent"] = host  # type: ignore[index]


if __name__ == "__main__":
    be(sys.argv[1])
    main(args=sys.argv[2:], prog_name="telemetron-batch")
