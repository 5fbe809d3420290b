"""Who may come in: by the token, by a password, by a proxy; how sessions begin and end; what every answer carries."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from telemetron_batch.domain.errors import ConfigError, LockedError
from telemetron_batch.web.context import Role, action, csrf_token, require, user_of
from telemetron_batch.web.options import ServeOptions
from telemetron_batch.web.people import User
from telemetron_batch.web.sign_in import local_path
from telemetron_batch.web.users import Account, UserFile
from tests.conftest import FakeClock
from tests.support.desk import HASH, PASSWORD, Browser, Site, user_file

PROXY = "10.0.0.5"
BY_PROXY: dict[str, Any] = {"user_header": "X-Forwarded-User", "trusted_proxies": (ip_network(f"{PROXY}/32"),)}


async def show(request: Request) -> Response:
    """A page with a form."""
    return HTMLResponse(f'{user_of(request).name}<input name="csrf" value="{csrf_token(request)}">')


async def approvers_only(request: Request) -> Response:
    require(request, Role.APPROVER)
    return PlainTextResponse("for approvers")


async def fail(request: Request) -> Response:
    errors = {
        "batch": ConfigError("no such thing", "do this"),
        "lock": LockedError("in use", "wait"),
        "os": OSError(2, "x"),
        "bug": ZeroDivisionError("the key is k"),
    }
    raise errors[request.path_params["kind"]]


@action(Role.OPERATOR)
async def act(request: Request, form: FormData) -> Response:
    return PlainTextResponse(f"done by {user_of(request).name}: {form.get('what')}")


@action(Role.OPERATOR, uploads=True)
async def upload(_: Request, form: FormData) -> Response:
    file = form["file"]
    assert isinstance(file, UploadFile)
    return PlainTextResponse(f"{file.filename}: {len(await file.read())}")


def stream_of(steps: list[Callable[[], None]]) -> Callable[[Request], Any]:
    """Return a page that streams, and takes a step before each event."""

    async def events() -> AsyncIterator[str]:
        for number, step in enumerate(steps):
            step()
            yield f"data: {number}\n\n"
            await asyncio.sleep(0)

    async def page(_: Request) -> Response:
        return StreamingResponse(events(), media_type="text/event-stream")

    return page


PAGES = [
    Route("/", show),
    Route("/approvers", approvers_only),
    Route("/fail/{kind}", fail),
    Route("/act", act, methods=["POST"]),
    Route("/upload", upload, methods=["POST"]),
]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A server for one browser on this machine."""
    return Site(tmp_path, PAGES)


def site_with_users(folder: Path, *, pages: list[Route] | None = None, **options: Any) -> Site:
    users = user_file(folder, ann="operator", bob="approver", vic="viewer")
    return Site(folder, pages or PAGES, ServeOptions(users=users, **options))


