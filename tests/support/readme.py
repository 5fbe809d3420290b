"""The parts of the README that are made from the code; run as a module it writes them there."""

import re
from pathlib import Path

from telemetron_batch.config.options import OPTIONS, Option
from telemetron_batch.domain.actions import Action
from telemetron_batch.input.header_names import ALIASES
from telemetron_batch.input.validation import ACTION_WORDS

README = Path(__file__).parents[2] / "README.md"


def _default(option: Option) -> str:
    if not option.metavar:
        return "off"
    return option.default_text and f"`{option.default_text}`"


def _option(option: Option) -> str:
    name = f"--{option.name} {option.metavar}".strip().replace("|", "\\|")
    star = " *" if option.for_plan else ""
    return f"| `{name}`{star} | {_default(option)} | {option.help}{' Repeatable.' if option.repeatable else ''} |\n"


def blocks() -> dict[str, str]:
    """Each part by its name in the README's comments."""
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
    """What stands in the README between the comments of a part."""
    found = re.search(rf"<!-- {name}: [^\n]*-->\n(.*?)<!-- end of {name} -->", text, re.DOTALL)
    assert found is not None, name
    return found[1]


def main() -> None:
    """Write every part into the README."""
    text = README.read_text()
    for name, made in blocks().items():
        text = text.replace(part(text, name) + f"<!-- end of {name} -->", made + f"<!-- end of {name} -->")
    README.write_text(text)


if __name__ == "__main__":
    main()
