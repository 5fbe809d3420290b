"""A PostgreSQL of its own for a test: a cluster in a folder of the system, run by a user without privileges."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

PROGRAMS: Final = max(Path("/usr/lib/postgresql").glob("*/bin"), default=None)
"""The folder with the programs of the newest version; None if PostgreSQL is not installed."""
USER: Final = "tester"
PASSWORD: Final = "secret-of-the-tests/@"
QUOTED_PASSWORD: Final = "secret-of-the-tests%2F%40"


class PostgresServer:
    """A PostgreSQL server on a free port of the loopback interface, with a password."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._account = {} if os.geteuid() else _account_without_privileges()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        if self._account:
            shutil.chown(folder, self._account["user"], self._account["group"])
        (folder / "password").write_text(PASSWORD)
        (folder / "password").chmod(0o644)
        options = ["-U", USER, "-A", "scram-sha-256", "--pwfile", str(folder / "password"), "-E", "UTF8", "--no-sync"]
        self._run("initdb", "-D", str(folder / "data"), *options)

    def url(self, driver: str = "psycopg", *, port: int | None = None, password: str = QUOTED_PASSWORD) -> str:
        """The SQLAlchemy URL of the server, or of a port that leads there."""
        return f"postgresql+{driver}://{USER}:{password}@127.0.0.1:{port or self.port}/postgres"

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self.folder} -c fsync=off"
        log = str(self.folder / "log")
        self._run("pg_ctl", "-D", str(self.folder / "data"), "-w", "-l", log, "-o", options, "start")

    def stop(self) -> None:
        """Stop the server; connections are cut."""
        self._run("pg_ctl", "-D", str(self.folder / "data"), "-w", "-m", "immediate", "stop")

    def connect(self) -> Any:
        """Return a connection of psycopg, which commits each statement."""
        import psycopg

        return psycopg.connect(
            host="127.0.0.1", port=self.port, user=USER, password=PASSWORD, dbname="postgres", autocommit=True
        )

    def execute(self, *statements: str) -> None:
        with self.connect() as connection:
            for statement in statements:
                connection.execute(statement)

    def _run(self, program: str, *options: str) -> None:
        assert PROGRAMS is not None
        command = [str(PROGRAMS / program), *options]
        subprocess.run(command, check=True, cwd=self.folder, stdout=subprocess.DEVNULL, **self._account)


def _account_without_privileges() -> dict[str, Any]:
    """Return a user under whom PostgreSQL, which refuses to run as root, can run."""
    for name in ("postgres", "nobody"):
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    raise LookupError("there is no user without privileges")


@contextmanager
def postgres() -> Iterator[PostgresServer]:
    """Run a server in a folder that its user can reach, which the folders of tests are not."""
    folder = Path(tempfile.mkdtemp(prefix="telemetron-postgres-", dir="/tmp"))
    try:
        server = PostgresServer(folder)
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Relay:
    """A TCP relay to a port, which cuts its connection after a number of bytes of the answer."""

    def __init__(self, port: int, max_bytes: int) -> None:
        self._target, self._max_bytes = port, max_bytes
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._listener.close()
        self._thread.join()

    def _serve(self) -> None:
        client, _ = self._listener.accept()
        with client, socket.create_connection(("127.0.0.1", self._target)) as server:
            threading.Thread(target=_copy, args=(client, server), daemon=True).start()
            left = self._max_bytes
            while left > 0 and (answer := server.recv(min(left, 1 << 16))):
                client.sendall(answer)
                left -= len(answer)
            # With data unread, closing sends a reset, as a firewall does.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            client.shutdown(socket.SHUT_RDWR)  # the other thread still reads from it


def _copy(source: socket.socket, target: socket.socket) -> None:
    try:
        while chunk := source.recv(1 << 16):
            target.sendall(chunk)
    except OSError:
        return
