"""Letters and digits of other scripts, and the Latin ones they are taken for.

The letters are from the confusable characters of Unicode (UTS 39), compared as capitals, in which serials are written.
"""

import unicodedata
from typing import Final

OTHER_LETTERS: Final = "[\\p{Cyrillic}\\p{Greek}\\p{Armenian}\\p{Cherokee}]"
"""Letters of the scripts that have look-alikes of Latin letters, as a regular expression."""
_PAIRS: Final = (
    # Cyrillic
    "\u0410A \u0412B \u0415E \u04173 \u0406I \u0408J \u041aK \u041cM \u041dH \u041eO \u0420P \u0421C \u0422T \u0423Y "
    "\u0425X \u0405S \u04aeY \u04baH \u04c0I \u0500D \u050cG \u051aQ \u051cW \u04116 \u042cB \u0474V "
    # Greek
    "\u0391A \u0392B \u0395E \u0396Z \u0397H \u0399I \u039aK \u039cM \u039dN \u039fO \u03a1P \u03a4T \u03a5Y \u03a7X "
    "\u03dcF \u037fJ "
    # Armenian
    "\u0555O \u054dU \u053cL \u0548N \u0540H \u0536Q \u0551G "
    # Cherokee
    "\u13aaA \u13f4B \u13dfC \u13a0D \u13acE \u13c0G \u13bbH \u13a5I \u13abJ \u13e6K \u13deL \u13b7M \u13e2P \u13a1R "
    "\u13daS \u13a2T \u13d9V \u13d4W \u13b3W \u13a9Y \u13c3Z"
)
"""Pairs of a letter and the Latin letter or digit that it looks like."""
_LATIN: Final = {pair[0].casefold(): pair[1].casefold() for pair in _PAIRS.split(" ")}


def as_latin(folded: str) -> str:
    """Return a case-folded text with what looks like Latin letters, or is a decimal digit, replaced by those."""
    return "".join(map(_as_latin, folded))


def _as_latin(character: str) -> str:
    digit = unicodedata.decimal(character, None)
    return _LATIN.get(character, character) if digit is None else str(digit)
