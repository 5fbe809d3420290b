"""The hash of a text is stable and evenly distributed."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetron_batch.storage.text_hash import hash_texts

TEXTS = st.lists(st.text(max_size=40), min_size=1, max_size=30)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("", 0x0000000000000000),
        ("a", 0x533DD45D55EDF485),
        ("a@x.com", 0xD359801EC9244899),
        ("jörg.müller@example.com", 0x52BF77265FBF3D72),
        ("SN-00000001", 0x8ED79A9B15891019),
        ("x" * 300, 0x70408536D8D4EA8F),
        ("x" * 1024, 0x61E0D8841CF60554),
    ],
)
def test_the_hash_of_a_text_never_changes(text: str, number: int) -> None:
    assert hash_texts(pa.array([text]))[0] == number


@given(TEXTS, st.integers(0, 5))
def test_a_hash_depends_on_no_other_text(texts: list[str], start: int) -> None:
    together = hash_texts(pa.array(texts, pa.string()))
    assert together.tolist() == [int(hash_texts(pa.array([text]))[0]) for text in texts]
    assert hash_texts(pa.array(texts, pa.string()).slice(start)).tolist() == together[start:].tolist()
    assert hash_texts(pa.array(texts, pa.large_string())).tolist() == together.tolist()


def test_a_long_text_is_hashed_by_its_beginning_and_length() -> None:
    texts = ["x" * 1025, "x" * 1024 + "y", "x" * 1026, "y" + "x" * 1024, "x" * 1023 + "yx"]
    numbers = hash_texts(pa.array(texts)).tolist()
    assert numbers[0] == numbers[1]
    assert len(set(numbers)) == 4


def test_no_texts_give_no_hashes() -> None:
    assert hash_texts(pa.array([], pa.string())).tolist() == []


@pytest.mark.parametrize("form", ["user{}@example.com", "SN-{:010}", "{}", "{:>260}"])
def test_texts_that_differ_in_a_digit_are_spread_evenly(form: str) -> None:
    hashes = hash_texts(pa.array([form.format(number) for number in range(64_000)]))
    assert len(np.unique(hashes)) == 64_000
    for shares in (2, 3, 64):
        found = np.bincount((hashes % np.uint64(shares)).astype(int), minlength=shares)
        assert found.min() > 0.85 * 64_000 / shares
        assert found.max() < 1.15 * 64_000 / shares
