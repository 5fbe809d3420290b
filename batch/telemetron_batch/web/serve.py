"""The command `serve`: check the options, then serve the page until a signal ends it."""

import logging
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from telemetron_batch.config.config import RunConfig
from telemetron_batch.domain.approval import ApprovalPolicy
from telemetron_batch.domain.base_url import is_loopback
from telemetron_batch.domain.errors import ConfigError, write_error
from telemetron_batch.run.requirements import require_key, require_network
from telemetron_batch.storage.clock import Clock, RealClock, iso
from telemetron_batch.storage.lock import Lock, LockOwner
from telemetron_batch.storage.open_files import require_open_files
from telemetron_batch.storage.trusted_folders import shared_with_group
from telemetron_batch.web.access import Access
from telemetron_batch.web.app import make_app
from telemetron_batch.web.audit import AUDIT_NAME, AuditLog
from telemetron_batch.web.context import WebContext
from telemetron_batch.web.desk.desk import Desk
from telemetron_batch.web.desk.pages import routes
from telemetron_batch.web.error_pages import LOGGER
from telemetron_batch.web.hosts import is_local
from telemetron_batch.web.options import ServeOptions
from telemetron_batch.web.people import Role
from telemetron_batch.web.server import MAX_CONNECTIONS, DeskServer, listen, tls_context
from telemetron_batch.web.users import Account, UserFile

_LOCK_NAME: Final = ".serve.lock"
_HEADER: Final = re.compile(r"[A-Za-z0-9-]+")
_OTHER_HEADERS: Final = frozenset({"authorization", "cookie", "host", "origin", "x-forwarded-for"})
_TLS_ADVICE: Final = "give --tls-cert and --tls-key, or --behind-proxy if a proxy in front of it ends TLS"
_USERS_ADVICE: Final = "give --users FILE (see serve-user add), or --user-header NAME with --trusted-proxy CIDR"


@dataclass(frozen=True, slots=True)
class Terminal:
    """Where the server writes its lines."""

    announce: Callable[[str], None]
    """What the user needs: addresses."""
    warn: Callable[[str], None]


def serve(config: RunConfig, options: ServeOptions, terminal: Terminal, clock: Clock | None = None) -> None:
    """Serve the page until SIGINT or SIGTERM. Raises BatchError if it cannot start."""
    clock = clock or RealClock()
    check_options(config, options, terminal.warn)
    require_key(config)
    require_network(config)
    require_open_files(MAX_CONNECTIONS + 2 * config.sending.concurrency)
    _log_to(terminal.warn)
    tls = tls_context(options)
    with shared_with_group(config.shared_reports_dir), listen(options) as listener:
        options = replace(options, port=listener.getsockname()[1])
        lock = _lock(config.reports_dir, clock)
        try:
            audit = AuditLog(audit_file(config, options), clock)
            audit.record(None, "serverStart", host=options.host, port=options.port)
            desk = Desk(config, audit, clock)
            access = Access(options, audit, clock, terminal.warn)
            server = DeskServer(make_app(WebContext(config, options, audit, desk), access, routes), tls, desk.shutdown)
            desk.start()
            _announce(server, access, options, terminal)
            server.run_until_signal(listener)
            audit.record(None, "serverStop")
        finally:
            lock.release()


def audit_file(config: RunConfig, options: ServeOptions) -> Path:
    """Return the path of the audit log: beside the file of the users, else in the reports folder."""
    return (config.reports_dir if options.users is None else options.users.parent) / AUDIT_NAME


def check_options(config: RunConfig, options: ServeOptions, warn: Callable[[str], None]) -> None:
    """Raise ConfigError if the options would let in anybody who should not come in, or contradict each other."""
    _check_exposure(options)
    _check_combinations(options)
    accounts = {} if options.users is None else UserFile(options.users).accounts()
    if options.users is not None and not accounts:
        raise ConfigError(f"{options.users} has no user", "add one with telemetron-batch serve-user add")
    _check_approvers(config, [*accounts.values()] if options.users is not None else None, warn)
    if not is_local(options) and not options.allowed_hosts:
        warn("warning: give --allowed-host NAME for each host name by which browsers reach this server")


