"""Ids that come twice."""

from telephony.engine.seen import Seen


def test_what_was_seen_is_known():
    seen = Seen()
    assert seen.add("a") is True
    assert seen.add("a") is False
    assert "a" in seen
    assert "b" not in seen


def test_the_oldest_are_forgotten():
    seen = Seen(most=2)
    for id in ("a", "b", "c"):
        seen.add(id)
    assert [id for id in ("a", "b", "c") if id in seen] == ["b", "c"]
