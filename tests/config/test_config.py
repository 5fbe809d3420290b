"""One configuration from flag, environment, profile and default; all problems are reported at once."""

import copy
import os
import pickle
from collections.abc import Mapping
from dataclasses import replace
from datetime import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetron_batch.config.config import RunConfig, resolve
from telemetron_batch.config.key_source import KeyFile, KeySource
from telemetron_batch.config.network import ProxyMode
from telemetron_batch.config.notices import DEFAULT_NOTIFY_ON, NoticeOptions
from telemetron_batch.config.option_values import CountOrPercent
from telemetron_batch.config.options import OPTIONS, Option
from telemetron_batch.config.partial import usable_notice_options
from telemetron_batch.config.rate import Rate
from telemetron_batch.config.sources import unknown_variables
from telemetron_batch.config.stored import load_stored_config
from telemetron_batch.domain.actions import Action
from telemetron_batch.domain.errors import ConfigError
from telemetron_batch.domain.model import Secret
from telemetron_batch.domain.outcomes import Outcome

KEY = "sk-live-0123456789"

EXAMPLES: dict[str, tuple[str, str]] = {
    "base-url": ("https://a.example/x", "https://b.example/y"),
    "api-key-file": ("one", "two"),
    "api-key-command": ("pass show one", "pass show two"),
    "proxy": ("none", "http://proxy.example:3128"),
    "ca-file": ("one", "two"),
    "client-cert": ("one", "two"),
    "client-key": ("one", "two"),
    "reports-dir": ("one", "two"),
    "publish": ("s3://bucket/reports", "/srv/reports"),
    "run-id": ("night-1", "night-2"),
    "rate": ("5/s", "7/min"),
    "limit-url": ("redis://127.0.0.1:6379/0", "rediss://limits.example/1"),
    "notify": ("json://127.0.0.1:8080", "mailtos://mail.example"),
    "notify-on": ("finished", "stopped,refused"),
    "ping": ("https://ping.example", "http://127.0.0.1:9"),
    "ping-fail-on": ("attention", "failure"),
    "metrics": ("one.prom", "two.prom"),
    "concurrency": ("3", "4"),
    "chunk-size": ("3", "4"),
    "timeout": ("5", "6.5"),
    "attempts": ("3", "4"),
    "give-up-after": ("1m", "2h"),
    "longest-wait": ("1m", "2h"),
    "wait": ("1m", "2h"),
    "deadline": ("1m", "2h"),
    "until": ("06:00", "22:30"),
    "wait-for-file": ("1m", "2h"),
    "settled-for": ("1m", "2h"),
    "action": ("assign", "unassign"),
    "column": ("customerEmail=Kunde", "action=Art"),
    "action-word": ("RET=unassign", "NEU=assign"),
    "delimiter": ("tab", ";"),
    "split": ("deviceIdentifier", "deviceIdentifier=/"),
    "last-line": ("refuse", "warn"),
    "fill-down": ("customerEmail", "action"),
    "encoding": ("cp1252", "utf-16"),
    "owners": ("owners.csv", "./runs"),
    "query": ("SELECT 1", "SELECT 2"),
    "source-url-file": ("/etc/one", "/etc/two"),
    "sheet": ("One", "Two"),
    "hidden": ("skip", "read"),
    "device-type": ("sensor", "gateway"),
    "max-failed": ("5", "5%"),
    "max-skipped": ("3", "10%"),
    "max-unassign": ("0", "9%"),
    "max-new-customers": ("0", "9"),
    "min-rows": ("0", "9"),
    "max-age": ("1d", "2h"),
    "expect-rows": ("0", "9"),
    "full-every": ("3d", "12h"),
    "as-of": ("2026-05-31", "2026-05-31T02:00:00+02:00"),
    "job": ("erp", "returns"),
    "organisation": ("acme", "Müller & Söhne"),
    "approval": ("second", "none"),
    "approvals-dir": ("/srv/approvals", "/mnt/approvals"),
    "approval-expires": ("2h", "3d"),
    "lock-dir": ("/var/lib/locks", "/srv/locks"),
    "trailer-count": ("^T1,(\\d+)", "Total;([0-9]+)"),
    "empty-exit-code": ("0", "9"),
    "shards": ("2", "3"),
    "shards-at-once": ("2", "3"),
    "shard": ("2", "3"),
    "phase": ("unassign", "assign"),
    "tolerate": ("skipped", "held"),
}
"""Two valid texts for each option that is not a flag."""
BAD: dict[str, list[str]] = {
    "proxy": [" ", "yes", "proxy:3128", "ftp://proxy", "http://", "http://proxy:port", "http://proxy/path", "@nowhere"],
    "ca-file": [" "],
    "client-cert": [" "],
    "client-key": [" "],
    "publish": ["https://a.example/reports", "s3://", "s3://me:pw@bucket", "s3://bucket/x?token=1"],
    "base-url": [
        "ftp://a.example",
        "a.example",
        "https://",
        "http://a.example",
        "https://me:pw@a.example",
        "http://[::1",
    ],
    "api-key-file": [" "],
    "api-key-command": [" ", "''", "pass 'show"],
    "reports-dir": [" "],
    "run-id": ["a/b", "..", ".hidden", "a b", "x" * 201, "a\nb"],
    "rate": ["10", "0/s", "fast", "-1/s"],
    "limit-url": [
        "localhost:6379",
        "http://a.example",
        "redis://",
        "redis://a.example:0",
        "redis://a.example/zero",
        "redis://[::1",
        "redis://a b",
    ],
    "notify": ["mail.example", "json://", "json://a b", "# nothing", "json://[::1 x"],
    "notify-on": ["sometimes", "stopped;refused", ","],
    "ping": ["ping.example", "ftp://ping.example", "https://", "https://a.example:0", "https://a.example/#x"],
    "ping-fail-on": ["always"],
    "metrics": [" "],
    "concurrency": ["0", "-1", "1.5", "many", "9" * 13],
    "chunk-size": ["0", "1e3"],
    "timeout": ["0", "soon", "-1", "nan", "inf", "1 fortnight"],
    "attempts": ["0"],
    "give-up-after": ["later", "-1s"],
    "longest-wait": ["later", "0"],
    "wait": ["a while"],
    "deadline": ["0s", "03:00"],
    "until": ["24:00", "6", "06:60", "06:00:30", "noon"],
    "wait-for-file": ["a while", "-1"],
    "settled-for": ["a while", "-1"],
    "action": ["delete"],
    "column": ["Kunde", "=Kunde", "customerEmail=", "phone=Telefon"],
    "action-word": ["RET", "RET=delete", "=assign"],
    "delimiter": ["::", "x", "7", "ab", "§"],
    "split": ["action", "deviceIdentifier=x"],
    "last-line": ["ignore"],
    "fill-down": ["serial"],
    "encoding": ["klingon", "base64"],
    "owners": [" ", "http://example.com/owners.csv"],
    "query": [" ;", "@nowhere.sql"],
    "source-url-file": [" "],
    "sheet": [" "],
    "hidden": ["show"],
    "device-type": [" "],
    "max-failed": ["101%", "1.5", "-1", "%", "many"],
    "max-skipped": ["101%", "-1"],
    "max-unassign": ["-1", "1.5"],
    "full-every": ["0", "weekly"],
    "as-of": ["2026-05-31T02:00:00", "yesterday", "31.05.2026"],
    "job": [" "],
    "organisation": [" "],
    "approval": ["third", "yes"],
    "approvals-dir": [" "],
    "approval-expires": ["0", "soon"],
    "lock-dir": [" "],
    "max-new-customers": ["few"],
    "min-rows": ["0.5"],
    "max-age": ["0"],
    "expect-rows": ["-0"],
    "trailer-count": ["T1,[0-9]+", "(", "(a)(b)", "(a){99999999999}", "*"],
    "empty-exit-code": ["-1"],
    "shards": ["0", "1001", "some"],
    "shards-at-once": ["0"],
    "shard": ["0", "1/4"],
    "phase": ["both"],
    "tolerate": ["everything"],
}
"""Invalid texts for each option that is not a flag."""
VALUED = [option for option in OPTIONS if option.metavar]
FLAGS = [option for option in OPTIONS if not option.metavar]
RECORDED = [option for option in VALUED if option.name != "api-key-command"]
"""Options whose values are recorded."""


