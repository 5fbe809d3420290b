"""The sentences about invalid rows, for the person who has to correct them."""

import re
from collections.abc import Mapping
from typing import Final

from telemetron_batch.domain.model import Problem
from telemetron_batch.input.excerpt import printable_excerpt
from telemetron_batch.input.serials import SerialStatistics, damage_kind
from telemetron_batch.input.suspect_identifiers import UNUSUAL_SPACE, reason_of

MESSAGES: Final[Mapping[Problem, str]] = {
    Problem.EMPTY_KEY: "{name} is empty; every row needs one",
    Problem.ENCODING: '{name} "{cell}" has letters whose encoding is uncertain; give the encoding with --encoding',
    Problem.CONTROL: '{name} "{cell}" holds a control or invisible character; remove it in the source',
    Problem.TOO_LONG: '{name} "{cell}" is longer than 256 characters; correct it in the source',
    Problem.FORMULA: '{name} "{cell}" would run as a formula in a spreadsheet; correct it in the source, '
    "or send it as it is with --allow-suspect",
    Problem.DAMAGED: '{name} "{cell}" was damaged by a spreadsheet ({damage}{others}); restore the serial in the '
    "source, or send it as it is with --allow-suspect",
    Problem.EMAIL: '{name} "{cell}" is not an email address; one @ and a domain with a dot are expected, '
    "as in name@example.com",
    Problem.MISPLACED_CHARACTERS: '{name} "{cell}" has {signs}, which should not be in an identifier; '
    "correct it in the source{way}",
    Problem.DECODED_TWICE: '{name} "{cell}" was decoded twice: its letters of UTF-8 were read in another encoding; '
    "export it anew",
    Problem.SEVERAL_IDENTIFIERS: '{name} "{cell}" holds several identifiers; '
    "read each as a row with --split deviceIdentifier, or send the cell as it is with --allow-suspect",
    Problem.PLACEHOLDER: '{name} "{cell}" is a name that many devices share, and devices are to be created; '
    "correct it in the source, or send it as it is with --allow-suspect",
    Problem.ACTION: '{name} "{cell}" is not a word we know; assign or unassign is expected, or say what it '
    "means with --action-word WORD=ACTION",
    Problem.DEVICE_TYPE: "{name} is empty, and devices are to be created; fill it in, or give --device-type",
    Problem.LONG_NUMBER: '{name} "{cell}" is a number of more than 15 digits, and a workbook keeps 15; restore the '
    "serial in the source and format its cell as text",
    Problem.CELL_VALUE: '{name} "{cell}" is {kind} in the file; enter the serial as text, or send it as it is '
    "with --allow-suspect",
    Problem.TAKEN_FOR_DATE: '{name} "{cell}" was "{listed}" in the list, '
    "and a spreadsheet may have made a date or number of it; "
    "correct it in attention.xlsx (report RUN --xlsx writes it)",
    Problem.NO_VALUE: "{name} is a formula without a stored value; open the file in a spreadsheet and save it",
}


def problem_message(problem: Problem, name: str, cell: str, serial_statistics: SerialStatistics) -> str:
    """Return the sentence about a problem of a cell in the column `name`."""
    damage = damage_kind(cell) if problem is Problem.DAMAGED else ""
    others = ""
    if damage == "date" and serial_statistics.example:
        others = f'; other serials here look like "{printable_excerpt(serial_statistics.example)}"'
    signs, way = "", ""
    if problem is Problem.MISPLACED_CHARACTERS:
        is_space = re.search(UNUSUAL_SPACE, cell) is not None
        signs = "white space other than a blank inside" if is_space else reason_of(cell)
        way = "" if is_space else ", or send it as it is with --allow-suspect"
    return MESSAGES[problem].format(
        name=name, cell=printable_excerpt(cell), damage=damage, others=others, signs=signs, way=way
    )