class TestTheToken:
    def test_nobody_sees_a_page_before(self, site: Site) -> None:
        answer = site.browser().get("/")
        assert answer.status_code == 401
        assert "local" not in answer.text
        assert site.browser().get("/runs/anything").status_code == 401

    def test_it_lets_in_the_browser_that_brings_it_and_is_not_kept_in_the_address(self, site: Site) -> None:
        browser = site.browser()
        answer = browser.get(f"/?token={site.access.token.renew()}")  # type: ignore[union-attr]
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
        assert browser.get("/").status_code == 200

    def test_it_is_spent_after_that(self, site: Site) -> None:
        token = site.access.token.renew()  # type: ignore[union-attr]
        assert site.browser().get(f"/?token={token}").status_code == 303
        assert site.browser().get(f"/?token={token}").status_code == 401

    def test_a_new_one_makes_the_one_before_it_worthless_but_ends_no_session(self, site: Site) -> None:
        assert site.access.token is not None
        browser, old, new = site.by_token(), site.access.token.renew(), site.access.token.renew()
        assert site.browser().get(f"/?token={old}").status_code == 401
        assert site.browser().get(f"/?token={new}").status_code == 303
        assert browser.get("/").status_code == 200

    @pytest.mark.parametrize("token", ["", "x", "None", "\u00e9", "%00"])
    def test_any_other_text_lets_nobody_in(self, site: Site, token: str) -> None:
        assert site.browser().get("/", params={"token": token}).status_code == 401
        site.access.token.renew()  # type: ignore[union-attr]
        assert site.browser().get("/", params={"token": token}).status_code == 401

    def test_it_is_not_spent_by_a_browser_that_only_loads_in_advance(self, site: Site) -> None:
        token = site.access.token.renew()  # type: ignore[union-attr]
        early = site.browser().get(f"/?token={token}", headers={"sec-purpose": "prefetch;prerender"})
        assert early.status_code == 503
        assert site.browser().get(f"/?token={token}").status_code == 303

    def test_it_can_also_be_typed_into_the_page(self, site: Site) -> None:
        browser, token = site.browser(), site.access.token.renew()  # type: ignore[union-attr]
        answer = browser.post("/sign-in", {"token": f" {token} "}, page="/sign-in")
        assert answer.status_code == 303
        assert browser.get("/").status_code == 200

    def test_a_password_lets_nobody_in_where_a_token_does(self, site: Site) -> None:
        assert site.browser().sign_in("local", "").status_code == 401

    def test_wrong_ones_do_not_fill_the_audit_log(self, site: Site) -> None:
        for number in range(100):
            site.browser().get(f"/?token={number}")
        assert [line["action"] for line in site.audited()] == ["signInRefused"]


class TestCookies:
    def test_the_cookie_of_a_session_is_out_of_reach_of_scripts_and_other_sites(self, site: Site) -> None:
        answer = site.browser().get(f"/?token={site.access.token.renew()}")  # type: ignore[union-attr]
        (cookie,) = [one for one in answer.headers.get_list("set-cookie") if "session" in one]
        assert {"Path=/", "HttpOnly", "SameSite=Lax"} <= {part.strip() for part in cookie.split(";")}

    def test_it_travels_encrypted_only_where_browsers_come_by_https(self, tmp_path: Path) -> None:
        site = site_with_users(tmp_path, behind_proxy=True)
        cookies = site.browser().sign_in("ann").headers.get_list("set-cookie")
        assert len(cookies) == 2
        assert all(one.startswith("__Host-") and "Secure" in one.split("; ") for one in cookies)

    def test_its_name_has_the_port_because_browsers_share_cookies_among_ports(self, tmp_path: Path) -> None:
        one, other = Site(tmp_path, PAGES, ServeOptions(port=1)), Site(tmp_path, PAGES, ServeOptions(port=2))
        assert one.access.cookies.session != other.access.cookies.session

    def test_two_cookies_of_one_name_count_as_none(self, site: Site) -> None:
        browser = site.by_token()
        name = site.access.cookies.session
        twice = f"{name}=x; {name}={browser.client.cookies[name]}"
        assert site.browser().get("/", headers={"cookie": twice}).status_code == 401
        other = f"x=1; {name}={browser.client.cookies[name]}; x=2"
        assert site.browser().get("/", headers={"cookie": other}).status_code == 200


