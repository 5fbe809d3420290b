"""The columns of a DataFrame are found by the rules of files, without a search for a header."""

import pytest

from telemetron_batch.domain.actions import Action
from telemetron_batch.domain.errors import ConfigError, InputError
from telemetron_batch.domain.model import InputOptions, OwnersOption, OwnerSource
from telemetron_batch.input.frame_dialect import frame_dialect

KEYS = ("customerEmail", "deviceIdentifier", "action")


def test_columns_are_found_by_name_alias_and_option() -> None:
    assert frame_dialect(["x", *KEYS], InputOptions()).columns == dict(zip(KEYS, (1, 2, 3), strict=True))
    named = frame_dialect(["Email", " SERIAL no. ", "Was"], InputOptions(columns={"action": "was"}))
    assert named.columns == dict(zip(KEYS, (0, 1, 2), strict=True))


def test_rows_are_numbered_from_one() -> None:
    dialect = frame_dialect(KEYS, InputOptions(), body_offset=7)
    assert (dialect.first_line, dialect.numbers_records, dialect.body_offset) == (1, True, 7)


def test_columns_that_options_make_needless_may_be_missing() -> None:
    owners = InputOptions(action=Action.UNASSIGN, owners=OwnersOption(OwnerSource.RUNS))
    assert frame_dialect(["Serial"], owners).columns == {"deviceIdentifier": 0}


def test_missing_columns_are_named_with_those_that_are_there() -> None:
    with pytest.raises(InputError) as caught:
        frame_dialect(["a", "b\x1b"], InputOptions())
    assert caught.value.reason == (
        'no column for customerEmail, deviceIdentifier and action; its columns are "a", "b\\x1b"'
    )
    assert 'action="assign"' in caught.value.advice


def test_many_columns_are_shortened_and_too_many_refused() -> None:
    with pytest.raises(InputError) as caught:
        frame_dialect([f"c{at}" for at in range(30)], InputOptions())
    assert caught.value.reason.endswith('"c19" and 10 more')
    with pytest.raises(InputError, match="20000 columns, and at most 16384 are read"):
        frame_dialect([f"c{at}" for at in range(20_000)], InputOptions())


def test_a_column_that_is_found_twice_or_given_twice_is_refused() -> None:
    with pytest.raises(InputError, match="deviceIdentifier is found 2 times"):
        frame_dialect([*KEYS, "deviceIdentifier"], InputOptions())
    with pytest.raises(ConfigError, match="to both"):
        frame_dialect(KEYS, InputOptions(columns={"customerEmail": "action", "action": "action"}))
