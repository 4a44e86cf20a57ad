"""One session of the Realtime API, without a socket or a clock."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

from sandbox.model import persona
from sandbox.model.base import Event, ModelSession
from sandbox.model.conversation import Conversation, Item, decode_audio, item_from_client
from sandbox.model.errors import ClientError, ErrorBody, error_body
from sandbox.model.hearing import (
    BYTES_PER_MS,
    InputBuffer,
    SpeechStarted,
    SpeechStopped,
    VadSettings,
)
from sandbox.model.requests import check_event
from sandbox.model.response import Answer, Output, Pause, Response
from sandbox.model.script import Close, Script, Turn
from sandbox.model.settings import default_session, expect_mulaw, updated_session
from sandbox.model.usage import Meter, Tokens, text_tokens, transcription_usage

SHORTEST_COMMIT_MS = 100
TRANSCRIPT_MS = 900.0


class RealtimeSession(ModelSession):
    """The model's side of a connection, from ``session.created`` on."""

    def __init__(self, model: str, script: Script, number: int = 1, expires_at: int = 0) -> None:
        super().__init__(script, number)
        self.settings = default_session(self.new_id("sess"), model, expires_at)
        self.conversation = Conversation()
        self._conversation_id = self.new_id("conv")
        self._buffer = InputBuffer()
        self._apply_turn_detection()
        self._meter = Meter()
        self._response: Response | None = None
        self._running: Iterator[Output] = iter(())
        self._responses = 0
        self._unanswered: list[Item] = []
        self._speech_item = ""
        self._heard = 0

    def _opened(self) -> None:
        self.emit({"type": "session.created", "session": self.settings})

    def _handle(self, event: Event) -> None:
        _HANDLERS[check_event(event)](self, event)

    def fail(self, body: ErrorBody) -> None:
        self._refuse(body, None)
        if body.close:
            self._end(Close(body.close, body.reason))

    def expire(self) -> None:
        self.fail(error_body("session_expired"))

    def _refuse(self, body: ErrorBody, event_id: str | None) -> None:
        self.emit(body.event(event_id))

    # The session

    def _update_session(self, event: Event) -> None:
        changes = event["session"]
        settings = updated_session(
            self.settings, changes, voice_is_fixed=self.conversation.has_model_audio
        )
        if "instructions" in changes:
            self._read_script(settings["instructions"], "session.instructions")
        self.settings = settings
        self._apply_turn_detection()
        self.emit({"type": "session.updated", "session": settings})

    def _apply_turn_detection(self) -> None:
        detection = self._detection
        self._buffer.vad = VadSettings.of(detection) if detection else None

    # The caller's audio

    def _append_audio(self, event: Event) -> None:
        expect_mulaw(self.settings, "input")
        for detected in self._buffer.append(decode_audio(event["audio"], "audio")):
            match detected:
                case SpeechStarted(at_ms):
                    self._speech_started(at_ms)
                case SpeechStopped(at_ms):
                    self._speech_stopped(at_ms)

    def _speech_started(self, at_ms: int) -> None:
        self._speech_item = self.new_id("item")
        self.emit(
            {
                "type": "input_audio_buffer.speech_started",
                "audio_start_ms": at_ms,
                "item_id": self._speech_item,
            }
        )
        if self._detection["interrupt_response"]:
            self._cancel("turn_detected")

    def _speech_stopped(self, at_ms: int) -> None:
        self.emit(
            {
                "type": "input_audio_buffer.speech_stopped",
                "audio_end_ms": at_ms,
                "item_id": self._speech_item,
            }
        )
        self._commit()
        if self._detection["create_response"]:
            try:
                self._create_response({})
            except ClientError as error:
                self._refuse(error.body, None)

    @property
    def _detection(self) -> dict[str, Any]:
        detection: dict[str, Any] = self.settings["audio"]["input"]["turn_detection"]
        return detection

    def _commit_audio(self, _event: Event) -> None:
        if self._buffer.duration_ms < SHORTEST_COMMIT_MS:
            raise ClientError(
                "Error committing input audio buffer: buffer too small. Expected at least "
                f"{SHORTEST_COMMIT_MS}ms of audio, but buffer only has "
                f"{self._buffer.duration_ms:.2f}ms of audio.",
                code="input_audio_buffer_commit_empty",
            )
        self._commit()

    def _commit(self) -> None:
        """Turn the buffer's audio into an item of the conversation."""
        item_id, self._speech_item = self._speech_item or self.new_id("item"), ""
        content = [{"type": "input_audio", "transcript": None}]
        wire = {"id": item_id, "type": "message", "status": "completed", "role": "user"}
        item = Item({**wire, "content": content}, bytearray(self._buffer.take()))
        self.emit(
            {
                "type": "input_audio_buffer.committed",
                "previous_item_id": self.conversation.last_id,
                "item_id": item_id,
            }
        )
        self._add(item)
        self._transcribe(item)

    def _clear_audio(self, _event: Event) -> None:
        self._buffer.take()
        self._speech_item = ""
        self.emit({"type": "input_audio_buffer.cleared"})

    def _transcribe(self, item: Item) -> None:
        """Schedule the transcript for later, when the model may be responding already."""
        number, self._heard = self._heard, self._heard + 1
        listed = self.script.transcripts_ms
        delay_ms = listed[number] if number < len(listed) else TRANSCRIPT_MS
        if self.settings["audio"]["input"]["transcription"] and delay_ms is not None:
            self._timeline.after(delay_ms, lambda: self._transcribed(item))

    def _transcribed(self, item: Item) -> None:
        kind = "conversation.item.input_audio_transcription"
        of_item = {"item_id": item.id, "content_index": 0}
        if self.script.transcription_fails:
            error = {
                "type": "server_error",
                "code": "transcription_failed",
                "message": "Input transcription failed.",
                "param": None,
            }
            self.emit({"type": f"{kind}.failed", **of_item, "error": error})
            return
        settings = self.settings["audio"]["input"]["transcription"] or {"model": ""}
        transcript = item.text
        item.content[0]["transcript"] = transcript
        if transcript:
            self.emit({"type": f"{kind}.delta", **of_item, "delta": transcript})
        self.emit(
            {
                "type": f"{kind}.completed",
                **of_item,
                "transcript": transcript,
                "usage": transcription_usage(
                    settings["model"], len(item.audio) / BYTES_PER_MS, transcript
                ),
            }
        )

    # Items

    def _create_item(self, event: Event) -> None:
        item = item_from_client(event["item"], self.new_id("item"))
        self._add(item, event.get("previous_item_id"))

    def _add(self, item: Item, after: str | None = None) -> None:
        previous_id = self.conversation.add(item, after)
        for what in ("added", "done"):
            self.emit(
                {
                    "type": f"conversation.item.{what}",
                    "previous_item_id": previous_id,
                    "item": item.wire,
                }
            )
        if item.wants_an_answer:
            self._unanswered.append(item)
        elif item.is_from_model:  # of a history, in which it answered what came before
            self._unanswered.clear()

    def _truncate_item(self, event: Event) -> None:
        self.conversation.truncate(event["item_id"], event["audio_end_ms"])
        self.emit(
            {
                "type": "conversation.item.truncated",
                "item_id": event["item_id"],
                "content_index": event["content_index"],
                "audio_end_ms": event["audio_end_ms"],
            }
        )

    def _delete_item(self, event: Event) -> None:
        self.conversation.delete(event["item_id"])
        self.emit({"type": "conversation.item.deleted", "item_id": event["item_id"]})

    def _retrieve_item(self, event: Event) -> None:
        item = self.conversation.retrieve(event["item_id"])
        self.emit({"type": "conversation.item.retrieved", "item": item.with_audio()})

    # Responses

    def _ask_for_response(self, event: Event) -> None:
        self._create_response(event.get("response") or {})

    def _create_response(self, wanted: dict[str, Any]) -> None:
        if self._response:
            raise ClientError(
                f"Conversation already has an active response in progress: {self._response.id}. "
                "Wait until the response is finished before creating a new one.",
                code="conversation_already_has_active_response",
            )
        settings = {**self.settings, **{k: v for k, v in wanted.items() if v is not None}}
        answer = self._answer(settings, wanted)
        turn = self._next_turn(settings)
        self._response = Response(
            turn, answer, self.conversation, self._conversation_id, self._meter, self.new_id
        )
        self._unanswered.clear()
        self._responses += 1
        self._running = self._response.run()
        self._go_on()

    def _answer(self, settings: dict[str, Any], wanted: dict[str, Any]) -> Answer:
        changes = (wanted.get("audio") or {}).get("output") or {}
        output = {**self.settings["audio"]["output"], **changes}
        modality = settings["output_modalities"][0]
        if modality == "audio":
            expect_mulaw({"audio": {"output": output}}, "output")
        return Answer(
            modality=modality,
            audio={"output": {"format": output["format"], "voice": output["voice"]}},
            max_output_tokens=settings["max_output_tokens"],
            metadata=wanted.get("metadata"),
            instructions=Tokens(
                text_tokens(settings["instructions"] + json.dumps(settings["tools"]))
            ),
        )

    def _next_turn(self, settings: dict[str, Any]) -> Turn:
        """Return the script's turn, or the model's own."""
        instructions = settings["instructions"]
        is_greeting = self.script.greets and persona.exact_words(instructions) is not None
        if not is_greeting and (turn := self._scripted_turn()) is not None:
            return turn
        results = [i for i in self._unanswered if i.wire["type"] == "function_call_output"]
        said = [item for item in self._unanswered if item not in results]
        return self.reply(
            persona.Prompt(
                instructions=instructions,
                said=" ".join(item.text for item in said),
                results=[item.text for item in results],
                tools=settings["tools"],
                tool_choice=settings["tool_choice"],
                is_first=not self._responses,
            )
        )

    def reply(self, prompt: persona.Prompt) -> Turn:
        """Return what the model does when no script controls it."""
        return persona.reply(prompt)

    def _cancel_response(self, event: Event) -> None:
        wanted = event.get("response_id")
        if self._response is None or wanted not in (None, self._response.id):
            raise ClientError(
                "Cancellation failed: no active response found", code="response_cancel_not_active"
            )
        self._cancel("client_cancelled")

    def _cancel(self, reason: str) -> None:
        if self._response:
            self._response.cancel(reason)
            self._go_on()

    def _go_on(self) -> None:
        """Run the response to its next pause, or to its end."""
        running = self._running
        for output in running:
            if isinstance(output, Pause):
                if output.ms < math.inf:
                    self._timeline.after(output.ms, lambda: self._resume(running))
                return
            if isinstance(output, dict):
                self.emit(output)
            else:
                self.disturb(output)
                if self.is_over:
                    return
        self._response = None

    def _resume(self, running: Iterator[Output]) -> None:
        """Resume after a pause, unless the response was cancelled during it."""
        if self._response and running is self._running:
            self._go_on()


_HANDLERS = {
    "session.update": RealtimeSession._update_session,
    "input_audio_buffer.append": RealtimeSession._append_audio,
    "input_audio_buffer.commit": RealtimeSession._commit_audio,
    "input_audio_buffer.clear": RealtimeSession._clear_audio,
    "conversation.item.create": RealtimeSession._create_item,
    "conversation.item.truncate": RealtimeSession._truncate_item,
    "conversation.item.delete": RealtimeSession._delete_item,
    "conversation.item.retrieve": RealtimeSession._retrieve_item,
    "response.create": RealtimeSession._ask_for_response,
    "response.cancel": RealtimeSession._cancel_response,
}