class TestPasswords:
    def test_a_user_gets_in_by_name_and_password(self, tmp_path: Path) -> None:
        site = site_with_users(tmp_path)
        assert site.by_password("Ann").get("/").text.startswith("ann")

    @pytest.mark.parametrize(
        ("name", "password"), [("ann", "wrong password"), ("nobody", PASSWORD), ("", ""), ("ann", "")]
    )
    def test_nobody_else_does(self, tmp_path: Path, name: str, password: str) -> None:
        site = site_with_users(tmp_path)
        browser = site.browser()
        assert browser.sign_in(name, password).status_code == 401
        assert browser.get("/").status_code == 401

    def test_an_unknown_name_and_a_wrong_password_get_the_same_answer(self, tmp_path: Path) -> None:
        site = site_with_users(tmp_path)
        unknown, wrong = site.browser().sign_in("nobody", "x"), site.browser().sign_in("ann", "x")
        assert unknown.status_code == wrong.status_code
        assert unknown.text.replace(unknown_csrf(unknown.text), "") == wrong.text.replace(unknown_csrf(wrong.text), "")

    def test_what_was_typed_as_an_unknown_name_is_not_recorded(self, tmp_path: Path) -> None:
        site = site_with_users(tmp_path)
        site.browser().sign_in("my-password-by-mistake", "x")
        site.browser().sign_in("ann", "x")
        assert [(line["action"], line["name"]) for line in site.audited()] == [
            ("signInFailed", None),
            ("signInFailed", "ann"),
        ]

    def test_a_user_without_a_password_cannot_sign_in_by_one(self, tmp_path: Path) -> None:
        site = site_with_users(tmp_path)
        UserFile(tmp_path / "users.json").put(Account("eve", Role.APPROVER, None))
        assert site.browser().sign_in("eve", "").status_code == 401

    def test_too_many_tries_are_told_when_to_come_back(self, tmp_path: Path) -> None:
        site = site_with_users(tmp_path)
        browser = site.browser()
        statuses = [browser.sign_in("ann", "wrong").status_code for _ in range(7)]
        assert statuses == [401] * 5 + [429] * 2
        answer = browser.sign_in("ann")
        assert answer.status_code == 429
        assert 0 < int(answer.headers["retry-after"]) <= 30

    def test_others_get_in_meanwhile(self, tmp_path: Path) -> None:
        site = site_with_users(tmp_path)
        for _ in range(10):
            site.browser(peer="192.0.2.6").sign_in("ann", "wrong")
        assert site.browser(peer="192.0.2.6").sign_in("ann").status_code == 429
        assert site.browser(peer="192.0.2.6").sign_in("bob").status_code == 303
        assert site.browser(peer="192.0.2.7").sign_in("ann").status_code == 303

    def test_a_browser_in_which_the_user_has_signed_in_before_is_never_locked_out_by_others(
        self, tmp_path: Path
    ) -> None:
        site = site_with_users(tmp_path)
        known = site.by_password("ann", peer="192.0.2.6")
        known.post("/sign-out")
        for number in range(60):
            site.browser(peer=f"192.0.2.{number}").sign_in("ann", "wrong")
        assert site.browser(peer="192.0.2.6").sign_in("ann").status_code == 429
        assert known.sign_in("ann").status_code == 303

    def test_the_mark_of_such_a_browser_counts_for_its_user_only(self, tmp_path: Path) -> None:
        site = site_with_users(tmp_path)
        of_ann = site.by_password("ann", peer="192.0.2.6")
        of_ann.post("/sign-out")
        statuses = [of_ann.sign_in("bob", "wrong").status_code for _ in range(7)]
        assert statuses == [401] * 5 + [429] * 2


def unknown_csrf(text: str) -> str:
    start = text.index('name="csrf" value="') + len('name="csrf" value="')
    return text[start : start + 64]


