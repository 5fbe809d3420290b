"""The routes of the desk."""

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from telemetron_batch.web.desk import list_pages, run_pages
from telemetron_batch.web.render import LANGUAGE_COOKIE, languages
from telemetron_batch.web.sign_in import local_path

_YEAR_S = 365 * 86_400


async def set_language(request: Request) -> Response:
    """Answer GET /language/CODE: show the pages in a language, from now on."""
    response = RedirectResponse(local_path(request.query_params.get("next", "/")), 303)
    code = request.path_params["code"]
    if code in languages():
        response.set_cookie(LANGUAGE_COOKIE, code, max_age=_YEAR_S, httponly=True, samesite="lax")
    return response


routes = [
    Route("/", list_pages.show_start, methods=["GET"]),
    Route("/language/{code}", set_language, methods=["GET"]),
    Route("/mappings", list_pages.show_mappings, methods=["GET"]),
    Route("/mappings/remove", list_pages.forget_mapping, methods=["POST"]),
    Route("/uploads", list_pages.upload, methods=["POST"]),
    Route("/scans", list_pages.scan, methods=["POST"]),
    Route("/uploads/{upload}", list_pages.show_columns, methods=["GET"]),
    Route("/uploads/{upload}/columns", list_pages.set_columns, methods=["POST"]),
    Route("/uploads/{upload}/rows", list_pages.show_rows, methods=["GET"]),
    Route("/uploads/{upload}/rows", list_pages.set_rows, methods=["POST"]),
    Route("/uploads/{upload}/plan", list_pages.show_planning, methods=["GET"]),
    Route("/uploads/{upload}/remove", list_pages.remove_upload, methods=["POST"]),
    Route("/runs", run_pages.show_runs, methods=["GET"]),
    Route("/approvals", run_pages.show_approvals, methods=["GET"]),
    Route("/runs/{run}", run_pages.show_run, methods=["GET"]),
    Route("/runs/{run}/events", run_pages.stream, methods=["GET"]),
    Route("/runs/{run}/files/{name}", run_pages.download, methods=["GET"]),
    Route("/runs/{run}/send", run_pages.send, methods=["POST"]),
    Route("/runs/{run}/look", run_pages.look, methods=["POST"]),
    Route("/runs/{run}/stop", run_pages.stop, methods=["POST"]),
    Route("/runs/{run}/undo", run_pages.undo, methods=["POST"]),
    Route("/runs/{run}/correct", run_pages.correct, methods=["POST"]),
    Route("/runs/{run}/revise", run_pages.revise, methods=["POST"]),
    Route("/runs/{run}/approve", run_pages.approve, methods=["POST"]),
    Route("/runs/{run}/revoke", run_pages.revoke, methods=["POST"]),
]
