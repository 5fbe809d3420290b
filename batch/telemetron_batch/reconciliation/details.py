"""The details of rows: each distinct detail is stored once, as codes and as a sentence."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from telemetron_batch.domain.reasons import OpenQuestion, Reason, open_question_text, sentence


class Detail(NamedTuple):
    """Why a row has its outcome."""

    reason: int = Reason.NONE
    text: str = ""
    """Completes the reason's sentence."""
    open_question: int = OpenQuestion.NOTHING
    verification_text: str = ""
    """What the verification found, in words."""

    @property
    def words(self) -> str:
        """The whole detail as text."""
        parts = sentence(self.reason, self.text), self.verification_text, open_question_text(self.open_question)
        return "; ".join(filter(None, parts))


@dataclass(frozen=True, slots=True)
class Details:
    """Distinct details; a row refers to its detail by position."""

    entries: Sequence[Detail]
    texts: pa.Array = field(init=False)
    """Each detail as text."""
    reasons: npt.NDArray[np.int16] = field(init=False)
    open_question: npt.NDArray[np.int8] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "texts", pa.array([one.words for one in self.entries], pa.string()))
        object.__setattr__(self, "reasons", np.array([one.reason for one in self.entries], np.int16))
        object.__setattr__(self, "open_question", np.array([one.open_question for one in self.entries], np.int8))

    def __len__(self) -> int:
        return len(self.entries)

    def with_verification(self, code: int, words: str, open_question: OpenQuestion | None) -> Detail:
        """Return a detail with the result of the verification; `open_question` replaces its own unless None."""
        one = self.entries[code]
        return one._replace(
            verification_text=words, open_question=one.open_question if open_question is None else open_question
        )

    def extended(self, added: Iterable[Detail]) -> "Details":
        """Return these details followed by others."""
        return Details([*self.entries, *added])


class DetailCodes:
    """Collects details and gives each distinct one a position."""

    def __init__(self) -> None:
        self._codes = {Detail(): 0}

    def code(self, detail: Detail) -> int:
        """Return the position of a detail, which is added if it is new."""
        return self._codes.setdefault(detail, len(self._codes))

    def details(self) -> Details:
        """Return all details collected so far."""
        return Details([*self._codes])