class TestTheEndOfASession:
    def test_signing_out_ends_it_here_and_at_the_server(self, tmp_path: Path) -> None:
        site = site_with_users(tmp_path)
        browser = site.by_password("ann")
        cookie = browser.client.cookies[site.access.cookies.session]
        assert browser.post("/sign-out").status_code == 303
        assert browser.get("/").status_code == 401
        stolen = {"cookie": f"{site.access.cookies.session}={cookie}"}
        assert site.browser().get("/", headers=stolen).status_code == 401

    @pytest.mark.parametrize(("seconds", "status"), [(3500.0, 200), (3700.0, 401)])
    def test_an_hour_without_use_ends_it(self, site: Site, seconds: float, status: int) -> None:
        browser = site.by_token()
        skip(site, seconds)
        assert browser.get("/").status_code == status

    def test_twelve_hours_end_it_however_much_it_is_used(self, site: Site) -> None:
        browser = site.by_token()
        statuses = []
        for _ in range(13):
            skip(site, 3590.0)
            statuses.append(browser.get("/").status_code)
        assert statuses == [200] * 12 + [401]

    @pytest.mark.parametrize("new", [Account("ann", Role.VIEWER, HASH), Account("ann", Role.OPERATOR, None), None])
    def test_another_role_another_password_or_a_removal_ends_it(self, tmp_path: Path, new: Account | None) -> None:
        site = site_with_users(tmp_path)
        browser, other = site.by_password("ann"), site.by_password("bob")
        users = UserFile(tmp_path / "users.json")
        users.remove("ann") if new is None else users.put(new)
        assert browser.get("/").status_code == 401
        assert other.get("/").status_code == 200

    def test_a_page_on_which_a_user_types_for_long_can_keep_it_alive(self, site: Site) -> None:
        browser = site.by_token()
        for _ in range(3):
            skip(site, 3000.0)
            assert browser.get("/session").status_code == 204
        skip(site, 3000.0)
        assert browser.get("/").status_code == 200
        assert site.browser().get("/session").status_code == 401

    def test_a_file_of_users_that_cannot_be_trusted_lets_nobody_in_and_says_why(self, tmp_path: Path) -> None:
        site = site_with_users(tmp_path)
        browser = site.by_password("ann")
        (tmp_path / "users.json").chmod(0o644)
        assert browser.get("/").status_code == 401
        browser.get("/")
        (warning,) = site.warnings
        assert "chmod 600" in warning

    def test_a_stream_ends_with_it(self, tmp_path: Path) -> None:
        users = UserFile(tmp_path / "users.json")
        steps: list[Callable[[], None]] = [lambda: None, lambda: users.remove("ann"), lambda: None, lambda: None]
        site = site_with_users(tmp_path, pages=[*PAGES, Route("/events", stream_of(steps))])
        assert site.by_password("ann").get("/events").text == "data: 0\n\n"

    def test_a_stream_goes_on_while_it_lasts(self, site: Site) -> None:
        site.app.router.routes.append(Route("/events", stream_of([lambda: None] * 3)))
        assert site.by_token().get("/events").text.count("data") == 3

    def test_a_stream_that_connects_again_by_itself_does_not_keep_it_alive(self, site: Site) -> None:
        site.app.router.routes.append(Route("/events", stream_of([lambda: None])))
        browser = site.by_token()
        for _ in range(4):
            skip(site, 1000.0)
            last = browser.get("/events", headers={"accept": "text/event-stream"})
        assert last.status_code == 401


def skip(site: Site, seconds: float) -> None:
    """Let time pass; `uptime` of the clock counts what was slept."""
    assert isinstance(site.clock, FakeClock)
    site.clock.sleep_blocking(seconds)


class TestRoles:
    @pytest.mark.parametrize(("name", "status"), [("vic", 403), ("ann", 200), ("bob", 200)])
    def test_a_viewer_changes_nothing(self, tmp_path: Path, name: str, status: int) -> None:
        assert site_with_users(tmp_path).by_password(name).post("/act").status_code == status

    @pytest.mark.parametrize(("name", "status"), [("vic", 403), ("ann", 403), ("bob", 200)])
    def test_only_an_approver_gets_what_is_for_approvers(self, tmp_path: Path, name: str, status: int) -> None:
        assert site_with_users(tmp_path).by_password(name).get("/approvers").status_code == status

    def test_an_approver_sees_all_runs_and_anybody_else_the_own_ones(self) -> None:
        for role in Role:
            sees = [True] * 3 if role is Role.APPROVER else [True, False, False]
            assert [User("ann", role).may_see(owner) for owner in ("ann", "bob", None)] == sees

    def test_the_holder_of_the_token_sees_all_runs_because_there_is_nobody_else(self) -> None:
        assert User("local", Role.OPERATOR, is_only_user=True).may_see(None)


