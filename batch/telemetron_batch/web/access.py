"""Who makes a request: the holder of a session, of the token, or the user whom a trusted proxy names."""

import hashlib
import hmac
import secrets
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from starlette.requests import HTTPConnection

from telemetron_batch.domain.errors import BatchError
from telemetron_batch.storage.clock import Clock
from telemetron_batch.web.audit import AuditLog
from telemetron_batch.web.options import ServeOptions
from telemetron_batch.web.passwords import PasswordChecker, TooManyChecksError
from telemetron_batch.web.peers import is_trusted, peer_address
from telemetron_batch.web.people import Role, User
from telemetron_batch.web.sessions import Sessions
from telemetron_batch.web.sign_in_limit import SignInLimit, Try
from telemetron_batch.web.users import Account, UserFile, user_name

LOCAL_USER: Final = "local"
_TOKEN_STAMP: Final = b"token"
_BUSY_S: Final = 5.0


class SignInFailure(StrEnum):
    """Why a sign-in failed: keys of the texts of the page."""

    WRONG_PASSWORD = "wrong_password"  # noqa: S105 - a key of a text
    WRONG_TOKEN = "wrong_token"  # noqa: S105 - a key of a text
    TOO_MANY = "too_many"


class SignInError(Exception):
    """No user was signed in."""

    def __init__(self, failure: SignInFailure, wait_s: float = 0.0) -> None:
        super().__init__(failure)
        self.failure = failure
        self.wait_s = wait_s


