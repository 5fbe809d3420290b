from collections.abc import Mapping
from datetime import date, datetime, time, timedelta, timezone
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np
import pandas as pd
import pytest

from telemetron_batch.config.config import resolve
from telemetron_batch.config.options import OPTIONS, OPTIONS_BY_KEY, Option
from telemetron_batch.domain.errors import ConfigError
from telemetron_batch.python_api.option_texts import FILE_FORMAT, KINDS, SHARDING, TERMINAL, kind_of, option_texts
from telemetron_batch.python_api.options import PlanOptions, ReportOptions, ResumeOptions, RunOptions, VerifyOptions

OF_PYTHON = [option for option in OPTIONS if option.key not in SHARDING]
PROFILE = {"config", "profile"}
PLACE = {"reports_dir", "shared_reports_dir"}


@pytest.mark.parametrize("option", OF_PYTHON, ids=lambda option: option.key)
def test_an_option_of_the_table_has_its_type_in_python(option: Option) -> None:
    wanted, _ = KINDS[kind_of(option)]
    declared = get_type_hints(RunOptions)[option.key]
    if get_origin(declared) is Literal:
        assert kind_of(option) == "text"
        assert all(option.parse(word) == word for word in get_args(declared))
    else:
        assert declared == wanted


def test_each_function_takes_the_options_that_its_command_takes() -> None:
    resumed = {option.key for option in OPTIONS if option.for_resume} | {"base_url"} | PLACE
    assert RunOptions.__optional_keys__ == {option.key for option in OF_PYTHON} | PROFILE
    assert PlanOptions.__optional_keys__ == {option.key for option in OF_PYTHON if option.for_plan} | PROFILE
    assert ResumeOptions.__optional_keys__ == resumed | {"out_of_order"}
    assert (
        VerifyOptions.__optional_keys__
        == {option.key for option in OPTIONS if option.for_verify} | {"base_url"} | PLACE
    )
    assert ReportOptions.__optional_keys__ == {"xlsx"} | PLACE


def test_the_options_that_differ_in_python_are_in_the_table() -> None:
    assert {*SHARDING, *TERMINAL, *FILE_FORMAT} <= {*OPTIONS_BY_KEY}


def texts(**given: Any) -> Mapping[str, Any]:
    return option_texts(given, RunOptions.__optional_keys__)


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("sandbox", True, True),
        ("sandbox", np.bool_(True), True),
        ("sandbox", False, False),
        ("concurrency", 4, "4"),
        ("concurrency", np.int64(4), "4"),
        ("concurrency", "4", "4"),
        ("max_failed", 5, "5"),
        ("max_failed", "5%", "5%"),
        ("timeout", 1.5, "1.500"),
        ("timeout", np.float32(2), "2.000"),
        ("give_up_after", timedelta(minutes=15), "900.000"),
        ("give_up_after", pd.Timedelta("15min"), "900.000"),
        ("give_up_after", "15m", "15m"),
        ("reports_dir", Path("a/b"), "a/b"),
        ("owners", Path("runs"), "./runs"),
        ("owners", "runs", "runs"),
        ("as_of", date(2026, 5, 31), "2026-05-31"),
        ("as_of", datetime(2026, 5, 31, 2, tzinfo=timezone(timedelta(hours=2))), "2026-05-31T00:00:00+00:00"),
        ("as_of", pd.Timestamp("2026-05-31T02:00", tz="UTC"), "2026-05-31T02:00:00+00:00"),
        ("until", time(6, 30), "06:30"),
        ("until", "none", "none"),
        ("api_key_command", "pass show telemetron", "pass show telemetron"),
        ("column", {"customerEmail": "Kunde = Mail"}, ["customerEmail=Kunde = Mail"]),
        ("column", ["customerEmail=Kunde"], ["customerEmail=Kunde"]),
        ("column", "customerEmail=Kunde", ["customerEmail=Kunde"]),
        ("action_word", {"RET": "unassign", "OUT": "assign"}, ["RET=unassign", "OUT=assign"]),
        ("tolerate", "skipped", ["skipped"]),
        ("tolerate", ("skipped", "held"), ["skipped", "held"]),
        ("profile", "nightly", "nightly"),
        ("config", Path("x.toml"), "x.toml"),
    ],
)
def test_python_values_become_the_texts_of_the_command_line(key: str, value: object, text: object) -> None:
    assert texts(**{key: value}) == {key: text}


@pytest.mark.parametrize("key", sorted(TERMINAL - {"yes"}))
def test_options_of_a_terminal_have_no_effect(key: str) -> None:
    assert texts(**{key: True}) == {}
    assert texts(yes=True) == {}


def test_none_counts_as_not_given() -> None:
    assert texts(max_failed=None, sandbox=None) == {}


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("sandbox", "yes", "sandbox: takes True or False, not str"),
        ("sandbox", 1, "sandbox: takes True or False, not int"),
        ("rate", 5, "rate: takes a text, not int"),
        ("concurrency", 4.0, "concurrency: takes a whole number, not float"),
        ("concurrency", True, "concurrency: takes a whole number, not bool"),
        ("max_failed", 0.05, 'max_failed: takes a number of rows or a percentage such as "5%", not float'),
        ("timeout", True, "timeout: takes seconds, a timedelta"),
        ("timeout", [1], "timeout: takes seconds, a timedelta"),
        ("reports_dir", b"x", "reports_dir: takes a path, not bytes"),
        ("as_of", datetime(2026, 5, 31), "as_of: is a datetime without a time zone"),
        ("as_of", 5, "as_of: takes a datetime, a date or a text, not int"),
        ("until", time(6, 30, 5), "until: takes a time of the day in hours and minutes"),
        ("until", 6, "until: takes a time of the day in hours and minutes"),
        ("column", {"customerEmail": 5}, "column: takes a mapping of texts to texts, not int"),
        ("column", {"a=b": "c"}, "column: 'a=b' has an equals sign"),
        ("fill_down", {"customerEmail": "x"}, "fill_down: takes a text or a list of texts, not dict"),
        ("tolerate", [1], "tolerate: takes a text or a list of texts, not list"),
        ("yes", False, "yes: no question is asked in Python"),
        ("max_fail", 5, "unknown option 'max_fail'; did you mean max_failed?"),
        ("api_key", "secret", "api_key: is not an option in Python; set TELEMETRON_API_KEY, or use api_key_file"),
        ("shards", 4, "shards: is not an option in Python; a shard is a process of its own"),
    ],
)
def test_a_wrong_name_or_type_is_named_and_its_value_is_not_shown(key: str, value: object, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        texts(**{key: value})
    assert caught.value.reason.startswith(problem)
    assert "secret" not in str(caught.value)


def test_all_wrong_options_are_named_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        texts(rat="5/s", timeout=[], concurrency="x")
    assert caught.value.reason.count(";") == 2  # with the proposal for `rat`; the text of `concurrency` is parsed later


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0, timedelta(days=-1), 0])
def test_a_duration_that_is_none_is_refused_by_the_rules_of_the_command_line(value: object) -> None:
    with pytest.raises(ConfigError, match="--timeout: "):
        resolve((), texts(timeout=value), {})
