"""The link from a task to the page of its run, and the URL behind it."""

from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit

from airflow.providers.common.compat.sdk import BaseOperator, BaseOperatorLink, XCom

REPORT_URL: Final = "report_url"
_REPORT: Final = "report.html"
_WEB_SCHEMES: Final = ("http", "https")


class ReportLink(BaseOperatorLink):
    """A link from the task to the page of its run. Airflow shows only addresses of the web."""

    name = "Report"

    def get_link(self, operator: BaseOperator, *, ti_key: Any) -> str:  # noqa: ARG002
        """Return the URL of report.html; empty until the task has started, and if no browser can open it."""
        return web_address(XCom.get_value(ti_key=ti_key, key=REPORT_URL))


def web_address(url: str | None) -> str:
    """Return a URL that a browser can open from another page; empty for any other."""
    return url if url and urlsplit(url).scheme in _WEB_SCHEMES else ""


def report_url(folder: Path, reports_url: str | None) -> str:
    """Return the URL of a run's page; one of the file itself if it is not known where a browser finds it."""
    if reports_url:
        return f"{reports_url.rstrip('/')}/{quote(folder.name)}/{_REPORT}"
    return (folder / _REPORT).as_uri()


def published_url(place: str | None) -> str | None:
    """Return the URL at which a browser opens a report published to an object store; None for other places."""
    if not place:
        return None
    parts = urlsplit(place)
    bucket, key = parts.netloc, quote(f"{parts.path.strip('/')}/{_REPORT}")
    if parts.scheme in ("s3", "s3a"):
        return f"https://s3.console.aws.amazon.com/s3/object/{bucket}?prefix={key}"
    if parts.scheme in ("gs", "gcs"):
        return f"https://storage.cloud.google.com/{bucket}/{key}"
    return None
