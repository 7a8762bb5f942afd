"""What a key looks like."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.api_key import Scope, digest, is_formed, make_key, read_scopes, shown_part


def test_a_new_key_is_formed_and_unlike_all_others() -> None:
    keys = {make_key() for _ in range(200)}
    assert len(keys) == 200
    assert all(is_formed(key) and re.fullmatch(r"lk_[0-9A-Za-z]{49}", key) for key in keys)


@given(st.data())
def test_a_key_with_a_letter_wrong_is_known_for_one(data: st.DataObject) -> None:
    key = make_key()
    place = data.draw(st.integers(3, len(key) - 1))
    letter = data.draw(st.sampled_from("0aAzZ9qQ"))
    wrong = key[:place] + letter + key[place + 1 :]
    assert is_formed(wrong) == (wrong == key)


def test_what_is_no_key() -> None:
    key = make_key()
    assert not any(map(is_formed, ["", "lk_", "a", "lk_" + "a" * 49, f"sk_{key[3:]}", key[:-1], f"{key}a", f"{key}\n"]))


def test_a_key_of_the_first_form_is_still_one() -> None:
    assert is_formed("lk_" + "xY-_" * 10 + "abc")


def test_only_the_beginning_is_shown() -> None:
    key = make_key()
    assert key.startswith(shown_part(key))
    assert len(shown_part(key)) == 9
    assert key not in digest(key)


def test_scopes_are_read_by_name() -> None:
    assert read_scopes(["train", "admin"]) == {Scope.TRAIN, Scope.ADMIN}
    for wrong in (["root"], []):
        with pytest.raises(ValueError, match=r"root|a key needs a scope"):
            read_scopes(wrong)