def _check_exposure(options: ServeOptions) -> None:
    """Raise ConfigError if others can reach the server, and it is not encrypted or has no users."""
    where = "--behind-proxy" if is_loopback(options.host) else f"--host {options.host}"
    lacks_tls = not is_loopback(options.host) and not options.is_secure
    lacks_users = not is_local(options) and options.has_token
    if lacks_tls or lacks_users:
        lacking = [text for text, lacks in (("TLS", lacks_tls), ("users", lacks_users)) if lacks]
        advice = [text for text, lacks in ((_TLS_ADVICE, lacks_tls), (_USERS_ADVICE, lacks_users)) if lacks]
        raise ConfigError(f"{where} lets others reach the page, without {' and '.join(lacking)}", "; ".join(advice))


def _check_combinations(options: ServeOptions) -> None:
    if options.tls_key is not None and options.tls_cert is None:
        raise ConfigError("--tls-key is only used with --tls-cert", "give the certificate too")
    if options.user_header is not None and not options.trusted_proxies:
        raise ConfigError("--user-header needs --trusted-proxy", "give the address of the proxy, such as 10.0.0.5/32")
    if options.trusted_proxies and options.user_header is None and not options.behind_proxy:
        raise ConfigError("--trusted-proxy is only used with --user-header or --behind-proxy", "leave it out")
    name = options.user_header
    if name is not None and (not _HEADER.fullmatch(name) or name.lower() in _OTHER_HEADERS):
        raise ConfigError(f"--user-header {name!r} cannot name the user", "give a name such as X-Forwarded-User")


def _check_approvers(config: RunConfig, accounts: list[Account] | None, warn: Callable[[str], None]) -> None:
    """Raise ConfigError if plans need the approval of a second person, and there are no persons."""
    if config.approval is not ApprovalPolicy.SECOND:
        return
    if accounts is None:
        raise ConfigError("--approval second needs users with roles", "give --users FILE, with approvers in it")
    if not any(one.role is Role.APPROVER for one in accounts):
        warn("warning: no user has the role approver, so no plan can be approved; see serve-user add")


def _lock(reports_dir: Path, clock: Clock) -> Lock:
    """Make one server the only one of a reports folder. Raises LockedError."""
    try:
        reports_dir.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise write_error(str(reports_dir), exc) from exc
    owner = LockOwner(os.getpid(), iso(clock.wall()), "serve")
    return Lock.acquire(reports_dir / _LOCK_NAME, owner, f"the page of {reports_dir}")


def _announce(server: DeskServer, access: Access, options: ServeOptions, terminal: Terminal) -> None:
    host = f"[{options.host}]" if ":" in options.host else options.host
    url = f"http{'s' if options.tls_cert is not None else ''}://{host}:{options.port}/"
    token = access.token
    if token is None:
        terminal.announce(f"Serving {url} (Ctrl-C ends it)")
        return

    def announce_token() -> None:
        terminal.announce(f"Open {url}?token={token.renew()}")

    terminal.announce("Serving one browser: the address below works once. Press Enter for a new one, Ctrl-C to end.")
    announce_token()
    server.on_enter = announce_token


class _Lines(logging.Handler):
    """Writes warnings of the server as lines."""

    def __init__(self, write: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._write = write

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        for line in record.getMessage().splitlines():
            self._write(line)


def _log_to(write: Callable[[str], None]) -> None:
    LOGGER.handlers = [_Lines(write)]
    LOGGER.propagate = False
    for name in ("uvicorn", "python_multipart"):  # what visitors send wrongly is no news, and could fill the log
        library = logging.getLogger(name)
        library.handlers, library.propagate = [_Lines(write)], False
        library.setLevel(logging.CRITICAL)
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