class OneTimeToken:
    """The token that lets the first browser in that brings it."""

    def __init__(self) -> None:
        self._token: str | None = None

    def renew(self) -> str:
        """Return a new token; an earlier one is worth nothing any more."""
        self._token = secrets.token_urlsafe(32)
        return self._token

    def spend(self, text: str) -> bool:
        """Return whether the text is the token, which then is spent."""
        if self._token is None or not _is_equal(self._token, text):
            return False
        self._token = None
        return True


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who makes a request, and what a form of theirs must prove."""

    user: User | None
    peer: str
    csrf: str
    session: str | None = None
    """The secret name of the session, if the user has one."""
    new_form_cookie: str | None = None
    """The value of a cookie to set, to which the CSRF token of the sign-in form belongs."""


@dataclass(frozen=True, slots=True)
class Cookies:
    """The names of the cookies. Browsers share cookies among the ports of a host, so the names have the port."""

    port: int
    is_secure: bool

    @property
    def session(self) -> str:
        """The cookie of the session."""
        return self._named("session")

    @property
    def form(self) -> str:
        """The cookie of the sign-in form."""
        return self._named("form")

    @property
    def device(self) -> str:
        """The cookie of a browser in which a user has signed in before."""
        return self._named("device")

    def _named(self, purpose: str) -> str:
        return f"{'__Host-' if self.is_secure else ''}telemetron-{purpose}-{self.port}"


class Access:
    """Decides who makes a request, and signs users in and out."""

    def __init__(self, options: ServeOptions, audit: AuditLog, clock: Clock, warn: Callable[[str], None]) -> None:
        self.options = options
        self.cookies = Cookies(options.port, options.is_secure)
        self.token = OneTimeToken() if options.has_token else None
        self._users = UserFile(options.users) if options.users is not None else None
        self._audit, self._clock, self._warn = audit, clock, warn
        self._warned = ""
        self._key = secrets.token_bytes(32)
        self._sessions = Sessions(options.idle_timeout, options.session_timeout)
        self._limit = SignInLimit()
        self._passwords = PasswordChecker() if options.users and not options.user_header else None

    def identify(self, connection: HTTPConnection) -> Visitor:
        """Return who makes a request."""
        peer = peer_address(connection, self.options)
        if self.options.user_header is not None:
            return self._named_by_proxy(connection, peer)
        cookies = _cookies(connection)
        secret = cookies.get(self.cookies.session, "")
        is_stream = "text/event-stream" in connection.headers.get("accept", "")
        user = self._user_of_session(secret, peer, is_use=not is_stream) if secret else None
        if user is not None:
            return Visitor(user, peer, self._mac("session", secret), session=secret)
        form = cookies.get(self.cookies.form)
        new = None if form else secrets.token_urlsafe(16)
        return Visitor(None, peer, self._mac("form", form or new or ""), new_form_cookie=new)

    def is_still(self, visitor: Visitor, connection: HTTPConnection) -> bool:
        """Return whether a user whose request takes long may still see what it brings."""
        if visitor.session is None:
            return self.identify(connection).user == visitor.user
        return self._user_of_session(visitor.session, visitor.peer, is_use=False) == visitor.user

    def sign_in_by_token(self, text: str, peer: str) -> str:
        """Spend the token and return the secret name of a new session. Raises SignInError."""
        if self.token is None or not self.token.spend(text):
            self._record_limited(Try(LOCAL_USER, peer), SignInFailure.WRONG_TOKEN)
            raise SignInError(SignInFailure.WRONG_TOKEN)
        self._audit.record(self._local_user(peer), "signIn")
        return self._sessions.start(LOCAL_USER, _TOKEN_STAMP, self._clock.uptime())

    async def sign_in_by_password(self, typed_name: str, password: str, connection: HTTPConnection) -> str:
        """Check a password and return the secret name of a new session. Raises SignInError."""
        account = self._account(typed_name)
        attempt = self._attempt(typed_name, account, connection)
        wait = self._limit.admit(attempt, self._clock.uptime())
        if wait:
            self._record_limited(attempt, SignInFailure.TOO_MANY)
            raise SignInError(SignInFailure.TOO_MANY, wait)
        if not await self._is_password(account, password, attempt) or account is None:
            name = None if account is None else account.name  # what was typed may be a password
            self._audit.record(None, "signInFailed", name=name, peer=attempt.peer)
            raise SignInError(SignInFailure.WRONG_PASSWORD)
        self._limit.succeeded(attempt)
        self._audit.record(User(account.name, account.role, attempt.peer), "signIn", role=account.role)
        return self._sessions.start(account.name, account.stamp, self._clock.uptime())

    def device_cookie(self, name: str) -> str:
        """Return the value of the cookie by which this browser is known after a user has signed in."""
        account = self._account(name)
        browser = secrets.token_urlsafe(12)
        return "" if account is None else f"{browser}.{_device_mac(account, browser)}"

    def sign_out(self, visitor: Visitor) -> None:
        """End the session of a visitor."""
        if visitor.session is not None:
            self._sessions.end(visitor.session)
            self._audit.record(visitor.user, "signOut")

    def _named_by_proxy(self, connection: HTTPConnection, peer: str) -> Visitor:
        user = self._user_of_header(connection, peer)
        return Visitor(user, peer, self._mac("proxy", "" if user is None else user.name))

    def _user_of_header(self, connection: HTTPConnection, peer: str) -> User | None:
        """Return the user whom a trusted proxy names. From other peers the header counts for nothing."""
        names = connection.headers.getlist(self.options.user_header or "")
        if len(names) != 1 or not is_trusted(connection, self.options.trusted_proxies):
            return None
        if self._users is None:
            try:
                return User(user_name(names[0]), Role.OPERATOR, peer)
            except ValueError:
                return None
        account = self._account(names[0])
        return None if account is None else User(account.name, account.role, peer)

    def _user_of_session(self, secret: str, peer: str, *, is_use: bool) -> User | None:
        session = self._sessions.find(secret, self._clock.uptime(), is_use=is_use)
        if session is None:
            return None
        if self._users is None:
            return self._local_user(peer)
        account = self._account(session.user)
        if account is None or account.stamp != session.stamp:
            self._sessions.end(secret)
            return None
        return User(account.name, account.role, peer)

    def _local_user(self, peer: str) -> User:
        return User(LOCAL_USER, Role.OPERATOR, peer, is_only_user=True)

    def _account(self, text: str) -> Account | None:
        """Return the account of a name; None if there is none, or if the file cannot be used."""
        try:
            name = user_name(text)
            account = None if self._users is None else self._users.accounts().get(name)
        except ValueError:
            return None
        except BatchError as exc:
            self._warn_once(f"nobody can come in: {exc}")
            return None
        self._warned = ""
        return account

    def _warn_once(self, text: str) -> None:
        """Write a warning, unless it was the last one and still holds."""
        if text != self._warned:
            self._warned = text
            self._warn(text)

    def _attempt(self, typed_name: str, account: Account | None, connection: HTTPConnection) -> Try:
        name = typed_name.strip().lower()[:128] if account is None else account.name
        peer = peer_address(connection, self.options)
        browser, _, mac = _cookies(connection).get(self.cookies.device, "").partition(".")
        is_known = account is not None and bool(browser) and _is_equal(_device_mac(account, browser), mac)
        return Try(name, peer, browser if is_known else None)

    async def _is_password(self, account: Account | None, password: str, attempt: Try) -> bool:
        if self._passwords is None:
            return False
        stored = None if account is None else account.password_hash
        try:
            return await self._passwords.check(stored, password, is_known=attempt.device is not None)
        except TooManyChecksError:
            raise SignInError(SignInFailure.TOO_MANY, _BUSY_S) from None

    def _record_limited(self, attempt: Try, failure: SignInFailure) -> None:
        """Record that tries from a peer were refused, once a minute, so that they cannot fill the disk."""
        if self._limit.is_new_refusal(attempt.peer, self._clock.uptime()):
            self._audit.record(None, "signInRefused", reason=failure, peer=attempt.peer)

    def _mac(self, kind: str, text: str) -> str:
        return hmac.new(self._key, f"{kind}\0{text}".encode("utf-8", "replace"), hashlib.sha256).hexdigest()


def _device_mac(account: Account, browser: str) -> str:
    return hmac.new(account.stamp, b"device\0" + browser.encode("utf-8", "replace"), hashlib.sha256).hexdigest()


def _cookies(connection: HTTPConnection) -> dict[str, str]:
    """Return the cookies of a request, without those whose name occurs twice: one may be somebody else's."""
    parts = ";".join(connection.headers.getlist("cookie")).split(";")
    pairs = [(name, value) for name, _, value in (part.strip().partition("=") for part in parts)]
    names = Counter(name for name, _ in pairs)
    return {name: value for name, value in pairs if names[name] == 1}


def _is_equal(first: str, second: str) -> bool:
    return hmac.compare_digest(first.encode(), second.encode("utf-8", "replace"))