class TestTheProxy:
    @pytest.mark.parametrize(
        ("peer", "headers", "user"),
        [
            (PROXY, {"X-Forwarded-User": "Ann"}, "ann"),
            ("10.0.0.6", {"X-Forwarded-User": "ann"}, None),
            ("127.0.0.1", {"X-Forwarded-User": "ann"}, None),
            ("10.0.0.6", {"X-Forwarded-User": "ann", "X-Forwarded-For": PROXY}, None),
            (PROXY, {"X-Forwarded-User": ""}, None),
            (PROXY, {"X-Forwarded-User": "a b"}, None),
            (PROXY, {"X_Forwarded_User": "ann"}, None),
            (PROXY, {}, None),
        ],
    )
    def test_only_its_word_counts(self, tmp_path: Path, peer: str, headers: dict[str, str], user: str | None) -> None:
        site = Site(tmp_path, PAGES, ServeOptions(**BY_PROXY))
        answer = site.browser(peer=peer).get("/", headers=headers)
        assert (answer.text.split("<")[0] if answer.status_code == 200 else None) == user

    def test_two_words_count_as_none(self, tmp_path: Path) -> None:
        site = Site(tmp_path, PAGES, ServeOptions(**BY_PROXY))
        both = [("X-Forwarded-User", "ann"), ("X-Forwarded-User", "bob"), ("accept", "text/html")]
        assert site.browser(peer=PROXY).client.get("/", headers=both).status_code == 401

    def test_its_users_post_with_a_token_of_their_own(self, tmp_path: Path) -> None:
        site = Site(tmp_path, PAGES, ServeOptions(**BY_PROXY))
        browser, ann, bob = site.browser(peer=PROXY), {"X-Forwarded-User": "ann"}, {"X-Forwarded-User": "bob"}
        token = unknown_csrf(browser.get("/", headers=ann).text)
        assert browser.client.post("/act", data={"csrf": token}, headers=ann).status_code == 200
        assert browser.client.post("/act", data={"csrf": token}, headers=bob).status_code == 403

    def test_with_a_file_of_users_only_these_come_in_with_their_roles(self, tmp_path: Path) -> None:
        site = site_with_users(tmp_path, **BY_PROXY)
        browser = site.browser(peer=PROXY)
        statuses = [
            browser.get("/approvers", headers={"X-Forwarded-User": name}).status_code for name in ("ann", "bob", "x")
        ]
        assert statuses == [403, 200, 401]

    def test_nobody_signs_in_by_password_beside_it(self, tmp_path: Path) -> None:
        site = site_with_users(tmp_path, **BY_PROXY)
        assert "password" not in site.browser().get("/sign-in").text
        browser = site.browser(peer=PROXY)
        token = unknown_csrf(browser.get("/", headers={"X-Forwarded-User": "ann"}).text)
        fields = {"csrf": token, "name": "bob", "password": PASSWORD}
        assert browser.client.post("/sign-in", data=fields, headers={"X-Forwarded-User": "ann"}).status_code == 401

    @pytest.mark.parametrize(
        ("peer", "forwarded", "address"),
        [
            ("127.0.0.1", "192.0.2.9", "192.0.2.9"),
            ("127.0.0.1", "1.1.1.1, 192.0.2.9", "192.0.2.9"),
            ("127.0.0.1", "1.1.1.1, 192.0.2.9, 127.0.0.1", "192.0.2.9"),
            ("127.0.0.1", "192.0.2.9, evil", "127.0.0.1"),
            ("127.0.0.1", None, "127.0.0.1"),
            ("192.0.2.1", "192.0.2.9", "192.0.2.1"),
        ],
    )
    def test_the_address_of_the_browser_is_what_a_trusted_proxy_says_of_it(
        self, tmp_path: Path, peer: str, forwarded: str | None, address: str
    ) -> None:
        site = site_with_users(tmp_path, behind_proxy=True)
        more = {} if forwarded is None else {"headers": {"x-forwarded-for": forwarded}}
        site.browser(peer=peer).sign_in("ann", **more)
        assert site.audited()[0]["peer"] == address


