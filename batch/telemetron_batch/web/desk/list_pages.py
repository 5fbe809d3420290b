"""The pages about a list before it is a run: bring it, say which column is what, correct its rows, plan it."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from telemetron_batch.domain.actions import Action
from telemetron_batch.domain.errors import BatchError
from telemetron_batch.domain.model import Correction
from telemetron_batch.init.column_inference import ColumnGuess
from telemetron_batch.init.saved_mappings import remove_mapping, save_mapping, saved_mappings
from telemetron_batch.web.context import Role, action, context_of, user_of
from telemetron_batch.web.desk.check import Check
from telemetron_batch.web.desk.mapping import (
    ENCODINGS,
    FIELDS,
    columns_of,
    config_of_file,
    fitting,
    flags_of_form,
    flags_of_guess,
    flags_of_scan,
)
from telemetron_batch.web.desk.page_tools import (
    desk_of,
    failure_of,
    go,
    in_thread,
    is_soon_done,
    own_upload,
    record,
    result_of,
    words_of,
)
from telemetron_batch.web.desk.uploads import Upload
from telemetron_batch.web.render import render, texts_for

_RECENT_RUNS: Final = 8
_MAX_CELL: Final = 300


async def show_start(request: Request) -> Response:
    """Answer GET /: bring a list, and see the newest runs and the queue."""
    return await in_thread(_start_page, request)


def _start_page(request: Request, *, error: str = "", serials: str = "", customer: str = "") -> Response:
    desk, user = desk_of(request), user_of(request)
    lists = [one for one in desk.uploads.all() if user.is_only_user or one.owner == user.name]
    return render(
        request,
        "start.html.j2",
        status=400 if error else 200,
        runs=desk.runs(user, _RECENT_RUNS),
        lists=lists[:_RECENT_RUNS],
        jobs=desk.queue.jobs(),
        max_upload=context_of(request).options.max_upload,
        error=error,
        serials=serials,
        customer=customer,
    )


@action(Role.OPERATOR, uploads=True)
async def upload(request: Request, form: FormData) -> Response:
    """Answer POST /uploads: keep a file."""
    file = form.get("file")
    if not isinstance(file, UploadFile) or not file.filename:
        return await in_thread(_start_page, request, error=texts_for(request).text("start.no_file"))
    kept = await in_thread(_keep, request, file)
    return go(f"/uploads/{kept.id}")


def _keep(request: Request, file: UploadFile) -> Upload:
    user = user_of(request)
    file.file.seek(0)
    record(request, "upload", bytes=file.size)
    return desk_of(request).uploads.receive(file.file, file.filename or "", user.name)


@action(Role.OPERATOR)
async def scan(request: Request, form: FormData) -> Response:
    """Answer POST /scans: keep scanned serials as a list."""
    serials = [line.strip() for line in str(form.get("serials", "")).splitlines() if line.strip()]
    customer, what = str(form.get("customer", "")).strip(), str(form.get("action", ""))
    texts = texts_for(request)
    if not serials or what not in (*Action,) or (not customer and what == Action.ASSIGN):
        error = texts.text(
            "start.no_serials" if not serials else "start.no_customer" if what in (*Action,) else "start.what"
        )
        entered = {"serials": str(form.get("serials", "")), "customer": customer}
        return await in_thread(_start_page, request, error=error, **entered)
    flags = {**flags_of_scan(), "action": what} | ({} if customer else {"owners": "runs"})
    kept = await in_thread(_keep_scan, request, serials, customer, flags)
    return go(f"/uploads/{kept.id}/rows")


def _keep_scan(request: Request, serials: list[str], customer: str, flags: Mapping[str, Any]) -> Upload:
    record(request, "scan", serials=len(serials))
    desk, texts = desk_of(request), texts_for(request)
    name = texts.plural("start.scan_name", len(serials))
    return desk.uploads.scanned(serials, customer, name, user_of(request).name, flags)


async def show_columns(request: Request) -> Response:
    """Answer GET /uploads/ID: which column is what."""
    kept = await in_thread(own_upload, request)
    guessing = desk_of(request).survey(kept)
    if not await is_soon_done(guessing):
        return render(request, "wait.html.j2", title_key="wait.reading", upload=kept)
    return await in_thread(_columns_page, request, kept)


def _columns_page(request: Request, kept: Upload, error: str = "") -> Response:
    desk = desk_of(request)
    guessing = desk.survey(kept)
    failure = failure_of(guessing)
    guess = ColumnGuess((), {}, {}, None) if failure is not None else guessing.result()
    mappings = {} if failure is not None else saved_mappings(desk.mappings_file)
    fit = fitting(mappings, guess.header)
    chosen = request.query_params.get("mapping", "")
    flags = mappings[chosen] if chosen in fit else kept.flags if kept.flags is not None else None
    if flags is None:
        chosen = fit[0] if fit else ""
        flags = mappings[fit[0]] if fit else flags_of_guess(guess)
    return render(
        request,
        "columns.html.j2",
        status=400 if error or failure is not None else 200,
        upload=kept,
        guess=guess,
        failure=None if failure is None else words_of(failure, desk, kept),
        error=error,
        flags=flags,
        columns={name: _position(guess, columns_of(flags).get(name)) for name in FIELDS},
        mappings=fit,
        chosen=chosen,
        encodings=ENCODINGS,
    )


def _position(guess: ColumnGuess, header: str | None) -> int | None:
    return guess.header.index(header) if header in guess.header else None


@action(Role.OPERATOR)
async def set_columns(request: Request, form: FormData) -> Response:
    """Answer POST /uploads/ID/columns: record which column is what, and keep it under a name if wanted."""
    kept = await in_thread(own_upload, request)
    guess = await result_of(desk_of(request).survey(kept))
    return await in_thread(_set_columns, request, kept, guess, form)


def _set_columns(request: Request, kept: Upload, guess: ColumnGuess, form: FormData) -> Response:
    texts, desk = texts_for(request), desk_of(request)
    fields = {name: value for name, value in form.items() if isinstance(value, str)}
    flags = flags_of_form(fields, guess.header)
    if guess.sheet is not None:
        flags["sheet"] = guess.sheet
    words = [one for one in (kept.flags or {}).get("action_word", ()) if "action" not in flags]
    flags |= {"action_word": words} if words else {}
    columns = columns_of(flags)
    if "customerEmail" not in columns or "deviceIdentifier" not in columns:
        return _columns_page(request, replace(kept, flags=flags), texts.text("columns.missing"))
    if "action" not in columns and "action" not in flags:
        return _columns_page(request, replace(kept, flags=flags), texts.text("columns.what"))
    if len(set(columns.values())) < len(columns):
        return _columns_page(request, replace(kept, flags=flags), texts.text("columns.twice"))
    name = fields.get("mapping", "").strip()
    options = config_of_file(kept.file, flags, desk.config).input
    saved = saved_mappings(desk.mappings_file).get(name)
    if saved is not None and config_of_file(kept.file, saved, desk.config).input != options:
        return _columns_page(request, replace(kept, flags=flags), texts.text("columns.name_taken"))
    if name:
        record(request, "save mapping", name=name)
        save_mapping(desk.mappings_file, name, options)
    desk.uploads.save(replace(kept, flags=flags, corrections=_still_meant(kept, flags)))
    return go(f"/uploads/{kept.id}/rows")


def _still_meant(kept: Upload, flags: Mapping[str, Any]) -> tuple[Correction, ...]:
    """Return the corrected cells that a new mapping leaves as they are: those of columns that are read as before."""
    before = kept.flags or {}
    if any(before.get(key) != flags.get(key) for key in ("sheet", "encoding", "hidden", "split", "fill_down")):
        return ()
    old, new = columns_of(before), columns_of(flags)
    return tuple(one for one in kept.corrections if old.get(one.field) == new.get(one.field))


@action(Role.OPERATOR)
async def forget_mapping(request: Request, form: FormData) -> Response:
    """Answer POST /mappings/remove: forget a mapping."""
    await in_thread(_forget_mapping, request, str(form.get("name", "")))
    return go("/mappings")


def _forget_mapping(request: Request, name: str) -> None:
    record(request, "remove mapping", name=name)
    remove_mapping(desk_of(request).mappings_file, name)


async def show_mappings(request: Request) -> Response:
    """Answer GET /mappings: the mappings that are kept."""
    mappings = await in_thread(saved_mappings, desk_of(request).mappings_file)
    shown = {name: (columns_of(flags), flags) for name, flags in mappings.items()}
    return render(request, "mappings.html.j2", mappings=shown)


async def show_rows(request: Request) -> Response:
    """Answer GET /uploads/ID/rows: what is wrong with which rows."""
    kept = await in_thread(own_upload, request)
    if kept.flags is None:
        return go(f"/uploads/{kept.id}")
    reading = desk_of(request).check(kept)
    if not await is_soon_done(reading):
        return render(request, "wait.html.j2", title_key="wait.checking", upload=kept)
    planning = desk_of(request).planned(kept.id, user_of(request))
    if planning is not None and not planning.done():
        return go(f"/uploads/{kept.id}/plan")
    failed = None if planning is None else failure_of(planning)
    return await in_thread(_rows_page, request, kept, failed)


def _rows_page(request: Request, kept: Upload, plan_failure: BatchError | None) -> Response:
    desk = desk_of(request)
    reading = desk.check(kept)
    failure = failure_of(reading)
    return render(
        request,
        "rows.html.j2",
        status=200 if failure is None else 400,
        upload=kept,
        check=None if failure is not None else reading.result(),
        failure=None if failure is None else words_of(failure, desk, kept),
        plan_failure=None if plan_failure is None else words_of(plan_failure, desk, kept),
        fields=FIELDS,
    )


@action(Role.OPERATOR)
async def set_rows(request: Request, form: FormData) -> Response:
    """Answer POST /uploads/ID/rows: record corrected cells and the meaning of words, then check again or plan."""
    kept = await in_thread(own_upload, request)
    if kept.flags is None:
        return go(f"/uploads/{kept.id}")
    planning = desk_of(request).planned(kept.id, user_of(request))
    if planning is not None and not planning.done():
        return go(f"/uploads/{kept.id}/plan")
    shown = await result_of(desk_of(request).check(kept))
    fields = {name: value for name, value in form.items() if isinstance(value, str)}
    kept = await in_thread(_set_rows, request, kept, shown, fields)
    if fields.get("do") != "plan":
        return go(f"/uploads/{kept.id}/rows")
    record(request, "plan", list=kept.id, again=bool(fields.get("again")))
    desk_of(request).plan(kept, again=bool(fields.get("again")))
    return go(f"/uploads/{kept.id}/plan")


def _set_rows(request: Request, kept: Upload, shown: Check, fields: Mapping[str, str]) -> Upload:
    desk = desk_of(request)
    if fields.get("do") == "reset":
        kept = replace(kept, corrections=())
        desk.uploads.save(kept)
        return kept
    words = flags_of_form(fields, (), [*shown.unknown_words]).get("action_word", [])
    if words:
        flags = {**(kept.flags or {}), "action_word": [*(kept.flags or {}).get("action_word", []), *words]}
        kept = replace(kept, flags=flags)
    corrections = [*_corrections(shown, fields)]
    if corrections:
        record(request, "correct", list=kept.id, cells=len(corrections))
    return desk.correct(kept, corrections) if corrections or words else kept


def _corrections(shown: Check, fields: Mapping[str, str]) -> Iterator[Correction]:
    """Yield the cells that the user has changed."""
    for row in shown.faulty:
        for name, before in row.cells.items():
            entered = fields.get(f"cell.{name}.{row.line}", before).strip()[:_MAX_CELL]
            if row.is_correctable and entered != before.strip() and not (name == "action" and entered == ""):
                yield Correction(name, row.line, entered)


async def show_planning(request: Request) -> Response:
    """Answer GET /uploads/ID/plan: lead to the planned run, or say that the plan is being made."""
    desk = desk_of(request)
    planning = desk.planned(request.path_params["upload"], user_of(request))
    if planning is None:
        kept = await in_thread(own_upload, request)
        return go(f"/uploads/{kept.id}/rows")
    if not await is_soon_done(planning):
        return render(request, "wait.html.j2", title_key="wait.planning", upload=None)
    if failure_of(planning) is not None:
        return go(f"/uploads/{request.path_params['upload']}/rows")
    return go(f"/runs/{planning.result()}")


@action(Role.OPERATOR)
async def remove_upload(request: Request, _: FormData) -> Response:
    """Answer POST /uploads/ID/remove: forget a list."""
    kept = await in_thread(own_upload, request)
    planning = desk_of(request).planned(kept.id, user_of(request))
    if planning is not None and not planning.done():
        raise HTTPException(409, texts_for(request).text("wait.planning"))
    await in_thread(_remove_upload, request, kept)
    return go("/")


def _remove_upload(request: Request, kept: Upload) -> None:
    record(request, "remove", list=kept.id)
    desk_of(request).uploads.remove(kept)
