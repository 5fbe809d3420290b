"""Render the pages: templates, the texts in the language of the browser, and numbers as that language writes them.

A language is a file in `texts`; a text is found by its key, such as `start.title`. Templates escape everything.
"""

import hashlib
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse

from telemetron_batch.domain.printable import printable
from telemetron_batch.web.people import Role, User

_FOLDER: Final = Path(__file__).parent
TEXTS_FOLDER: Final = _FOLDER / "texts"
STATIC_FOLDER: Final = _FOLDER / "static"
LANGUAGE_COOKIE: Final = "language"
DEFAULT_LANGUAGE: Final = "en"


@dataclass(frozen=True, slots=True)
class Texts:
    """The texts of one language."""

    language: str
    by_key: Mapping[str, str]

    def text(self, key: str, /, **values: object) -> str:
        """Return a text with its values filled in; numbers are written as the language writes them."""
        shown = {name: self.number(value) if type(value) is int else value for name, value in values.items()}
        return self.by_key[key].format(**shown)

    def plural(self, key: str, count: int, /, **values: object) -> str:
        """Return the text for a number: `KEY.one` or `KEY.other`, with the number as `count`."""
        return self.text(f"{key}.{'one' if count == 1 else 'other'}", count=count, **values)

    def has(self, key: str) -> bool:
        """Return whether there is such a text."""
        return key in self.by_key

    def number(self, value: int) -> str:
        """Return a number with separators between thousands."""
        return f"{value:,}".replace(",", self.by_key["format.thousands"])

    def bytes(self, size: int) -> str:
        """Return a number of bytes in MB or kB."""
        mega = size >> 20
        return f"{self.number(mega)} MB" if mega >= 10 else f"{self.number(-(-size >> 10))} kB"

    def duration(self, seconds: float) -> str:
        """Return a length of time in the largest unit that says enough."""
        for unit, length in (("hours", 3600), ("minutes", 60)):
            if seconds >= 2 * length:
                return self.text(f"duration.{unit}", count=round(seconds / length))
        return self.plural("duration.seconds", max(1, round(seconds)))

    def moment(self, iso: str) -> str:
        """Return a time, which is in UTC, as the language writes it."""
        try:
            return datetime.fromisoformat(iso).strftime(self.by_key["format.moment"])
        except ValueError:
            return ""


@cache
def languages() -> Mapping[str, Texts]:
    """Return the texts of all languages, by code."""
    return {path.stem: _read_texts(path) for path in sorted(TEXTS_FOLDER.glob("*.toml"))}


def _read_texts(path: Path) -> Texts:
    return Texts(path.stem, dict(_flat(tomllib.loads(path.read_text(encoding="utf-8")))))


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def texts_for(request: Request) -> Texts:
    """Return the texts in the language that the user chose, or else in the one that the browser prefers."""
    known = languages()
    chosen = request.cookies.get(LANGUAGE_COOKIE, "")
    if chosen in known:
        return known[chosen]
    for code in _accepted(request.headers.get("accept-language", "")):
        if code in known:
            return known[code]
    return known[DEFAULT_LANGUAGE]


def _accepted(header: str) -> list[str]:
    """Return the languages of an Accept-Language header without their regions, the preferred one first."""
    weighted = []
    for part in header.split(",")[:20]:
        name, _, quality = part.partition(";")
        try:
            weight = float(quality.strip().removeprefix("q=")) if quality.strip() else 1.0
        except ValueError:
            continue
        if weight > 0:
            weighted.append((-weight, name.strip().partition("-")[0].lower()))
    return [name for _, name in sorted(weighted, key=lambda one: one[0])]


def render(request: Request, template: str, /, *, status: int = 200, **values: object) -> HTMLResponse:
    """Return the page of a template. It has the texts, the user, and where it is, besides its values."""
    texts, user = texts_for(request), getattr(request.state, "user", None)
    known: dict[str, object] = {
        "user": user,
        "csrf": getattr(request.state, "csrf", ""),
        "path": request.url.path,
        "may_operate": isinstance(user, User) and user.role.includes(Role.OPERATOR),
        "may_approve": isinstance(user, User) and user.role.includes(Role.APPROVER),
        "languages": {code: one.by_key["language.name"] for code, one in languages().items()},
    }
    headers = {"Content-Language": texts.language, "Vary": "Accept-Language, Cookie"}
    return HTMLResponse(render_text(texts, template, **{**known, **values}), status, headers)


def render_text(texts: Texts, template: str, /, **values: object) -> str:
    """Return a template as text, with the texts of a language and these values."""
    helpers = {
        "t": texts.text,
        "tn": texts.plural,
        "has_text": texts.has,
        "n": texts.number,
        "size": texts.bytes,
        "duration": texts.duration,
        "moment": texts.moment,
        "language": texts.language,
        "static": static_url,
    }
    return _environment().get_template(template).render({**helpers, **values})


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(_FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )


def _shown(value: object) -> object:
    """Return a value as a page shows it: characters that could disturb the page become visible."""
    return printable_lines(value) if type(value) is str else value


def printable_lines(text: str) -> str:
    """Return the text with its unprintable characters visible; line ends stay."""
    return "\n".join(map(printable, text.split("\n"))) if "\n" in text else printable(text)


@cache
def static_url(name: str) -> str:
    """Return the address of a file of `static`, which changes with its content, so that browsers can keep it."""
    digest = hashlib.sha256((STATIC_FOLDER / name).read_bytes()).hexdigest()
    return f"/static/{name}?v={digest[:12]}"
