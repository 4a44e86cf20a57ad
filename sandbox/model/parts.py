"""Parts that the client events of both protocols have."""

from __future__ import annotations

from sandbox.model.fields import AnyObject, ByType, Choice, Fields, Spec, Tagged, Text

_VOICES = (
    "alloy",
    "ash",
    "ballad",
    "coral",
    "echo",
    "sage",
    "shimmer",
    "verse",
    "marin",
    "cedar",
)

NAME = Text(longest=64, pattern="[a-zA-Z0-9_-]+")
FUNCTION: dict[str, Spec] = {
    "type": Text(),
    "name": NAME,
    "description": Text(),
    "parameters": AnyObject(),
}
TOOL_CHOICE = ByType(
    text=Choice(("none", "auto", "required")),
    object=Tagged("type", {"function": Fields({"type": Text(), "name": NAME}, required=("name",))}),
)
INPUT_TEXT = Fields({"type": Text(), "text": Text()}, required=("text",))


def voice(*others: str) -> ByType:
    """Return the description of a voice: one that both protocols have, or one of the others."""
    return ByType(text=Choice((*_VOICES, *others)), object=Fields({"id": Text()}, required=("id",)))
