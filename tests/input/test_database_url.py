"""A URL whose parts cannot be told apart is refused, and no secret of it is shown."""

import pytest

pytest.importorskip("sqlalchemy")

from telemetron_batch.domain.errors import ConfigError
from telemetron_batch.domain.model import Secret
from telemetron_batch.input.database import describe_database
from telemetron_batch.input.database_url import userinfo_secrets, without_secrets


@pytest.mark.parametrize(
    "userinfo",
    [
        "batch:pa@S3CRET",
        "batch:pa@S3/CRET",
        "batch:pa@S3?CRET",
        "batch:pa@S3#CRET",
        "batch:pa@S3:CRET",
        "batch:pa@1/S3CRET",
        "ba/tch:S3CRET",
        "ba?tch:S3CRET",
        "S3CRET@batch:pa",
        "batch:pa@@S3CRET@",
    ],
)
@pytest.mark.parametrize("rest", ["127.0.0.1:1/erp", "db.example.com/erp", "[::1]:1/erp", "/erp"])
def test_an_unescaped_sign_in_user_or_password_is_refused_and_nothing_of_it_is_shown(userinfo: str, rest: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        describe_database(Secret(f"postgresql+psycopg://{userinfo}@{rest}"))
    shown = str(refusal.value)
    assert (refusal.value.exit_code, "must be written %40" in shown or "password as %40" in shown) == (2, True)
    assert "S3" not in shown
    assert "CRET" not in shown
    assert refusal.value.__cause__ is None


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql+psycopg://batch:pa%40S3%2F%3A@db-1.example.com:5432/erp", "postgresql://db-1.example.com"),
        ("postgresql+psycopg://batch:a/b:c#d?e@db/erp", "postgresql://db"),
        ("postgresql://batch@[2001:db8::1]:5432/erp", "postgresql://2001:db8::1"),
        ("postgresql+psycopg://batch:x@one,two/erp", "postgresql://one,two"),
        ("postgresql+psycopg:///erp?host=/run/postgresql&user=a@b", "postgresql://"),
        ("mssql+pyodbc://batch:x@server\\EXPRESS/erp", "mssql://server\\EXPRESS"),
        ("sqlite:////data/a@b@c.db", "sqlite://"),
    ],
)
def test_a_clear_url_shows_scheme_and_host(url: str, shown: str) -> None:
    assert describe_database(Secret(url)) == shown


@pytest.mark.parametrize("host", ["a b", "a;b", "ho%40st", "höst", "a,,b", ","])
def test_a_host_that_is_none_is_refused(host: str) -> None:
    with pytest.raises(ConfigError, match="cannot be told apart"):
        describe_database(Secret(f"postgresql://batch:x@{host}/erp"))


def test_a_text_loses_every_part_of_user_and_password() -> None:
    secrets = userinfo_secrets("postgresql://batch:pa%40S3@CRET@host/erp")
    text = 'user "batch" at host "CRET" with pa@S3, pa%40S3 and S3 in S3X'
    assert without_secrets(text, secrets) == 'user "***" at host "***" with ***@***, *** and *** in S3X'
