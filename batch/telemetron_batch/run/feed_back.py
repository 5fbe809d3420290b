"""The configuration of a run whose input is an attention file of another run: with the mapping of that run.

An attention file in the folder of its run is read as the input of that run was, without a
word on columns or actions. A file that was moved elsewhere does not tell which run it is of.
"""

import codecs
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from telemetron_batch.config.config import RunConfig, flag_of, resolve
from telemetron_batch.config.options import OPTIONS_BY_KEY, Option
from telemetron_batch.config.sources import InheritedOptions
from telemetron_batch.domain.errors import BatchError, ConfigError
from telemetron_batch.domain.model import MISALIGNED, InputFile
from telemetron_batch.domain.urls import is_url, strip_file_scheme
from telemetron_batch.input.own_reports import ATTENTION_HEADERS, find_own_header, find_own_row, is_attention
from telemetron_batch.input.restored_cells import OriginalReader, OriginalRows
from telemetron_batch.input.source_file import FileKind, open_source
from telemetron_batch.input.workbook import first_rows
from telemetron_batch.journal.facts import Fact
from telemetron_batch.journal.layout import JOURNAL_NAME
from telemetron_batch.journal.reader import ImmutableJournal

_INPUT_OPTION_KEYS: Final = (
    "action",
    "column",
    "action_word",
    "split",
    "hidden",
    "multiline_cells",
    "auto_create_devices",
    "device_type",
    "delimiter",
)
"""Options that say how to read an attention file; without `--fill-down`, because its empty cells are filled."""
_SPREADSHEET_ENCODING: Final = "cp1252"
"""The encoding in which a spreadsheet may save an attention file, if the list was in it."""
_HEAD_BYTES: Final = 1 << 16
_HEAD_ROWS: Final = 50


def attention_config(
    files: Sequence[str],
    flags: Mapping[str, Any],
    environ: Mapping[str, str],
    name_of: Callable[[Option], str] = flag_of,
) -> RunConfig:
    """Return the configuration of a run of these files. Raises ConfigError that names everything that is wrong.

    As `resolve`; attention files in the folders of their runs add the mapping of these.
    """
    recorded = _recorded(files)
    config = resolve(files, flags, environ, recorded, name_of)
    return replace(config, options_from_run=recorded.run) if recorded.options else config


def _recorded(files: Sequence[str]) -> InheritedOptions:
    """Return the mapping that these files share; an empty one if any is not in the folder of its run."""
    found = [_mapping_of(Path(strip_file_scheme(file))) for file in files if not is_url(strip_file_scheme(file))]
    known = [one for one in found if one is not None]
    if not known or len(known) < len(files):
        return InheritedOptions()
    first = known[0]
    for other in known[1:]:
        if other.options != first.options:
            what = f"run {first.run} and run {other.run} were started with other options for their inputs"
            raise ConfigError(what, "run the attention file of each by itself")
    return first


def _mapping_of(path: Path) -> InheritedOptions | None:
    """Return the mapping of the run in whose folder an attention file is; None for any other file."""
    journal = path.parent / JOURNAL_NAME
    if not (journal.exists() and path.is_file()):
        return None
    try:
        with closing(ImmutableJournal(journal)) as opened:
            options = opened.fact(Fact.OPTIONS) or {}
    except BatchError:
        return None  # not ours, or damaged: nothing in it is believed
    if not _is_attention_file(path, options.get("delimiter")):
        return None
    mapping = {key: options[key] for key in _INPUT_OPTION_KEYS if key in options}
    with suppress(LookupError):
        if codecs.lookup(options["encoding"]).name == _SPREADSHEET_ENCODING:
            mapping["encoding"] = _SPREADSHEET_ENCODING
    return InheritedOptions(path.absolute().parent.name, mapping)


def find_original_input(file: str) -> OriginalReader | None:
    """Return what reads the list of the run in whose folder a file is; None where it is in none."""
    path = strip_file_scheme(file)
    journal = Path(path).parent / JOURNAL_NAME
    return None if file == "-" or is_url(path) or not journal.exists() else partial(_original_rows, journal)


def _original_rows(path: Path) -> Iterator[OriginalRows]:
    """Yield the rows of a run's list as its attention file gives them. Raises BatchError."""
    # Only an attention file needs what writes the files of a run.
    from telemetron_batch.reports.csv_files import source_lines

    with closing(ImmutableJournal(path)) as journal:
        files = journal.input_files
        places = [{field: file.header.index(text) for field, text in file.columns.items()} for file in files]
        wanted = {number: _wanted(file, places[number]) for number, file in enumerate(files)}
        for block in journal.blocks(cells=wanted):
            shifted = pc.is_in(block.keys["problem"], pa.array(MISALIGNED, pa.int8()))  # these cells are left blank
            cells = {
                field: pc.if_else(shifted, pa.scalar(None, pa.string()), block.cells[str(at)])
                for field, at in places[block.file].items()
            }
            yield OriginalRows(source_lines(files, block), cells)


def _wanted(file: InputFile, places: Mapping[str, int]) -> list[int]:
    """Return the positions of the key columns of a file, and of that which names the line of an earlier list."""
    return sorted({*places.values(), *(at for at, text in enumerate(file.header) if text == ATTENTION_HEADERS[-1])})


def _is_attention_file(path: Path, delimiter: str | None) -> bool:
    """Whether a file, in whatever format, has the header of an attention file; what cannot be read has none."""
    with suppress(BatchError, OSError, zipfile.BadZipFile):
        stored = open_source(str(path), path.parent)
        if stored.kind is FileKind.WORKBOOK:
            sheets = first_rows(path, None, _HEAD_ROWS).values()
            return any(is_attention(find_own_row("", rows)) for rows in sheets)
        with stored.open() as file:
            requested_delimiter = None if delimiter is None else OPTIONS_BY_KEY["delimiter"].parse(delimiter)
            header = find_own_header("", file.read(_HEAD_BYTES), requested_delimiter)
        return header is not None and is_attention(header.cells)
    return False
