"""The options of the functions with their types: those of the command line, with `_` in place of `-`.

A test compares them with the table of options.
"""

from collections.abc import Mapping, Sequence
from datetime import date, datetime, time, timedelta
from os import PathLike
from typing import Literal, TypeAlias, TypedDict

Flag: TypeAlias = bool
Text: TypeAlias = str
Whole: TypeAlias = int | str
Count: TypeAlias = int | str
"""A number of rows, or a percentage such as "5%"."""
Duration: TypeAlias = float | timedelta | str
"""Seconds, or a text such as "15m"."""
File: TypeAlias = str | PathLike[str]
Time: TypeAlias = datetime | date | str
"""A datetime with its time zone, a date, or a text."""
LocalTime: TypeAlias = time | str
"""A time of the day without a zone, or a text such as "06:00"."""
Pairs: TypeAlias = Mapping[str, str] | Sequence[str]
"""A mapping, or texts such as "customerEmail=Kunde"."""
Texts: TypeAlias = str | Sequence[str]


class AccessOptions(TypedDict, total=False):
    """How to reach the API, and where the runs are."""

    api_key_command: Text
    base_url: Text
    ca_file: File
    client_cert: File
    client_key: File
    lock_dir: File
    online: Flag
    organisation: Text
    proxy: Text
    approvals_dir: File
    reports_dir: File
    shared_reports_dir: Flag
    until: LocalTime


class NoticeOptions(TypedDict, total=False):
    """Who hears how a run ended."""

    metrics: File
    notify: Texts
    notify_details: Flag
    notify_on: Text
    ping: Text
    ping_fail_on: Text


class VerifyOptions(AccessOptions, total=False):
    """Options of `verify`."""


class ResumeOptions(AccessOptions, NoticeOptions, total=False):
    """Options of `resume`."""

    out_of_order: Flag


class ReportOptions(TypedDict, total=False):
    """Options of `report`."""

    reports_dir: File
    shared_reports_dir: Flag
    xlsx: Flag


class PlanOptions(AccessOptions, total=False):
    """Options of `plan`."""

    action: Literal["assign", "unassign"]
    action_word: Pairs
    again: Flag
    allow_empty: Flag
    allow_suspect: Flag
    api_key_file: File
    approval: Literal["none", "second"]
    approval_expires: Duration
    as_of: Time
    attempts: Whole
    auto_create_devices: Flag
    baseline: Flag
    chunk_size: Whole
    column: Pairs
    concurrency: Whole
    config: File
    deadline: Duration
    delimiter: Text
    device_type: Text
    empty_exit_code: Whole
    encoding: Text
    expect_rows: Whole
    fill_down: Texts
    full_every: Duration
    give_up_after: Duration
    hidden: Literal["refuse", "skip", "read"]
    job: Text
    json: Flag
    last_line: Literal["warn", "refuse"]
    limit_url: Text
    longest_wait: Duration
    max_age: Duration
    max_failed: Count
    max_new_customers: Whole
    max_skipped: Count
    max_unassign: Count
    min_rows: Whole
    multiline_cells: Flag
    no_hold: Flag
    out_of_order: Flag
    owners: File
    profile: Text
    publish: File
    query: Text
    quiet: Flag
    rate: Text
    raw_csv: Flag
    run_id: Text
    sandbox: Flag
    settled_for: Duration
    sheet: Text
    source_url_file: File
    since_last: Flag
    split: Text
    timeout: Duration
    tolerate: Texts
    trailer_count: Text
    verbose: Flag
    verify: Flag
    wait: Duration
    wait_for_file: Duration
    xlsx: Flag


class RunOptions(PlanOptions, NoticeOptions, total=False):
    """Options of `run`."""

    no_progress: Flag
    yes: Flag
