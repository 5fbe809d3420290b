"""One new key for all workers whose key was refused."""

import asyncio
import threading
from collections.abc import Sequence

from telemetron_batch.api.key_renewal import KeyRenewal
from telemetron_batch.config.key_source import KeySource, KeyText
from telemetron_batch.domain.model import Secret
from telemetron_batch.storage.child_process import CommandFailedError
from tests.support.keys import KeyGiver

OLD, NEW = Secret("old-key"), Secret("new-key")


def replaced(renewal: KeyRenewal, refused: Sequence[Secret]) -> list[bool]:
    """Return what workers get that were refused these keys at once."""

    async def main() -> list[bool]:
        return await asyncio.gather(*map(renewal.replace, refused))

    return asyncio.run(main())


def test_workers_that_are_refused_at_once_get_one_new_key() -> None:
    giver = KeyGiver(["new-key"])
    renewal = KeyRenewal(giver.source(), OLD)
    assert replaced(renewal, [OLD] * 8) == [True] * 8
    assert (renewal.key, giver.runs) == (NEW, 1)


def test_a_late_refusal_of_the_old_key_is_repeated_with_the_new_one() -> None:
    giver = KeyGiver(["new-key"])
    renewal = KeyRenewal(giver.source(), OLD)
    assert replaced(renewal, [OLD]) == replaced(renewal, [OLD]) == [True]
    assert giver.runs == 1


def test_the_source_is_asked_once_only() -> None:
    giver = KeyGiver(["new-key", "third-key"])
    renewal = KeyRenewal(giver.source(), OLD)
    assert [*replaced(renewal, [OLD]), *replaced(renewal, [NEW, NEW])] == [True, False, False]
    assert (giver.runs, renewal.key) == (1, NEW)


def test_the_same_key_is_no_new_key() -> None:
    renewal = KeyRenewal(KeyGiver(["old-key"]).source(), OLD)
    assert replaced(renewal, [OLD, OLD]) == [False, False]
    assert renewal.problem == "--api-key-command gave the same key when asked again"


def test_a_source_that_fails_gives_no_key_and_says_why() -> None:
    renewal = KeyRenewal(KeyGiver([CommandFailedError("took longer than 10 s")]).source(), OLD)
    assert replaced(renewal, [OLD]) == [False]
    assert renewal.problem == "--api-key-command: the command took longer than 10 s"


def test_a_key_of_the_environment_cannot_be_replaced() -> None:
    assert replaced(KeyRenewal(KeySource(KeyText(OLD)), OLD), [OLD]) == [False]
    assert replaced(KeyRenewal(None, OLD), [OLD]) == [False]


def test_the_end_of_the_run_ends_the_command_and_asks_for_no_other_key() -> None:
    giver = KeyGiver(["new-key"])
    renewal = KeyRenewal(giver.source(), OLD)
    renewal.abort()
    assert replaced(renewal, [OLD]) == [False]
    assert giver.runs == 0


def test_the_end_of_the_run_kills_a_command_that_is_running() -> None:
    killed = threading.Event()
    loop = asyncio.new_event_loop()
    began = asyncio.Event()

    class Hanging(KeyGiver):
        def first_line(self) -> bytes:
            loop.call_soon_threadsafe(began.set)
            assert killed.wait(10)
            raise CommandFailedError("was ended, because the run ends")

        def abort(self) -> None:
            killed.set()

    renewal = KeyRenewal(Hanging(["never"]).source(), OLD)

    async def main() -> bool:
        waiting = asyncio.create_task(renewal.replace(OLD))
        await began.wait()
        renewal.abort()
        return await waiting

    assert loop.run_until_complete(main()) is False
    loop.close()
