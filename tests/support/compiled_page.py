"""The compiled template of report.html; run as a module it writes `compiled_page.py`: `make page`."""

from pathlib import Path
from typing import Final

import jinja2

from telemetron_batch.reports import page

FILE: Final = Path(page.__file__).with_name("compiled_page.py")
_HEAD: Final = '''"""The template of report.html, compiled by Jinja: made by `make page` from `report.html.j2`."""

# mypy: ignore-errors

JINJA_VERSION = "{version}"

'''


def compiled_page() -> str:
    """Return the text of `compiled_page.py`."""
    environment = page.template_environment()
    source = Path(page.__file__).with_name(page.TEMPLATE).read_text("utf-8")
    code = environment.compile(source, page.TEMPLATE, raw=True, defer_init=True)
    return f"{_HEAD.format(version=jinja2.__version__)}{code}\n"


if __name__ == "__main__":
    FILE.write_text(compiled_page(), "utf-8")
