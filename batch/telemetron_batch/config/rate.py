"""The rate of attempts as a user writes it."""

import math
import re
from dataclasses import dataclass
from typing import ClassVar, Final

_UNITS: Final = {"s": 1.0, "sec": 1.0, "min": 60.0, "minute": 60.0, "h": 3600.0, "hour": 3600.0}
_RATE: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)\s*/\s*([a-z]+)", re.ASCII)
_DAY: Final = 86_400.0
_MAX_PER_SECOND: Final = 10_000.0


@dataclass(frozen=True, slots=True)
class Rate:
    """A maximum number of attempts in a number of seconds. `Rate.AUTO` is an unknown maximum."""

    attempts: float
    seconds: float = 1.0

    AUTO: ClassVar["Rate"]

    @classmethod
    def parse(cls, text: str) -> "Rate":
        """Parse `10/s`, `600/min`, `36000/h` or `auto`. Raises ValueError for other texts."""
        word = text.strip().lower()
        if word == "auto":
            return cls.AUTO
        match = _RATE.fullmatch(word)
        if match is None or match[2] not in _UNITS:
            raise ValueError(f"{text!r} is not a rate: write it as 10/s, 600/min, 36000/h or auto")
        rate = cls(float(match[1]), _UNITS[match[2]])
        if not 1 / _DAY <= rate.per_second <= _MAX_PER_SECOND:
            raise ValueError(f"{text!r} is out of range: from one attempt a day to {_MAX_PER_SECOND:.0f}/s")
        return rate

    @property
    def per_second(self) -> float:
        """Attempts per second; infinite for `AUTO`."""
        return self.attempts / self.seconds

    def share(self, at_once: int, place: int) -> "Rate":
        """Return the rate of the process at a `place` (from 0) of `at_once`, so that all together keep this rate.

        The sum holds in every window, because each process gets whole attempts. Raises ValueError if there are
        fewer whole attempts than processes.
        """
        whole = max(1, math.floor(self.attempts)) if self != Rate.AUTO else 0
        if at_once > whole:
            raise ValueError(f"{self} cannot be shared by {at_once} processes")
        return Rate(whole // at_once + (place < whole % at_once), self.seconds * whole / self.attempts)

    def __str__(self) -> str:
        if self.attempts == math.inf:
            return "auto"
        unit = {1.0: "s", 60.0: "min", 3600.0: "h"}.get(self.seconds, f"{self.seconds:g} s")
        return f"{self.attempts:.9f}".rstrip("0").rstrip(".") + f"/{unit}"


Rate.AUTO = Rate(math.inf)
