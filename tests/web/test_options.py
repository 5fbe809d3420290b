"""Which options let the server start: it never lets in somebody by omission."""

from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from telemetron_batch.domain.errors import ConfigError
from telemetron_batch.web.command_options import serve_options
from telemetron_batch.web.options import ServeOptions
from telemetron_batch.web.serve import audit_file, check_options
from tests.support.desk import desk_config, user_file

CERT, PROXY = Path("cert.pem"), (ip_network("10.0.0.5/32"),)
DEFAULTS: dict[str, Any] = {
    "host": "127.0.0.1", "port": 8780, "tls_cert": None, "tls_key": None, "behind_proxy": False, "users": None,
    "user_header": None, "trusted_proxies": (), "allowed_hosts": (), "max_upload": "256MiB",
    "upload_timeout": "10m", "idle_timeout": "1h", "session_timeout": "12h",
}  # fmt: skip


def checked(folder: Path, flags: dict[str, Any] | None = None, **options: Any) -> list[str]:
    """Check options; return the warnings."""
    warnings: list[str] = []
    check_options(desk_config(folder, **(flags or {})), ServeOptions(**options), warnings.append)
    return warnings


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.1.2.3"])
def test_a_loopback_host_needs_no_users(tmp_path: Path, host: str) -> None:
    assert checked(tmp_path, host=host) == []


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "desk.example.com", ""])
@pytest.mark.parametrize(
    ("more", "lacking"),
    [
        ({}, "without TLS and users"),
        ({"tls_cert": CERT, "tls_key": CERT}, "without users"),
        ({"behind_proxy": True}, "without users"),
        ({"users": "file"}, "without TLS"),
        ({"user_header": "X-Forwarded-User", "trusted_proxies": PROXY}, "without TLS"),
    ],
)
def test_another_host_needs_tls_and_users(tmp_path: Path, host: str, more: dict[str, Any], lacking: str) -> None:
    if "users" in more:
        more = {**more, "users": user_file(tmp_path, ann="operator")}
    with pytest.raises(ConfigError, match=lacking) as caught:
        checked(tmp_path, host=host, **more)
    assert caught.value.advice
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("tls", [{"tls_cert": CERT, "tls_key": CERT}, {"behind_proxy": True}])
def test_another_host_with_tls_and_users_is_served(tmp_path: Path, tls: dict[str, Any]) -> None:
    users = user_file(tmp_path, ann="operator")
    assert checked(tmp_path, host="0.0.0.0", users=users, allowed_hosts=("desk.example.com",), **tls) == []
    by_proxy = {"user_header": "X-Forwarded-User", "trusted_proxies": PROXY, "allowed_hosts": ("desk.example.com",)}
    assert checked(tmp_path, host="0.0.0.0", **by_proxy, **tls) == []


def test_a_proxy_in_front_of_a_loopback_host_needs_users_too(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="without users"):
        checked(tmp_path, behind_proxy=True)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"tls_key": CERT}, "--tls-key is only used with --tls-cert"),
        ({"user_header": "X-Forwarded-User"}, "--user-header needs --trusted-proxy"),
        ({"trusted_proxies": PROXY}, "--trusted-proxy is only used with"),
        ({"user_header": "X Y", "trusted_proxies": PROXY}, "cannot name the user"),
        ({"user_header": "Cookie", "trusted_proxies": PROXY}, "cannot name the user"),
        ({"users": Path("/nowhere/users.json")}, "there is no /nowhere"),
    ],
)
def test_options_that_contradict_each_other_are_refused(tmp_path: Path, options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        checked(tmp_path, **options)


def test_a_file_without_users_is_refused(tmp_path: Path) -> None:
    (tmp_path / "users.json").write_text('{"users": {}}')
    (tmp_path / "users.json").chmod(0o600)
    with pytest.raises(ConfigError, match="has no user"):
        checked(tmp_path, users=tmp_path / "users.json")


def test_approval_by_a_second_person_needs_persons(tmp_path: Path) -> None:
    second = {"approval": "second"}
    with pytest.raises(ConfigError, match="--approval second needs users"):
        checked(tmp_path, second)
    with pytest.raises(ConfigError, match="--approval second needs users"):
        checked(tmp_path, second, user_header="X-Forwarded-User", trusted_proxies=PROXY)
    assert checked(tmp_path, second, users=user_file(tmp_path, ann="operator", bob="approver")) == []
    (tmp_path / "users.json").unlink()
    assert "no user has the role approver" in checked(tmp_path, second, users=user_file(tmp_path, ann="operator"))[0]


def test_the_audit_log_is_beside_the_users_or_else_in_the_reports_folder(tmp_path: Path) -> None:
    config = desk_config(tmp_path)
    assert audit_file(config, ServeOptions(users=Path("/etc/desk/users.json"))) == Path("/etc/desk/audit.jsonl")
    assert audit_file(config, ServeOptions()) == tmp_path / "reports" / "audit.jsonl"


def test_the_options_of_the_command_line_are_read() -> None:
    given = {**DEFAULTS, "max_upload": "1.5GiB", "idle_timeout": "90s", "trusted_proxies": ("10.0.0.0/8", "::1")}
    options = serve_options({**given, "allowed_hosts": ("Desk.Example.com",)}, verbose=True)
    assert (options.max_upload, options.idle_timeout) == (3 << 29, 90.0)
    assert options.allowed_hosts == ("desk.example.com",)
    assert [str(one) for one in options.trusted_proxies] == ["10.0.0.0/8", "::1/128"]
    assert serve_options(DEFAULTS, verbose=False) == ServeOptions()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_upload", "much"),
        ("max_upload", "0"),
        ("upload_timeout", "0"),
        ("session_timeout", "soon"),
        ("trusted_proxies", ("proxy.example.com",)),
        ("trusted_proxies", ("10.0.0.1/8",)),
        ("allowed_hosts", ("https://desk.example.com",)),
    ],
)
def test_a_value_that_is_none_is_named_with_its_option(name: str, value: Any) -> None:
    option = {"trusted_proxies": "trusted-proxy", "allowed_hosts": "allowed-host"}.get(name, name.replace("_", "-"))
    with pytest.raises(ConfigError, match=f"^--{option}: "):
        serve_options({**DEFAULTS, name: value}, verbose=False)
