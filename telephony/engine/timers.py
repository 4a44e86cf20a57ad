"""Named points in time."""

from __future__ import annotations


class Timers:
    def __init__(self) -> None:
        self._at: dict[str, float] = {}

    def set(self, name: str, at: float) -> None:
        self._at[name] = at

    def clear(self, name: str) -> None:
        self._at.pop(name, None)

    def clear_all(self, *, but: str = "") -> None:
        """Forget all names, but those that begin so."""
        kept = {name: at for name, at in self._at.items() if but and name.startswith(but)}
        self._at = kept

    def next(self) -> float | None:
        """Return the earliest point in time."""
        return min(self._at.values(), default=None)

    def due(self, now: float) -> list[str]:
        """Return the names whose time has come, earliest first, and forget them."""
        names = sorted((at, name) for name, at in self._at.items() if at <= now)
        for _, name in names:
            del self._at[name]
        return [name for _, name in names]
