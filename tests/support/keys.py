"""A command that gives API keys, one after another, without a process; and an API that knows only some keys."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from telemetron_batch.config.key_source import KeyCommand, KeySource
from telemetron_batch.storage.child_process import CommandFailedError
from tests.support.scripted import Event, Says, Seen


@dataclass
class KeyGiver:
    """Gives these keys, the last one again and again; an exception in their place is how the command fails."""

    keys: Sequence[str | CommandFailedError]
    runs: int = 0
    aborts: int = 0
    environs: list[Mapping[str, str]] = field(default_factory=list)

    def source(self) -> KeySource:
        return KeySource(KeyCommand(("give-key", "telemetron")), self._command)

    def _command(self, _: Sequence[str], environ: Mapping[str, str], __: float) -> "KeyGiver":
        self.environs.append(environ)
        return self

    def first_line(self) -> bytes:
        key = self.keys[min(self.runs, len(self.keys) - 1)]
        self.runs += 1
        if isinstance(key, CommandFailedError):
            raise key
        return key.encode()

    def abort(self) -> None:
        self.aborts += 1


@dataclass
class KnowsKeys:
    """Refuses requests with another key than these; the text of the refusal shows the key."""

    keys: Collection[str]
    refused: list[Seen] = field(default_factory=list)

    def __call__(self, seen: Seen) -> Event:
        key = seen.headers["x-api-key"]
        if key in self.keys:
            return None
        self.refused.append(seen)
        return Says(401, {"error": f"Invalid API key {key}"})
