"""The numbers of a plan and of a run: the JSON documents of the command line, with typed attributes."""

from typing import Any, Generic, TypedDict, TypeVar, overload

T = TypeVar("T")


class _Field(Generic[T]):
    """A field of a JSON document as an attribute; None if the document does not have it."""

    def __init__(self, key: str) -> None:
        self.key = key

    @overload
    def __get__(self, document: None, kind: type) -> "_Field[T]": ...

    @overload
    def __get__(self, document: "Document", kind: type) -> T: ...

    def __get__(self, document: "Document | None", kind: type) -> "T | _Field[T]":
        return self if document is None else document.get(self.key)  # type: ignore[return-value]


class Document(dict[str, Any]):
    """A JSON document of the command line: its fields as items, under their names there, and as attributes."""


class InputFields(TypedDict):
    """One input file, or the DataFrame."""

    name: str
    path: str
    sha256: str
    rows: int
    records: int
    encoding: str
    delimiter: str
    header: list[str]
    headerLine: int
    columns: dict[str, str]
    warnings: list[str]
    trailerCount: int | None
    hiddenRows: int


class StartedByFields(TypedDict):
    """Who started a run, where and with which version."""

    user: str
    uid: int
    host: str
    version: str


class StageFields(TypedDict):
    """One stage of a plan."""

    stage: int
    action: str
    calls: int
    devices: int


class ProblemFields(TypedDict):
    """The rows with one kind of problem."""

    problem: str
    rows: int
    firstLines: list[int]


class ApprovalFields(TypedDict):
    """Who planned a run and who approved it."""

    plannedBy: str
    approvedBy: str | None
    approvedAt: str | None


class PlanFields(Document):
    """A plan in numbers: the document of `telemetron-batch plan --json`."""

    approval = _Field[ApprovalFields | None]("approval")
    calls = _Field[int]("calls")
    customers = _Field[int]("customers")
    customers_not_known = _Field[int | None]("customersNotKnown")
    customers_to_create = _Field[int | None]("customersToCreate")
    devices = _Field[int]("devices")
    duplicates = _Field[int]("duplicates")
    fingerprint = _Field[str | None]("fingerprint")
    fingerprint_full = _Field[str | None]("fingerprintFull")
    folder = _Field[str | None]("folder")
    held_by_invalid = _Field[int]("heldByInvalid")
    held_by_spelling = _Field[int]("heldBySpelling")
    hidden_rows = _Field[int]("hiddenRows")
    inputs = _Field[list[InputFields]]("inputs")
    invalid = _Field[int]("invalid")
    next_step = _Field[str | None]("nextStep")
    owners = _Field[dict[str, Any] | None]("owners")
    owners_found = _Field[int]("ownersFound")
    owners_not_found = _Field[int]("ownersNotFound")
    preview = _Field[dict[str, int] | None]("preview")
    previewed_at = _Field[str | None]("previewedAt")
    problems = _Field[list[ProblemFields]]("problems")
    rate = _Field[str]("rate")
    rows = _Field[int]("rows")
    run_id = _Field[str | None]("runId")
    shortest_seconds = _Field[float | None]("shortestSeconds")
    since = _Field[dict[str, Any] | None]("since")
    stages = _Field[list[StageFields]]("stages")
    state = _Field[str | None]("state")
    unchanged = _Field[int]("unchanged")
    warnings = _Field[list[str]]("warnings")


class RunFields(Document):
    """A run in numbers: the document summary.json."""

    airflow = _Field[dict[str, str] | None]("airflow")
    approval = _Field[ApprovalFields | None]("approval")
    as_of = _Field[str | None]("asOf")
    attempts = _Field[int]("attempts")
    attention = _Field[int]("attention")
    attention_by_outcome = _Field[dict[str, int]]("attentionByOutcome")
    attention_files = _Field[list[str]]("attentionFiles")
    balanced = _Field[bool]("balanced")
    base_url = _Field[str]("baseUrl")
    base_url_flag = _Field[str | None]("baseUrlFlag")
    calls = _Field[int]("calls")
    calls_settled = _Field[int]("callsSettled")
    counts = _Field[dict[str, int]]("counts")
    customers = _Field[int]("customers")
    customers_created = _Field[int]("customersCreated")
    customers_not_known = _Field[int | None]("customersNotKnown")
    customers_perhaps_created = _Field[int]("customersPerhapsCreated")
    customers_still_holding = _Field[int]("customersStillHolding")
    customers_to_create = _Field[int | None]("customersToCreate")
    customers_without_devices = _Field[int]("customersWithoutDevices")
    ended_at = _Field[str]("endedAt")
    events = _Field[list[dict[str, str]]]("events")
    exit_code = _Field[int]("exitCode")
    files = _Field[list[str]]("files")
    fingerprint = _Field[str | None]("fingerprint")
    hidden_rows = _Field[int]("hiddenRows")
    input = _Field[dict[str, Any]]("input")
    inputs = _Field[list[InputFields]]("inputs")
    options = _Field[dict[str, Any]]("options")
    owners = _Field[dict[str, Any] | None]("owners")
    owners_found = _Field[int | None]("ownersFound")
    owners_not_found = _Field[int | None]("ownersNotFound")
    preview = _Field[dict[str, int] | None]("preview")
    previewed_at = _Field[str | None]("previewedAt")
    published = _Field[str | None]("published")
    rate_found = _Field[float | None]("rateFound")
    rate_reached = _Field[float | None]("rateReached")
    refusals = _Field[int]("refusals")
    resume_at = _Field[str | None]("resumeAt")
    rows = _Field[int]("rows")
    rows_changed_by_others = _Field[int | None]("rowsChangedByOthers")
    run_id = _Field[str]("runId")
    sandbox = _Field[bool]("sandbox")
    seconds = _Field[float | None]("seconds")
    sending_seconds = _Field[float]("sendingSeconds")
    since = _Field[dict[str, Any] | None]("since")
    started_at = _Field[str]("startedAt")
    started_by = _Field[StartedByFields | None]("startedBy")
    state = _Field[str]("state")
    stop = _Field[dict[str, Any] | None]("stop")
    unassigns_without_effect = _Field[int]("unassignsWithoutEffect")
    unclear_attempts = _Field[int]("unclearAttempts")
    undo_rows = _Field[int]("undoRows")
    unpublished = _Field[str | None]("unpublished")
    unwritten = _Field[list[str] | None]("unwritten")
    verify = _Field[dict[str, Any] | None]("verify")
    version = _Field[str]("version")
