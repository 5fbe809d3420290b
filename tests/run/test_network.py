"""Proxy and certificates of a run that is continued or verified: the caller's, never those of the journal."""

from pathlib import Path
from typing import Any

import pytest

from telemetron_batch.config.config import resolve
from telemetron_batch.config.network import NetworkOptions, ProxyMode
from telemetron_batch.config.stored import ACCESS_OPTIONS
from telemetron_batch.domain.errors import ConfigError
from telemetron_batch.domain.model import Secret
from telemetron_batch.journal.create import JournalDraft
from telemetron_batch.run.feed_back import attention_config
from telemetron_batch.run.stored_config import continued_config
from telemetron_batch.run.undo import configure_undo
from tests.conftest import ENVIRON, KEY
from tests.support.scripted import BASE_URL

FOREIGN = {
    "proxy": "http://proxy.foreign.example:3128",
    "ca_file": "/foreign/ca.pem",
    "client_cert": "/foreign/cert.pem",
    "client_key": "/foreign/key.pem",
}
"""What a journal from elsewhere may say."""
OURS = {
    "TELEMETRON_PROXY": "http://me:word-of-ours@proxy.ours.example:3128",
    "TELEMETRON_CA_FILE": "/ours/ca.pem",
    "TELEMETRON_CLIENT_CERT": "/ours/cert.pem",
    "TELEMETRON_CLIENT_KEY": "/ours/key.pem",
}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder of a run whose journal names a foreign network."""
    folder = tmp_path / "night"
    folder.mkdir()
    options: dict[str, Any] = {"base_url": BASE_URL, **FOREIGN}
    facts = {"baseUrl": BASE_URL, "sandbox": False, "options": options, "inputs": [], "baseUrlFlag": BASE_URL}
    JournalDraft(folder / "journal.sqlite3").publish({**facts, "endedAt": 1.0, "summary": {"state": "finished"}})
    (folder / "undo.csv").write_text("customerEmail,deviceIdentifier,action\n")
    return folder


def test_the_options_of_the_network_are_all_of_them() -> None:
    assert {*FOREIGN} == {*NetworkOptions.__slots__}
    assert {*ACCESS_OPTIONS} == {"base_url", *FOREIGN}


def test_a_continued_run_has_nothing_of_the_network_in_its_journal(run: Path) -> None:
    assert continued_config(run, ENVIRON, "resume night").sending.network == NetworkOptions()


def test_a_continued_run_has_the_network_of_the_environment(run: Path) -> None:
    network = continued_config(run, {**ENVIRON, **OURS}, "resume night").sending.network
    assert network == NetworkOptions(
        proxy=Secret(OURS["TELEMETRON_PROXY"]),
        ca_file="/ours/ca.pem",
        client_cert="/ours/cert.pem",
        client_key="/ours/key.pem",
    )


def test_a_continued_run_has_the_network_of_the_callers_profile(run: Path, tmp_path: Path) -> None:
    profile = tmp_path / "telemetron-batch.toml"
    profile.write_text('[ours]\nproxy = "none"\nca-file = "/ours/ca.pem"\n')
    environ = {**ENVIRON, "TELEMETRON_CONFIG": str(profile), "TELEMETRON_PROFILE": "ours"}
    network = continued_config(run, environ, "resume night").sending.network
    assert network == NetworkOptions(proxy=ProxyMode.NONE, ca_file="/ours/ca.pem")


def test_secrets_of_a_continued_run_include_the_password_of_the_callers_proxy(run: Path) -> None:
    config = continued_config(run, {**ENVIRON, **OURS}, "resume night")
    assert {"word-of-ours", KEY} <= {secret.reveal() for secret in config.secrets}


def test_an_undo_has_the_network_of_its_caller(run: Path) -> None:
    assert configure_undo(run, {}, ENVIRON).sending.network == NetworkOptions()
    assert configure_undo(run, {"proxy": "none"}, ENVIRON).sending.network.proxy is ProxyMode.NONE
    assert configure_undo(run, {}, {**ENVIRON, **OURS}).sending.network.ca_file == "/ours/ca.pem"


def test_an_attention_file_brings_no_network_with_it(run: Path) -> None:
    attention = run / "attention.csv"
    attention.write_text("customerEmail,deviceIdentifier,action,outcome,reason,file,line\n")
    assert attention_config([str(attention)], {}, ENVIRON).sending.network == NetworkOptions()


def test_the_records_of_a_run_hold_no_credentials_of_its_proxy() -> None:
    given = resolve(["x.csv"], {}, {**ENVIRON, **OURS}).given_options
    assert given["proxy"] == "http://***@proxy.ours.example:3128"
    assert "word-of-ours" not in repr(given)


@pytest.mark.parametrize(
    ("url", "secrets"),
    [
        ("http://me:a%2Fb-secret@p:1", {"a%2Fb-secret", "a/b-secret"}),
        ("http://a-token@p:1", {"a-token"}),
        ("http://p:1", set()),
    ],
)
def test_password_or_token_of_a_proxy_is_a_secret(url: str, secrets: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    assert {secret.reveal() for secret in NetworkOptions(proxy=Secret(url)).secrets} == secrets
    monkeypatch.setenv("ALL_PROXY", url)
    assert {secret.reveal() for secret in NetworkOptions().secrets} == secrets


def test_a_run_of_another_api_is_refused_whatever_the_network(run: Path) -> None:
    environ = {**ENVIRON, **OURS, "TELEMETRON_BASE_URL": "https://another.example/api"}
    with pytest.raises(ConfigError, match="was started with --base-url"):
        continued_config(run, environ, "resume night")
