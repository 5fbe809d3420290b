"""The documentation, and the parts of it that are made from the code; run as a module it writes them: `make docs`."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from telemetron_batch.cli.schema_commands import schema_text
from telemetron_batch.config.options import OPTIONS, Option
from telemetron_batch.domain.actions import Action
from telemetron_batch.input.action_words import ACTION_WORDS
from telemetron_batch.input.header_names import ALIASES

ROOT: Final = Path(__file__).parents[2]
DOCS: Final = ROOT / "docs"
README: Final = ROOT / "README.md"
CONTRIBUTING: Final = ROOT / "CONTRIBUTING.md"
INPUT_FILES: Final = DOCS / "input-files.md"
OPTIONS_PAGE: Final = DOCS / "options.md"
PAGES: Final = (README, CONTRIBUTING, *sorted(DOCS.glob("*.md")))
SCHEMAS: Final = {kind: DOCS / f"{kind}.schema.json" for kind in ("summary", "profile")}
"""The copy of each schema, for programs and editors."""
GENERATED: Final = {"options": OPTIONS_PAGE, "headers": INPUT_FILES, "words": INPUT_FILES}
"""The page of each generated part."""

_BLOCK: Final = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_COMMAND: Final = re.compile(r"(?<![\w/.-])(?:[\w./-]*/)?telemetron-batch (?=[a-z-])([^`\n]*)")
_END_OF_COMMAND: Final = re.compile(r"\s*(?:\|\|?|&&|;|\s#|\s[0-9]?>).*")
_HEADING: Final = re.compile(r"^#{1,6} +(.*?) *$", re.MULTILINE)
_LINK: Final = re.compile(r"\]\(([^()\s]+)\)|(?:href|src)=\"([^\"]+)\"")
_CODE_SPAN: Final = re.compile(r"`[^`\n]*`")
_FILE_NAME: Final = re.compile(
    r"(?<![\w/.}*\\-])(?:[\w-]+/)*[\w.-]*\w\.(?:csv|html|json|log|lua|md|png|py|sqlite3|svg|toml|txt|xlsx)(?!\.?\w)"
)
_PYTEST: Final = re.compile(r"pytest ([^`\n]*)")


def _default(option: Option) -> str:
    if not option.metavar:
        return "off"
    return option.default_text and f"`{option.default_text}`"


def _option(option: Option) -> str:
    name = f"--{option.name} {option.metavar}".strip().replace("|", "\\|")
    star = " *" if option.for_plan else ""
    return f"| `{name}`{star} | {_default(option)} | {option.help}{' Repeatable.' if option.repeatable else ''} |\n"


def blocks() -> dict[str, str]:
    """Return each generated part by its name in the comments of the pages."""
    words = {
        action: ", ".join(f"`{word}`" for word, kind in ACTION_WORDS.items() if kind is action) for action in Action
    }
    return {
        "options": "| option | default | meaning |\n| --- | --- | --- |\n" + "".join(map(_option, OPTIONS)),
        "headers": "| column | headers it is found by, besides its name |\n| --- | --- |\n"
        + "".join(
            f"| {field} | {', '.join(f'`{alias}`' for alias in aliases)} |\n" for field, aliases in ALIASES.items()
        ),
        "words": f"Words for assign: {words[Action.ASSIGN]}; for unassign: {words[Action.UNASSIGN]}.\n",
    }


def part(text: str, name: str) -> str:
    """Return the text between the two comments of a part."""
    found = re.search(rf"<!-- {name}: [^\n]*-->\n(.*?)<!-- end of {name} -->", text, re.DOTALL)
    assert found is not None, name
    return found[1]


def code_blocks(text: str, language: str = "") -> list[str]:
    """Return the code blocks of a page, of one language or of all."""
    return [code for name, code in _BLOCK.findall(text) if language in ("", name)]


def commands(text: str) -> Iterator[list[str]]:
    """Yield the arguments of every `telemetron-batch` command in the code blocks and code spans of a page."""
    spans = [span.strip("`") for span in _CODE_SPAN.findall(_BLOCK.sub("", text))]
    for code in (*code_blocks(text), *spans):
        line = re.sub(r"\\\n\s*", "", code)
        line = re.sub(r"\$\(date[^)]*\)", "DATE", line)
        line = re.sub(r"\"\$\((.*?)\)\"", r"\1", line)
        for found in _COMMAND.finditer(line):
            yield shlex.split(_END_OF_COMMAND.sub("", found[1]))


def file_names(text: str) -> set[str]:
    """Return the names of files in the code blocks and code spans of a page; absolute paths are left out."""
    spans = _CODE_SPAN.findall(_BLOCK.sub("", text))
    return {name for code in (*code_blocks(text), *spans) for name in _FILE_NAME.findall(code)}


def pytest_selections(text: str) -> set[tuple[str, str]]:
    """Return path and `-k` of every pytest command of a page that selects tests by name."""
    calls = [shlex.split(_END_OF_COMMAND.sub("", found)) for found in _PYTEST.findall(text)]
    return {
        (next(word for word in words if word.startswith("tests/")), words[words.index("-k") + 1])
        for words in calls
        if "-k" in words
    }


def links(text: str) -> list[str]:
    """Return the targets of the links and pictures of a page, without those in the web."""
    bare = _CODE_SPAN.sub("", _BLOCK.sub("", text))
    targets = [markdown or html for markdown, html in _LINK.findall(bare)]
    return [target for target in targets if not re.match(r"[a-z]+:", target)]


def anchors(text: str) -> set[str]:
    """Return the anchors that GitHub gives to the headings of a page."""
    found: set[str] = set()
    for heading in _HEADING.findall(_BLOCK.sub("", text)):
        slug = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        number = 0
        while (anchor := f"{slug}-{number}" if number else slug) in found:
            number += 1
        found.add(anchor)
    return found


def dead_links(page: Path) -> list[str]:
    """Return the links of a page that lead to no file, or to no heading of it."""
    dead = []
    for link in links(page.read_text()):
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        if not target.exists() or (anchor and anchor not in anchors(target.read_text())):
            dead.append(link)
    return dead


def main() -> None:
    """Write every generated part into its page, and every schema."""
    for kind, file in SCHEMAS.items():
        file.write_text(schema_text(kind))
    for name, made in blocks().items():
        text = GENERATED[name].read_text()
        end = f"<!-- end of {name} -->"
        GENERATED[name].write_text(text.replace(part(text, name) + end, made + end))


if __name__ == "__main__":
    main()
