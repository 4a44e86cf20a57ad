"""Ids that arrive twice."""

from telephony.engine.recent_ids import RecentIds


def test_an_id_is_new_only_once():
    ids = RecentIds()
    assert ids.add("a") is True
    assert ids.add("a") is False
    assert "a" in ids
    assert "b" not in ids


def test_the_oldest_ids_are_dropped():
    ids = RecentIds(most=2)
    for id in ("a", "b", "c"):
        ids.add(id)
    assert [id for id in ("a", "b", "c") if id in ids] == ["b", "c"]
