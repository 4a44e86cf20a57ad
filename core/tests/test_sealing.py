from __future__ import annotations

import pytest

from core.sealing import CannotUnseal, keyed_hashes, seal, unseal


def test_it_works():
    sealed = seal(b"whsec_1", purpose="one")
    assert b"whsec_1" not in sealed
    assert unseal(sealed, purpose="one") == b"whsec_1"


def test_the_same_text_is_never_sealed_alike():
    assert seal(b"whsec_1", purpose="one") != seal(b"whsec_1", purpose="one")


def test_it_takes_what_the_database_returns():
    assert unseal(memoryview(seal(b"x", purpose="one")), purpose="one") == b"x"


def test_another_purpose_cannot_open_it():
    with pytest.raises(CannotUnseal, match="two"):
        unseal(seal(b"whsec_1", purpose="one"), purpose="two")


@pytest.mark.parametrize(
    "damage", [lambda sealed: sealed[:-1], lambda sealed: sealed[:-5] + b"AAAA="]
)
def test_a_change_is_noticed(damage):
    with pytest.raises(CannotUnseal):
        unseal(damage(seal(b"whsec_1", purpose="one")), purpose="one")


def test_what_was_never_sealed_cannot_be_opened():
    with pytest.raises(CannotUnseal):
        unseal(b"", purpose="one")


def test_a_rotated_key_still_opens(settings):
    settings.SECRET_KEY = "old" * 20
    sealed = seal(b"whsec_1", purpose="one")
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "new" * 20, ["old" * 20]
    assert unseal(sealed, purpose="one") == b"whsec_1"


def test_only_the_new_key_seals(settings):
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "new" * 20, ["old" * 20]
    sealed = seal(b"whsec_1", purpose="one")
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "old" * 20, []
    with pytest.raises(CannotUnseal):
        unseal(sealed, purpose="one")


def test_a_dropped_key_opens_nothing(settings):
    settings.SECRET_KEY = "old" * 20
    sealed = seal(b"whsec_1", purpose="one")
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "new" * 20, []
    with pytest.raises(CannotUnseal):
        unseal(sealed, purpose="one")


def test_hashes_are_equal_where_message_and_purpose_are():
    hashes = keyed_hashes(b"you@company.example", purpose="one")
    assert len(hashes) == 1
    assert len(hashes[0]) == 64
    assert keyed_hashes(b"you@company.example", purpose="one") == hashes
    assert keyed_hashes(b"me@company.example", purpose="one") != hashes
    assert keyed_hashes(b"you@company.example", purpose="two") != hashes


def test_a_hash_of_before_the_rotation_is_found(settings):
    settings.SECRET_KEY = "old" * 20
    (old,) = keyed_hashes(b"x", purpose="one")
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "new" * 20, ["old" * 20]
    new, before = keyed_hashes(b"x", purpose="one")
    assert before == old != new