class TestForms:
    def test_a_form_with_the_token_of_the_session_is_taken(self, site: Site) -> None:
        assert site.by_token().post("/act", {"what": "this"}).text == "done by local: this"

    def test_a_script_sends_the_token_as_a_header(self, site: Site) -> None:
        browser = site.by_token()
        token = browser.csrf()
        assert browser.client.post("/act", data={}, headers={"x-csrf-token": token}).status_code == 200
        assert browser.client.post("/act", data={"csrf": token}, headers={"x-csrf-token": "x"}).status_code == 403

    @pytest.mark.parametrize(
        "token", [None, "", "x", "\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16")]
    )
    def test_a_form_without_it_is_refused(self, site: Site, token: str | None) -> None:
        browser = site.by_token()
        fields = {} if token is None else {"csrf": token}
        assert browser.client.post("/act", data=fields).status_code == 403

    def test_the_token_of_another_session_is_worth_nothing(self, tmp_path: Path) -> None:
        site = site_with_users(tmp_path)
        of_bob = site.by_password("bob").csrf()
        assert site.by_password("ann").client.post("/act", data={"csrf": of_bob}).status_code == 403

    def test_the_form_for_signing_in_needs_one_too(self, tmp_path: Path) -> None:
        site = site_with_users(tmp_path)
        fields = {"name": "ann", "password": PASSWORD, "csrf": site.browser().csrf("/sign-in")}
        assert site.browser().client.post("/sign-in", data=fields).status_code == 403

    @pytest.mark.parametrize("kind", ["application/json", "text/plain", "", "multipart/form-data"])
    def test_what_is_no_form_is_refused(self, site: Site, kind: str) -> None:
        browser = site.by_token()
        token = browser.csrf()
        content = b'{"csrf": "%s"}' % token.encode()
        assert browser.client.post("/act", content=content, headers={"content-type": kind}).status_code in (400, 403)

    def test_files_go_only_where_uploads_are_taken(self, site: Site) -> None:
        browser = site.by_token()
        file = {"file": ("a.csv", b"x" * 5000)}
        assert browser.post("/act", files=file).status_code == 400
        assert browser.post("/upload", files=file).text == "a.csv: 5000"

    def test_the_server_does_not_start_with_a_page_that_forgets_the_check(self, tmp_path: Path) -> None:
        async def forgetful(_: Request) -> Response:
            return PlainTextResponse("")

        with pytest.raises(ValueError, match="/x takes a form without @action"):
            Site(tmp_path, [Route("/x", forgetful, methods=["POST"])])

    @pytest.mark.parametrize(
        "path", ["//evil.example", "https://evil.example", "/\\evil.example", "x", "", "/a\nb", "/\u00e9"]
    )
    def test_signing_in_never_leads_to_another_site(self, path: str) -> None:
        assert local_path(path) == "/"

    def test_signing_in_leads_to_the_page_that_was_asked_for(self, tmp_path: Path) -> None:
        browser = site_with_users(tmp_path).browser()
        assert 'name="next" value="/runs/monday"' in browser.get("/runs/monday").text
        answer = browser.post(
            "/sign-in", {"name": "ann", "password": PASSWORD, "next": "/runs/monday"}, page="/sign-in"
        )
        assert answer.headers["location"] == "/runs/monday"


class TestEveryAnswer:
    @pytest.mark.parametrize("path", ["/", "/sign-in", "/healthz", "/nowhere", "/static/desk.css", "/fail/bug", "/act"])
    def test_forbids_what_a_page_could_be_abused_for(self, site: Site, path: str) -> None:
        for browser in (site.browser(), site.by_token()):
            headers = browser.get(path).headers
            policy = headers["content-security-policy"]
            assert {"default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'"} <= {
                part.strip() for part in policy.split(";")
            }
            assert "unsafe" not in policy
            assert headers["cache-control"] == "no-store"
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["referrer-policy"] == "no-referrer"

    def test_of_the_page_for_signing_in_has_nothing_inline(self, site: Site) -> None:
        text = site.browser().get("/sign-in").text
        assert "<style" not in text
        assert " style=" not in text
        assert " on" not in [part[:3] for part in text.split("<")]
        assert "<script>" not in text

    def test_is_ok_and_no_more_where_health_is_asked(self, site: Site) -> None:
        answer = site.browser().get("/healthz")
        assert (answer.status_code, answer.text) == (200, "ok\n")
        assert not answer.headers.get_list("set-cookie")

    def test_to_a_script_is_a_short_text(self, site: Site) -> None:
        answer = site.browser().get("/", headers={"accept": "application/json"})
        assert (answer.status_code, answer.text) == (401, "Sign in first.\n")