def named(option: Option | str) -> str:
    return getattr(option, "name", str(option))


def resolved(
    flags: Mapping[str, Any] | None = None, environ: Mapping[str, str] | None = None, profile: str | None = None
) -> RunConfig:
    """Return the configuration of a run; `profile` is the text of ./telemetron-batch.toml, whose [p] is chosen."""
    chosen: dict[str, Any] = {}
    if profile is not None:
        Path("telemetron-batch.toml").write_text(profile)
        chosen = {"profile": "p"}
    has_query = bool(
        (flags or {}).get("query") or (environ or {}).get("TELEMETRON_QUERY") or "query = " in (profile or "")
    )
    return resolve([] if has_query else ["in.csv"], {**chosen, **(flags or {})}, environ or {})


def refused(*args: Any, **kwargs: Any) -> str:
    """Return the message of the error for this configuration."""
    with pytest.raises(ConfigError) as refusal:
        resolved(*args, **kwargs)
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the current folder, which contains two key files."""
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two"):
        (tmp_path / name).write_text(f"{KEY}-{name}")
        (tmp_path / name).chmod(0o600)
    return tmp_path


# Where values come from


def test_every_option_has_examples() -> None:
    assert set(EXAMPLES) == set(BAD) == {option.name for option in VALUED}


def said(option: Option, text: str) -> Any:
    """Return a text as the command line passes it."""
    return (text,) if option.repeatable else text


def with_partner(option: Option) -> dict[str, Any]:
    """Return the flag that an option needs."""
    partners: dict[str, dict[str, Any]] = {
        "device-type": {"auto_create_devices": True},
        "client-key": {"client_cert": "certificate.pem"},
        "source-url-file": {"query": "SELECT 1"},
    }
    return partners.get(option.name, {})


def told(config: RunConfig, option: Option) -> Any:
    recorded = config.given_options[option.key]
    return recorded[0] if option.repeatable else recorded


@pytest.mark.parametrize("option", RECORDED, ids=named)
def test_a_flag_beats_the_environment_and_the_environment_beats_the_profile(option: Option) -> None:
    one, other = EXAMPLES[option.name]
    partner = with_partner(option)
    profile = f"[p]\n{option.name} = '{other}'"
    assert told(resolved(partner, profile=profile), option) == other
    assert told(resolved(partner, {option.variable: one}, profile), option) == one
    assert told(resolved({**partner, option.key: said(option, one)}, {option.variable: other}, profile), option) == one


@pytest.mark.parametrize("option", VALUED, ids=named)
def test_an_option_has_the_same_value_from_every_source(option: Option) -> None:
    text, _ = EXAMPLES[option.name]
    partner = with_partner(option)
    flag = resolved({**partner, option.key: said(option, text)})
    variable = resolved(partner, {option.variable: text})
    profile = resolved(partner, profile=f"[p]\n{option.name} = '{text}'")
    assert repr(replace(flag, base_url_flag=None)) == repr(variable) == repr(replace(profile, profile=None))
    assert settings(flag) != settings(resolved(partner))


@pytest.mark.parametrize("option", FLAGS, ids=named)
def test_a_flag_can_be_set_in_every_source(option: Option) -> None:
    configs = [
        resolved({option.key: True}),
        resolved({}, {option.variable: "1"}),
        resolved(profile=f"[p]\n{option.key} = true"),
    ]
    assert [set(config.given_options) for config in configs] == [{option.key}] * 3
    assert len({repr(settings(config)) for config in configs}) == 1
    assert settings(configs[0]) != settings(resolved())


def settings(config: RunConfig) -> list[Any]:
    """Return all settings except the record of given options."""
    others = ("given_options", "profile", "profile_file")
    return [getattr(config, name) for name in RunConfig.__slots__ if name not in others]


@pytest.mark.parametrize("option", FLAGS, ids=named)
@pytest.mark.parametrize("word", ["0", "false", "No", "off"])
def test_the_environment_can_switch_a_flag_of_the_profile_off(option: Option, word: str) -> None:
    config = resolved({}, {option.variable: word}, f"[p]\n{option.name} = true")
    assert settings(config) == settings(resolved())


@pytest.mark.parametrize("option", OPTIONS, ids=named)
def test_an_empty_variable_is_ignored(option: Option) -> None:
    assert resolved({}, {option.variable: ""}) == resolved()


def test_the_defaults_are_those_of_the_documentation() -> None:
    config = resolved()
    assert config.sending.base_url == "https://admin.telemetron.ai/api/ext-v1"
    assert (config.sending.rate, config.sending.concurrency, config.plan.chunk_size) == (Rate(10), 8, 500)
    assert (config.sending.timeout, config.sending.attempts, config.sending.give_up_after) == (30, 6, 900)
    assert (config.reports_dir, config.wait, config.sending.hold_transfers) == (Path("reports"), 0, True)
    assert (config.api_key, config.given_options) == (None, {})


# What is wrong


@pytest.mark.parametrize(
    ("option", "text"), [(option, text) for option in VALUED for text in BAD[option.name]], ids=named
)
def test_a_bad_value_is_named_as_the_user_typed_it(option: Option, text: str) -> None:
    partner = with_partner(option)
    assert refused({**partner, option.key: said(option, text)}).startswith(f"--{option.name}: ")
    assert refused(partner, {option.variable: text}).startswith(f"{option.variable}: ")
    toml = text.replace("\n", "\\n")
    profile = f'[p]\n{option.name} = "{toml}"'
    assert refused(partner, profile=profile).startswith(f"telemetron-batch.toml [p]: {option.name}: ")


@pytest.mark.parametrize("option", FLAGS, ids=named)
def test_a_flag_is_yes_or_no(option: Option) -> None:
    assert refused({}, {option.variable: "maybe"}).startswith(f"{option.variable}: 'maybe' is neither yes nor no")


def test_all_problems_are_reported_at_once() -> None:
    line = refused({"rate": "fast"}, {"TELEMETRON_ATTEMPTS": "0"}, "[p]\ntimeout = 'soon'\nretries = 3")
    assert [word in line for word in ("--rate: ", "TELEMETRON_ATTEMPTS: ", "timeout: ", "'retries'")] == [True] * 4


def test_all_bad_values_of_a_repeatable_option_are_reported() -> None:
    line = refused({"tolerate": ("this", "skipped", "that")})
    assert ("'this'" in line, "'that'" in line) == (True, True)


def test_a_device_type_needs_auto_create_devices() -> None:
    assert "--auto-create-devices" in refused({"device_type": "sensor"})


def test_a_client_key_needs_a_client_certificate() -> None:
    assert refused({"client_key": "key.pem"}).startswith("--client-key: is only used with --client-cert")


def test_an_unused_device_type_is_named_as_the_user_typed_it() -> None:
    assert refused({}, {"TELEMETRON_DEVICE_TYPE": "sensor"}).startswith("TELEMETRON_DEVICE_TYPE: ")


@pytest.mark.parametrize("url", ["https://h:99999", "https://h:port", "https://exa mple"])
def test_an_unusable_base_url_is_refused(url: str) -> None:
    refused({"base_url": url})


def test_an_exit_code_out_of_range_is_refused() -> None:
    refused({"empty_exit_code": "256"})


def test_a_password_in_a_base_url_is_refused_and_not_printed() -> None:
    assert "hunter2" not in refused({"base_url": "https://me:hunter2@a.example"})


def test_a_redis_password_is_not_printed_or_recorded() -> None:
    assert "hunter2" not in refused({"limit_url": "redis://:hunter2@a.example/zero"})
    config = resolved({"limit_url": "redis://me:hunter2@a.example:6380/1"})
    assert config.given_options == {"limit_url": "redis://***@a.example:6380/1"}
    assert "hunter2" not in repr(config)
    assert [secret.reveal() for secret in config.secrets] == ["hunter2"]


def test_what_is_recorded_of_urls_of_notices_is_scheme_and_host(folder: Path) -> None:
    (folder / "urls").write_text("# the night watch\njsons://me:hunter2@hook.example:8443/secretpath?x=hunter2\n")
    (folder / "urls").chmod(0o600)
    config = resolved(
        {
            "notify": ("@urls", "slack://tokenAAAA/tokenBBBB/tokenCCCC"),
            "ping": "https://u:hunter2@ping.example/ab12cd34ef",
        }
    )
    assert [url.reveal() for url in config.notices.notify][1:] == ["slack://tokenAAAA/tokenBBBB/tokenCCCC"]
    assert config.given_options == {
        "notify": ["jsons://hook.example:8443", "slack://***"],
        "ping": "https://ping.example",
    }
    assert "hunter2" not in repr(config)
    secrets = {secret.reveal() for secret in config.secrets}
    assert {"hunter2", "secretpath", "tokenAAAA", "tokenCCCC", "ab12cd34ef"} <= secrets
    assert not {"ping.example", "hook.example:8443"} & secrets


def test_a_variable_holds_several_urls_which_may_contain_commas() -> None:
    text = "mailto://a.example?to=ann@x.com,bob@x.com,json://b.example  json://c.example"
    urls = [url.reveal() for url in resolved({}, {"TELEMETRON_NOTIFY": text}).notices.notify]
    assert urls == ["mailto://a.example?to=ann@x.com,bob@x.com", "json://b.example", "json://c.example"]


def test_refused_urls_of_notices_are_not_printed() -> None:
    assert "hunter2" not in refused({"notify": ("me:hunter2@mail.example",), "ping": "ftp://me:hunter2@ping.example"})


def test_a_journal_does_not_say_who_hears_of_an_end() -> None:
    given = resolved({"notify": ("json://a.example/secret1",), "ping": "https://p.example/1", "metrics": "m.prom"})
    stored = load_stored_config(Path("reports/night"), given.given_options, with_key=False)
    assert stored.notices == NoticeOptions()


def test_options_of_notices_are_read_also_if_others_are_wrong() -> None:
    flags = {"notify": ("json://a.example", "nonsense"), "rate": "fast", "notify_on": "never"}
    options, network = usable_notice_options(flags, {"TELEMETRON_PROFILE": "missing", "TELEMETRON_PROXY": "none"})
    assert [url.reveal() for url in options.notify] == ["json://a.example"]
    assert (options.notify_on, options.profile) == (DEFAULT_NOTIFY_ON, "missing")
    assert network.proxy is ProxyMode.NONE


# Values


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("90s", 90),
        ("1.5m", 90),
        ("15min", 900),
        ("1h30m", 5400),
        ("1h 30m", 5400),
        ("2D", 172_800),
        (" 5 s ", 5),
    ],
)
def test_durations_are_parsed(text: str, seconds: float) -> None:
    assert resolved({"deadline": text}).sending.deadline == seconds


def test_two_numbers_are_not_a_duration() -> None:
    refused({"deadline": "15 30"})


@given(st.integers(0, 9), st.integers(0, 99), st.integers(1, 99))
def test_the_parts_of_a_duration_add_up(hours: int, minutes: int, seconds: int) -> None:
    config = resolve(["f"], {"deadline": f"{hours}h{minutes}m{seconds}s"}, {})
    assert config.sending.deadline == 3600 * hours + 60 * minutes + seconds


@pytest.mark.parametrize(
    ("text", "share", "of_200"),
    [
        ("5", CountOrPercent(5, percent=False), 5),
        ("2.5%", CountOrPercent(2.5, percent=True), 5),
        ("0 %", CountOrPercent(0, percent=True), 0),
    ],
)
def test_a_limit_is_a_number_of_rows_or_a_percentage(text: str, share: CountOrPercent, of_200: float) -> None:
    brake = resolved({"max_failed": text}).brakes.max_failed
    assert brake == share
    assert brake is not None
    assert brake.limit_for(200) == of_200


@pytest.mark.parametrize(
    "url", ["http://localhost:8765/api", "http://127.0.0.1", "http://[::1]:8080", "http://localhost"]
)
def test_plain_http_is_accepted_for_loopback_hosts(url: str) -> None:
    assert resolved({"base_url": url + "/"}).sending.base_url == url


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("HTTPS://Admin.Example:443/Api/", "https://admin.example/Api"),
        ("https://admin.example:8443", "https://admin.example:8443"),
        ("HTTP://[::1]:80/x", "http://[::1]/x"),
    ],
)
def test_a_base_url_is_normalized(said: str, meant: str) -> None:
    assert resolved({"base_url": said}).sending.base_url == meant


@pytest.mark.parametrize(
    "host", ["a.example", "localhost.evil.example", "127.0.0.1.evil.example", "192.168.0.1", "[::2]"]
)
def test_plain_http_is_refused_for_other_hosts(host: str) -> None:
    assert "use https" in refused({"base_url": f"http://{host}"})


@pytest.mark.parametrize("url", ["https://me@h", "https://:pw@h", "https://h?x=1", "https://h#x"])
def test_a_base_url_with_user_password_query_or_fragment_is_refused(url: str) -> None:
    assert "no user, password, query or fragment" in refused({"base_url": url})


@pytest.mark.parametrize(
    ("text", "character"), [("tab", "\t"), ("\\t", "\t"), ("\t", "\t"), ("Semicolon", ";"), ("|", "|")]
)
def test_a_delimiter_is_a_character_or_its_name(text: str, character: str) -> None:
    assert resolved({"delimiter": text}).input.delimiter == character


COLUMNS = {"customerEmail": "Kunde", "deviceIdentifier": "Gerät = Nr"}
WORDS = {"ret": Action.UNASSIGN, "neu": Action.ASSIGN}


LISTS = """
[p]
column = ["customerEmail=Kunde", "DEVICEIDENTIFIER = Gerät = Nr"]
action-word = ["RET=unassign", "neu = Assign"]
"""
TABLES = """
[p.column]
customerEmail = "Kunde"
deviceidentifier = "Gerät = Nr"
[p.action-word]
RET = "unassign"
neu = "assign"
"""
TABLE_FOR_ALL = """
[column]
customerEmail = "Kunde"
deviceIdentifier = "Gerät = Nr"
[p]
action_word = {RET = "unassign", NEU = "assign"}
"""


@pytest.mark.parametrize("profile", [LISTS, TABLES, TABLE_FOR_ALL], ids=["lists", "tables", "a table for all profiles"])
def test_a_mapping_is_a_list_or_a_table(profile: str) -> None:
    config = resolved(profile=profile)
    assert (config.input.columns, config.input.action_words) == (COLUMNS, WORDS)


@pytest.mark.parametrize("word", ["Auslaß", "RÜCK", "Ret"])
def test_an_action_word_is_lowercased_like_cells(word: str) -> None:
    assert resolved({"action_word": (f"{word}=assign",)}).input.action_words == {word.lower(): Action.ASSIGN}


def test_a_variable_separates_values_by_commas() -> None:
    environ = {"TELEMETRON_TOLERATE": "skipped, HELD", "TELEMETRON_COLUMN": "customerEmail=Kunde,action=Art"}
    config = resolved({}, environ)
    assert config.tolerate == (Outcome.SKIPPED, Outcome.HELD)
    assert config.input.columns == {"customerEmail": "Kunde", "action": "Art"}


def test_a_list_on_the_command_line_replaces_the_list_of_the_profile() -> None:
    assert resolved({"tolerate": ("held",)}, profile="[p]\ntolerate = ['skipped']").tolerate == (Outcome.HELD,)


# Profiles


@pytest.mark.parametrize(
    "profile",
    [
        "[p]\nrate = '1/s'",
        "[profile.p]\nrate = '1/s'",
        "[profiles.p]\nrate = '1/s'",
        "rate = '1/s'\n[p]\n",
        "rate = '9/s'\n[p]\nrate = '1/s'",
    ],
)
def test_a_profile_overrides_the_keys_at_the_top(profile: str) -> None:
    assert resolved(profile=profile).sending.rate == Rate(1)


def test_a_key_may_be_spelled_with_hyphens_or_underscores() -> None:
    assert resolved(profile="chunk-size = 9\n[p]\nchunk_size = 7").plan.chunk_size == 7


def test_numbers_and_booleans_need_no_quotes() -> None:
    config = resolved(profile="[p]\nconcurrency = 3\ntimeout = 2.5\nno-hold = true")
    assert (config.sending.concurrency, config.sending.timeout, config.sending.hold_transfers) == (3, 2.5, False)


def test_other_profiles_are_ignored() -> None:
    assert resolved(profile="[p]\nrate = '1/s'\n[other]\nnonsense = 1").sending.rate == Rate(1)


def test_without_a_profile_the_file_in_the_folder_is_not_read(folder: Path) -> None:
    (folder / "telemetron-batch.toml").write_text("not toml at all")
    assert resolved().sending.rate == Rate(10)


def test_profile_and_file_can_be_chosen_in_the_environment(folder: Path) -> None:
    (folder / "mine.toml").write_text("[q]\nrate = '1/s'")
    environ = {"TELEMETRON_PROFILE": "q", "TELEMETRON_CONFIG": "mine.toml"}
    assert resolved({}, environ).sending.rate == Rate(1)


def test_a_file_without_profiles_needs_none(folder: Path) -> None:
    (folder / "mine.toml").write_text("rate = '1/s'")
    assert resolved({"config": "mine.toml"}).sending.rate == Rate(1)


@pytest.mark.parametrize(
    ("key", "meant"), [("chunksize", "chunk-size"), ("max_fail", "max-failed"), ("api-key", "api-key-file")]
)
def test_an_unknown_key_is_named_with_the_one_it_resembles(key: str, meant: str) -> None:
    line = refused(profile=f"[p]\n{key} = 1")
    assert line.startswith(f"telemetron-batch.toml [p]: unknown key '{key.replace('_', '-')}'; did you mean {meant}?")


def test_an_unknown_key_that_resembles_none_is_named() -> None:
    assert "unknown key 'zzz';" in refused(profile="[p]\nzzz = 1")


@pytest.mark.parametrize(
    ("profile", "words"),
    [
        ("[q]\n[r]", "no profile 'p'; it has: q, r"),
        ("rate = '1/s'", "no profile 'p'; it has: none"),
        ("p = 1", "no profile 'p'"),
        ("[p", "not valid TOML"),
        ("[p]\na = 1\na = 2", "not valid TOML"),
    ],
)
def test_a_missing_profile_is_reported(profile: str, words: str) -> None:
    assert words in refused(profile=profile)


def test_a_missing_profile_file_is_reported() -> None:
    assert "--config" in refused({"profile": "p"})


def test_a_profile_file_that_is_not_text_is_reported(folder: Path) -> None:
    (folder / "mine.toml").write_bytes(b"\xff\xfe")
    assert "not valid TOML" in refused({"config": "mine.toml"})


def test_a_key_named_profile_is_an_unknown_key() -> None:
    assert "unknown key" in refused(profile="profile = 'p'\n[p]\n")


@pytest.mark.parametrize("name", ["sandbox", "again"])
def test_a_profile_may_have_the_name_of_an_option(name: str) -> None:
    assert resolved({"profile": name}, profile=f"[{name}]\nrate = '1/s'").sending.rate == Rate(1)


def test_an_empty_list_for_a_single_value_is_refused() -> None:
    assert "concurrency: " in refused(profile="[p]\nconcurrency = []")


def test_several_values_for_a_single_value_option_are_refused() -> None:
    assert "concurrency: " in refused(profile="[p]\nconcurrency = [1, 2]")


# The key


def test_the_key_comes_from_the_environment() -> None:
    key = resolved({}, {"TELEMETRON_API_KEY": f" {KEY}\n"}).api_key
    assert key is not None
    assert key.reveal() == KEY


def test_the_key_comes_from_a_private_file(folder: Path) -> None:
    key = KeySource(KeyFile(str(folder / "one"))).first_key()
    assert key is not None
    assert key.reveal() == f"{KEY}-one"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o610, 0o666])
def test_a_key_file_that_others_can_read_is_refused_with_advice(mode: int, folder: Path) -> None:
    (folder / "one").chmod(mode)
    assert "chmod 600 one" in refused({"api_key_file": "one"})


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "is empty"), (b" \n", "is empty"), (b"\xff\xfe", "not a text file"), (b"two words", "not hold a valid key")],
)
def test_a_key_file_without_a_key_is_refused(content: bytes, words: str, folder: Path) -> None:
    (folder / "one").write_bytes(content)
    assert words in refused({"api_key_file": "one"})


def test_a_missing_key_file_is_reported() -> None:
    assert refused({"api_key_file": "nowhere"}).startswith("--api-key-file: cannot read nowhere")


@pytest.mark.parametrize("text", ["two words", "line\nbreak", "schlüssel", "nul\x00"])
def test_an_invalid_key_is_refused_and_not_printed(text: str) -> None:
    line = refused({}, {"TELEMETRON_API_KEY": text})
    assert "TELEMETRON_API_KEY" in line
    assert text not in line


def test_the_sandbox_takes_no_key() -> None:
    assert resolved({"sandbox": True}, {"TELEMETRON_API_KEY": KEY}).api_key is None


def test_the_key_is_never_shown_and_never_stored() -> None:
    config = resolved({}, {"TELEMETRON_API_KEY": KEY})
    assert KEY not in f"{config!r} {config} {config.api_key} {config.api_key!r} {config.given_options}"
    with pytest.raises(TypeError, match="not stored"):
        pickle.dumps(config)
    with pytest.raises(TypeError, match="not stored"):
        copy.deepcopy(Secret(KEY))


def test_the_key_of_the_environment_beats_the_key_file_of_the_profile() -> None:
    key = resolved({}, {"TELEMETRON_API_KEY": KEY}, "[p]\napi-key-file = 'one'").api_key
    assert key is not None
    assert key.reveal() == KEY


@pytest.fixture
def command(folder: Path) -> str:
    """Return a command that notes each of its runs and writes a key."""
    script = folder / "give-key"
    script.write_text(f"#!/bin/sh\necho ran >> {folder}/runs\necho {KEY}-$1\n")
    script.chmod(0o700)
    return str(script)


def runs_of_command() -> int:
    return len(Path("runs").read_text().splitlines()) if Path("runs").exists() else 0


def test_a_command_gives_the_key_when_it_is_needed_and_is_run_once(command: str) -> None:
    config = resolved({"api_key_command": f"{command} 'one'"})
    assert runs_of_command() == 0
    assert [config.api_key, config.api_key] == [Secret(f"{KEY}-one")] * 2
    assert (runs_of_command(), config.secrets) == (1, (Secret(f"{KEY}-one"),))


def test_a_command_is_recorded_and_shown_nowhere(command: str) -> None:
    config = resolved({"api_key_command": f"{command} one"})
    assert config.given_options == {}
    assert command not in repr(config)


GIVES_KEY = {"api_key_file": "one", "api_key_command": "give-key one"}
"""Options that give the key, with their values."""


def variables(*names: str) -> dict[str, str]:
    return {f"TELEMETRON_{name.upper()}": {**GIVES_KEY, "api_key": KEY}[name] for name in names}


@pytest.mark.parametrize(
    ("flags", "environ", "profile", "named"),
    [
        (GIVES_KEY, {}, None, ("--api-key-file", "--api-key-command")),
        ({}, variables("api_key", "api_key_command"), None, ("TELEMETRON_API_KEY", "TELEMETRON_API_KEY_COMMAND")),
        ({}, variables("api_key", "api_key_file"), None, ("TELEMETRON_API_KEY", "TELEMETRON_API_KEY_FILE")),
        ({}, {}, "[p]\napi-key-file = 'one'\napi-key-command = 'x'", ("api-key-file", "api-key-command")),
    ],
)
def test_two_sources_of_the_key_at_one_level_are_refused(
    flags: dict[str, str], environ: dict[str, str], profile: str | None, named: tuple[str, str]
) -> None:
    line = refused(flags, environ, profile)
    assert "both give the API key" in line
    assert all(name in line for name in named)


@pytest.mark.parametrize(
    ("flags", "environ", "profile", "name"),
    [
        ({"api_key_command": "x"}, variables("api_key"), None, "--api-key-command"),
        ({"api_key_file": "one"}, variables("api_key_command"), None, "--api-key-file"),
        ({}, variables("api_key_command"), "[p]\napi-key-file = 'two'", "--api-key-command"),
        ({}, variables("api_key"), "[p]\napi-key-command = 'x'", "TELEMETRON_API_KEY"),
        ({}, {}, "[p]\napi-key-command = 'x'", "--api-key-command"),
    ],
)
def test_of_sources_at_several_levels_the_closest_gives_the_key(
    flags: dict[str, str], environ: dict[str, str], profile: str | None, name: str
) -> None:
    assert resolved(flags, environ, profile).key_source.name == name


def test_a_key_file_that_is_not_used_is_not_recorded() -> None:
    assert "api_key_file" not in resolved({}, variables("api_key"), "[p]\napi-key-file = 'one'").given_options


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666])
def test_a_command_is_not_taken_from_a_profile_that_others_can_write_to(mode: int) -> None:
    profile = "[p]\napi-key-command = 'x'"
    resolved(profile=profile)
    Path("telemetron-batch.toml").chmod(mode)
    assert "run: chmod go-w telemetron-batch.toml" in refused(profile=profile)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_command_is_not_taken_from_a_profile_of_another_user() -> None:
    profile = "[p]\napi-key-command = 'x'"
    resolved(profile=profile)
    os.chown("telemetron-batch.toml", 12345, 12345)
    assert "belongs to user 12345, so its api-key-command is not run" in refused(profile=profile)


def test_the_sandbox_needs_no_decision_between_two_keys() -> None:
    assert not resolved({"sandbox": True, **GIVES_KEY}).key_source.is_given


def test_none_lifts_the_local_time_of_a_profile() -> None:
    profile = "[p]\nuntil = 06:00:00"
    assert resolved(profile=profile).sending.until == time(6, 0)
    assert resolved({"until": "none"}, profile=profile).sending.until is None


# Variables


def test_unknown_variables_with_our_prefix_are_found() -> None:
    environ = {
        "TELEMETRON_RATES": "1",
        "TELEMETRON_API_KEY": "k",
        "TELEMETRON_PROFILE": "p",
        "PATH": "/",
        "TELEMETRON_RATE": "1/s",
    }
    assert [*unknown_variables(environ)] == ["TELEMETRON_RATES"]


def test_an_empty_pattern_overrides_the_trailer_of_a_profile() -> None:
    profile = "[p]\ntrailer-count = '^T1,([0-9]+)'"
    assert resolved({"trailer_count": ""}, profile=profile).input.trailer_count is None


def test_a_query_takes_no_file_and_is_recorded_as_its_text(tmp_path: Path) -> None:
    (tmp_path / "q.sql").write_text("\ufeffSELECT 1\n;\n")
    flags = {"query": f"@{tmp_path}/q.sql", "source_url_file": "url"}
    config = resolve([], flags, {})
    assert config.query is not None
    assert (config.query.sql, config.query.url_file) == ("SELECT 1", str(Path("url").absolute()))
    assert config.given_options["query"] == "SELECT 1"  # the file may be gone when the run continues
    with pytest.raises(ConfigError, match="--query: takes no FILE"):
        resolve(["a.csv"], flags, {})
    with pytest.raises(ConfigError, match=r"cannot read nowhere\.sql"):
        resolve([], {"query": "@nowhere.sql", "source_url_file": "url"}, {})


def test_a_file_overrides_the_query_of_a_profile() -> None:
    environ = {"TELEMETRON_QUERY": "SELECT 1", "TELEMETRON_SOURCE_URL_FILE": "url"}
    assert resolve(["attention.csv"], {}, environ).query is None
    assert resolve([], {}, environ).query is not None
