"""What the client tells the model: instructions, thinking and commentary."""

from __future__ import annotations

from sandbox.model import persona
from sandbox.model.base import Event
from sandbox.model.errors import ClientError
from sandbox.model.live.clocked import ClockedSession
from sandbox.model.live.dialogue import Dialogue
from sandbox.model.live.speaker import Speaker
from sandbox.model.usage import text_tokens

ACK_MS = 150.0
MOST_APPENDED_TOKENS = 500


class Appends:
    def __init__(self, session: ClockedSession, speaker: Speaker, dialogue: Dialogue) -> None:
        self._session = session
        self._speaker = speaker
        self._dialogue = dialogue
        #: The tokens of all texts that the model has taken in.
        self.tokens = 0

    def append(self, event: Event) -> None:
        """Take in a text; it is acknowledged on the session's clock."""
        self._speaker.expect_no_fixture()
        self._dialogue.delegation.expect_client_task(event["delegation_id"])
        tokens = text_tokens(event["content"])
        if tokens > MOST_APPENDED_TOKENS:
            raise ClientError(
                f"Invalid 'content': too long. Expected at most {MOST_APPENDED_TOKENS} tokens, "
                f"but got {tokens} instead.",
                code="string_above_max_length",
                param="content",
            )
        self._session.after(ACK_MS, lambda: self._appended(event, tokens))

    def _appended(self, event: Event, tokens: int) -> None:
        self.tokens += tokens
        at = {"start_ms": self._session.clock_ms, "end_ms": self._session.clock_ms}
        self._session.answer(event, f"{event['type']}ed", **at)
        content = event["content"]
        match event["type"]:
            case "session.commentary.append":
                self._dialogue.delegation.acknowledge_no_more()
                self._speaker.utter(content)
            case "session.thinking.append":
                self._dialogue.delegation.acknowledge_no_more()
            case _ if persona.is_order_to_speak(content):
                self._dialogue.obey(content)
