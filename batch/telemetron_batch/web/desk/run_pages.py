"""The pages about a run: its plan, its progress, its result, and what to do next."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Final

from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse

from telemetron_batch.domain.approval import ApprovalPolicy
from telemetron_batch.reports.summary import ATTENTION, ATTENTION_WORKBOOK, FILES, PREVIEW, WORKBOOK, Summary
from telemetron_batch.storage.trusted_folders import read_file
from telemetron_batch.web.context import Role, action, user_of
from telemetron_batch.web.desk.desk import PLANNED_STATES, Desk
from telemetron_batch.web.desk.page_tools import (
    desk_of,
    failure_of,
    go,
    in_thread,
    is_soon_done,
    may_act,
    own_run,
    record,
    visible_run,
    words_of,
)
from telemetron_batch.web.desk.plan_view import PlanView
from telemetron_batch.web.desk.run_queue import JobState
from telemetron_batch.web.forms import number_of
from telemetron_batch.web.render import Texts, render, render_text, texts_for

_MAX_RUNS: Final = 200
_DOWNLOADS: Final = ("report.html", WORKBOOK, "reconciliation.csv", "undo.csv", PREVIEW, "summary.json")
_POLL_S: Final = 0.5
_HEARTBEAT_POLLS: Final = 20


async def show_runs(request: Request) -> Response:
    """Answer GET /runs: the runs that the user may see."""
    return await in_thread(_runs_page, request)


def _runs_page(request: Request) -> Response:
    desk = desk_of(request)
    runs = desk.runs(user_of(request), _MAX_RUNS)
    return render(request, "runs.html.j2", runs=runs, jobs=desk.queue.jobs(), most=_MAX_RUNS)


async def show_approvals(request: Request) -> Response:
    """Answer GET /approvals: the plans that wait for a second person."""
    return await in_thread(_approvals_page, request)


def _approvals_page(request: Request) -> Response:
    runs = desk_of(request).runs(user_of(request), _MAX_RUNS)
    waiting = [line for line in runs if line.info.state == "awaitingApproval"]
    return render(request, "approvals.html.j2", runs=waiting, approved=[r for r in runs if r.info.state == "approved"])


async def show_run(request: Request) -> Response:
    """Answer GET /runs/RUN: plan, progress or result, whatever the run has come to."""
    run_id = await in_thread(visible_run, request)
    making = await in_thread(_plan_in_the_making, desk_of(request), run_id)
    if making is not None and not await is_soon_done(making):
        return render(request, "wait.html.j2", title_key="wait.planning", upload=None)
    return await in_thread(_run_page, request, run_id, making)


def _plan_in_the_making(desk: Desk, run_id: str) -> Future[None] | None:
    """Return the future of what is shown of a planned run if it is not there yet."""
    if desk.queue.state(run_id) is not None or desk.plan_view(run_id) is not None:
        return None
    return desk.renew_plan_view(run_id) if desk.info(run_id).state in PLANNED_STATES else None


def _run_page(request: Request, run_id: str, making: Future[None] | None = None, error: str = "") -> Response:
    desk, user = desk_of(request), user_of(request)
    failed = None if making is None else failure_of(making)
    job, info, owner = desk.queue.state(run_id), desk.info(run_id), desk.owner(run_id)
    folder = desk.folder(run_id)
    summary = _summary(folder)
    is_planned = info.state in PLANNED_STATES
    return render(
        request,
        "run.html.j2",
        status=400 if error else 200,
        run_id=run_id,
        name=desk.name(run_id) or info.input,
        info=info,
        owner=owner,
        job=job,
        progress=None if job is None else job.progress,
        jobs=desk.queue.jobs(),
        view=desk.plan_view(run_id),
        is_planned=is_planned,
        summary=summary,
        has_stopped=info.state in ("stopped", "interrupted"),
        files=_files(folder, summary),
        attention=_attention_file(folder, summary),
        may_act=may_act(user, owner),
        is_approver_of_this=info.approval is not None and info.approval["approvedBy"] == user.name,
        may_approve_this=_may_approve(desk, run_id, user.name) and user.role.includes(Role.APPROVER),
        needs_approval=info.state == "awaitingApproval",
        policy_second=desk.config.approval is ApprovalPolicy.SECOND,
        error=error,
        failure=words_of(failed or desk.queue.failure(run_id) or "", desk),
    )


def _may_approve(desk: Desk, run_id: str, user: str) -> bool:
    approval = desk.info(run_id).approval
    return approval is not None and approval["plannedBy"] != user and approval["approvedBy"] is None


def _summary(folder: Path) -> Mapping[str, Any] | None:
    """Return the fields of summary.json; None without one."""
    try:
        fields: Mapping[str, Any] = json.loads(read_file(folder / "summary.json"))
    except (OSError, ValueError):
        return None
    return fields


def _files(folder: Path, summary: Mapping[str, Any] | None) -> list[tuple[str, int]]:
    """Return name and size of each file that can be downloaded."""
    names = [*_DOWNLOADS]
    if summary is not None:
        names[1:1] = Summary(folder, summary).attention_files
    return [(name, (folder / name).stat().st_size) for name in names if (folder / name).is_file()]


def _attention_file(folder: Path, summary: Mapping[str, Any] | None) -> str | None:
    """Return the name of the attention file that can be corrected on the page; None without one."""
    if summary is None or not summary.get("attention"):
        return None
    names = Summary(folder, summary).attention_files
    return next((name for name in names if name.endswith(".csv") and (folder / name).is_file()), None)


async def download(request: Request) -> Response:
    """Answer GET /runs/RUN/files/NAME: one of the files that people read, never the journal."""
    return await in_thread(_download, request)


def _download(request: Request) -> Response:
    run_id, name = visible_run(request), request.path_params["name"]
    folder = desk_of(request).folder(run_id)
    known = {file for file, _ in _files(folder, _summary(folder))} | {*FILES, ATTENTION, ATTENTION_WORKBOOK, WORKBOOK}
    if name not in known or not (folder / name).is_file() or (folder / name).is_symlink():
        raise HTTPException(404)
    record(request, "download", run=run_id, file=name)
    return FileResponse(folder / name, filename=f"{run_id}-{name}", content_disposition_type="attachment")


async def stream(request: Request) -> Response:
    """Answer GET /runs/RUN/events: the progress of a run as server-sent events."""
    run_id = await in_thread(visible_run, request)
    return StreamingResponse(_events(desk_of(request), run_id, texts_for(request)), media_type="text/event-stream")


async def _events(desk: Desk, run_id: str, texts: Texts) -> AsyncIterator[str]:
    """Yield the progress as HTML whenever it changes, and `end` when the run is no longer in the queue."""
    shown, silent = "", 0
    while not desk.queue.is_closing:
        state = desk.queue.state(run_id)
        if state is None:
            yield "event: end\ndata: \n\n"
            return
        html = await in_thread(_progress_html, desk, state, texts)
        silent += 1
        if html != shown:
            yield "".join(["event: progress\n", *(f"data: {line}\n" for line in html.splitlines()), "\n"])
            shown, silent = html, 0
        elif silent % _HEARTBEAT_POLLS == 0:
            yield ": still here\n\n"
        await asyncio.sleep(_POLL_S)


def _progress_html(desk: Desk, state: JobState, texts: Texts) -> str:
    return render_text(texts, "_progress.html.j2", job=state, progress=state.progress, jobs=desk.queue.jobs())


@action(Role.OPERATOR)
async def send(request: Request, form: FormData) -> Response:
    """Answer POST /runs/RUN/send: queue a plan that the user has confirmed, or a stopped run."""
    run_id = await in_thread(own_run, request)
    return await in_thread(_send, request, run_id, form)


def _send(request: Request, run_id: str, form: FormData) -> Response:
    desk, texts = desk_of(request), texts_for(request)
    info, view = desk.info(run_id), desk.plan_view(run_id)
    if info.state in PLANNED_STATES:
        if view is None or form.get("fingerprint") != view.fingerprint:
            return _run_page(request, run_id, error=texts.text("run.plan_changed"))
        if not _is_confirmed(view, str(form.get("devices", ""))):
            return _run_page(request, run_id, error=texts.text("run.wrong_number", count=view.taken_devices))
    record(request, "send", run=run_id, devices=None if view is None else view.taken_devices + view.given_devices)
    desk.send(run_id, user_of(request).name)
    return go(f"/runs/{run_id}")


def _is_confirmed(view: PlanView, typed: str) -> bool:
    """Return whether the user has typed how many devices are taken away; if none are, there is nothing to type."""
    digits = "".join(sign for sign in typed if sign not in " ,.'\u00a0\u202f")
    return view.taken_devices == 0 or number_of(digits) == view.taken_devices


@action(Role.OPERATOR)
async def look(request: Request, _: FormData) -> Response:
    """Answer POST /runs/RUN/look: query the customers of a plan."""
    run_id = await in_thread(own_run, request)
    await in_thread(_queue_look, request, run_id)
    return go(f"/runs/{run_id}")


def _queue_look(request: Request, run_id: str) -> None:
    record(request, "look", run=run_id)
    desk_of(request).look(run_id, user_of(request).name)


@action(Role.OPERATOR)
async def stop(request: Request, _: FormData) -> Response:
    """Answer POST /runs/RUN/stop: stop a run, or take it out of the queue."""
    run_id = await in_thread(own_run, request)
    await in_thread(_stop, request, run_id)
    return go(f"/runs/{run_id}")


def _stop(request: Request, run_id: str) -> None:
    record(request, "stop", run=run_id)
    desk_of(request).queue.stop(run_id, f"stopped by {user_of(request).name} on the page")


@action(Role.OPERATOR)
async def undo(request: Request, _: FormData) -> Response:
    """Answer POST /runs/RUN/undo: plan to take back what a run has changed."""
    run_id = await in_thread(own_run, request)
    return await in_thread(_undo, request, run_id)


def _undo(request: Request, run_id: str) -> Response:
    desk = desk_of(request)
    name = texts_for(request).text("run.undo_of", name=desk.name(run_id) or run_id)
    record(request, "undo", run=run_id)
    kept = desk.undo_list(run_id, user_of(request).name, name)
    desk.plan(kept)
    return go(f"/uploads/{kept.id}/plan")


@action(Role.OPERATOR)
async def correct(request: Request, _: FormData) -> Response:
    """Answer POST /runs/RUN/correct: take the rows that want attention as a list of its own."""
    run_id = await in_thread(own_run, request)
    return await in_thread(_correct, request, run_id)


def _correct(request: Request, run_id: str) -> Response:
    desk = desk_of(request)
    folder = desk.folder(run_id)
    name = _attention_file(folder, _summary(folder))
    if name is None:
        raise HTTPException(404)
    record(request, "correct run", run=run_id)
    shown = texts_for(request).text("run.rows_of", name=desk.name(run_id) or run_id)
    kept = desk.uploads.of_run_file(folder / name, user_of(request).name, shown)
    return go(f"/uploads/{kept.id}/rows")


@action(Role.OPERATOR)
async def revise(request: Request, _: FormData) -> Response:
    """Answer POST /runs/RUN/revise: discard a plan, and go back to its list."""
    run_id = await in_thread(own_run, request)
    await in_thread(record, request, "discard plan", run=run_id)
    kept = await in_thread(desk_of(request).revise, run_id)
    user = user_of(request)
    is_own = kept is not None and (user.is_only_user or kept.owner == user.name)
    return go(f"/uploads/{kept.id}/rows" if kept is not None and is_own else "/runs")


@action(Role.APPROVER)
async def approve(request: Request, form: FormData) -> Response:
    """Answer POST /runs/RUN/approve: approve the plan that the user has seen."""
    run_id = await in_thread(visible_run, request)
    await in_thread(_approve, request, run_id, str(form.get("fingerprint", "")))
    return go(f"/runs/{run_id}")


def _approve(request: Request, run_id: str, fingerprint: str) -> None:
    record(request, "approve", run=run_id, fingerprint=fingerprint)
    desk_of(request).approve(run_id, fingerprint, user_of(request).name)


@action(Role.APPROVER)
async def revoke(request: Request, _: FormData) -> Response:
    """Answer POST /runs/RUN/revoke: take back an approval."""
    run_id = await in_thread(visible_run, request)
    await in_thread(record, request, "revoke", run=run_id)
    await in_thread(desk_of(request).revoke, run_id)
    return go(f"/runs/{run_id}")
