"""The command `notify --test`: a test message to every URL, and one ping."""

from dataclasses import dataclass
from socket import gethostname

from telemetron_batch.config.config import RunConfig
from telemetron_batch.domain.errors import ConfigError
from telemetron_batch.notices.announce import Audience, begin_messages, begin_ping, require_usable
from telemetron_batch.notices.policy import SUCCESS
from telemetron_batch.notices.text import trial_message
from telemetron_batch.sending.observer import RunObserver
from telemetron_batch.storage.clock import RealClock
from telemetron_batch.storage.redaction import Redactor


@dataclass(frozen=True, slots=True)
class TestLine:
    """What became of one test."""

    what: str
    problem: str | None
    """Why it failed, without secrets; None if it did not."""

    @property
    def text(self) -> str:
        """The line to print."""
        return f"{self.what}: {'sent' if self.problem is None else f'failed: {self.problem}'}"


def send_test(config: RunConfig) -> list[TestLine]:
    """Send a test message to every URL of `--notify`, and get that of `--ping`. Raises ConfigError without any."""
    options = config.notices
    if not options.notify and options.ping is None:
        raise ConfigError("neither --notify nor --ping is given", "give a URL, a profile, or a variable that has one")
    require_usable(options)
    audience = Audience.of(config, RunObserver(), RealClock())
    begin_messages(audience, trial_message(gethostname()), "test")
    begin_ping(audience, SUCCESS, "0")
    redactor = Redactor(*config.secrets)
    return [
        TestLine(one.what, None if one.problem is None else redactor.show(one.problem))
        for one in audience.deliveries.finish()
    ]
