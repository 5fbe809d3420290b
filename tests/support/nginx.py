"""A real nginx with its `limit_req` in front of a server."""

import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.listening import free_port, is_listening

BINARY = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
_AROUND = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
    access_log {folder}/access.log;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
{server}
}}
"""
_LIMITED = """
    limit_req_zone $binary_remote_addr zone=all:1m rate={rate}r/s;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            limit_req zone=all {burst};
            proxy_pass http://127.0.0.1:{behind};
        }}
    }}
"""


@contextmanager
def nginx(folder: Path, behind: int, burst: str, *, rate: int = 20) -> Iterator[int]:
    """Yield nginx's port; `behind` is the server's port, `rate` in calls per second, `burst` as nginx defines it."""
    folder.mkdir()
    port = free_port()
    with serving(folder, _LIMITED.format(port=port, behind=behind, burst=burst, rate=rate), port):
        yield port


@contextmanager
def serving(folder: Path, server: str, port: int) -> Iterator[None]:
    """Run nginx in a folder, with what stands in its block `http`, which listens on a port."""
    assert BINARY is not None, "nginx is not installed"
    (folder / "nginx.conf").write_text(_AROUND.format(folder=folder, server=server))
    with subprocess.Popen([BINARY, "-p", str(folder), "-c", str(folder / "nginx.conf")]) as process:
        try:
            until = time.monotonic() + 10
            while not is_listening(port):
                assert process.poll() is None, "nginx has ended"
                assert time.monotonic() < until
                time.sleep(0.02)
            yield
        finally:
            process.send_signal(signal.SIGQUIT)


def refused(folder: Path) -> int:
    """Return the number of refused requests in its log."""
    return sum(line.split('" ')[1].startswith("503") for line in (folder / "access.log").read_text().splitlines())