class TestErrors:
    def test_an_error_that_the_program_explains_is_shown(self, site: Site) -> None:
        browser = site.by_token()
        answer = browser.get("/fail/batch")
        assert answer.status_code == 400
        assert "no such thing; do this" in answer.text
        assert browser.get("/fail/lock").status_code == 409
        assert browser.get("/fail/os").status_code == 400

    def test_a_bug_says_nothing_about_itself(self, site: Site, caplog: pytest.LogCaptureFixture) -> None:
        answer = site.by_token().get("/fail/bug")
        assert answer.status_code == 500
        assert "ZeroDivision" not in answer.text
        assert "key" not in answer.text.lower().replace("keyboard", "")
        (record,) = [one for one in caplog.records if one.name == "telemetron_batch_serve"]
        assert "ZeroDivisionError" in record.getMessage()
        assert "Traceback" not in record.getMessage()
        number = record.getMessage().split("(")[1].split(")")[0]
        assert number in answer.text

    def test_a_page_that_is_not_there_is_told_so(self, site: Site) -> None:
        assert site.by_token().get("/nowhere").status_code == 404


class TestTheAuditLog:
    def test_says_who_came_when_and_from_where(self, tmp_path: Path) -> None:
        site = site_with_users(tmp_path)
        site.by_password("ann", peer="192.0.2.6").post("/sign-out")
        first, last = site.audited()
        assert first == {
            "at": first["at"], "user": "ann", "peer": "192.0.2.6", "action": "signIn", "role": "operator",
        }  # fmt: skip
        assert last["action"] == "signOut"
        assert site.audit.path == tmp_path / "audit.jsonl"
        assert site.audit.path.stat().st_mode & 0o777 == 0o600

    def test_is_only_appended_to(self, site: Site) -> None:
        site.audit.path.touch(0o600)
        site.audit.path.write_text('{"earlier": true}\n')
        site.by_token()
        assert [*map(len, site.audited())] == [1, 4]

    def test_a_line_stays_one_line_whatever_is_in_it(self, site: Site) -> None:
        site.audit.record(User("ann", Role.VIEWER), "look", run='x\n{"at": 1}\u2028\u202e')
        assert len(site.audit.path.read_bytes().splitlines()) == len(site.audited()) == 1

    def test_nobody_comes_in_if_it_cannot_be_written(self, site: Site) -> None:
        site.audit.path.mkdir()
        browser = site.browser()
        answer = browser.get(f"/?token={site.access.token.renew()}")  # type: ignore[union-attr]
        assert answer.status_code == 400
        assert "audit" not in answer.text
        assert browser.get("/").status_code == 401

    def test_a_full_disk_lets_nobody_in_and_is_told_to_the_administrator(
        self, site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def full(*_: object) -> int:
            raise OSError(28, "No space left on device")

        browser = site.browser()
        monkeypatch.setattr(os, "write", full)
        assert browser.get(f"/?token={site.access.token.renew()}").status_code == 507  # type: ignore[union-attr]
        monkeypatch.undo()
        assert browser.get("/").status_code == 401
        assert "audit.jsonl (No space left" in caplog.text

    def test_a_link_in_its_place_is_not_followed(self, site: Site, tmp_path: Path) -> None:
        (tmp_path / "elsewhere").touch(0o600)
        site.audit.path.symlink_to(tmp_path / "elsewhere")
        site.browser().get(f"/?token={site.access.token.renew()}")  # type: ignore[union-attr]
        assert (tmp_path / "elsewhere").read_bytes() == b""


def test_a_browser_keeps_its_session_while_others_come_and_go(tmp_path: Path) -> None:
    site = site_with_users(tmp_path)
    first: Browser = site.by_password("ann")
    for name in ("bob", "vic", "ann"):
        site.by_password(name).post("/sign-out")
    assert first.get("/").status_code == 200
