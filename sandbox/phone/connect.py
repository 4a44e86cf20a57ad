"""``<Connect><Stream>``: the call's audio goes to a websocket until that is closed."""

from __future__ import annotations

from datetime import UTC, datetime

from sandbox.phone.execution import Execution, Flow, Outcome
from sandbox.phone.stream import MediaStream, StreamError
from sandbox.phone.twiml import Verb


async def connect(run: Execution) -> Outcome:
    noun = run.verb.child("Stream")
    if noun is None:
        return Flow.GO_ON
    call = run.call
    parameters = {
        child.get("name"): child.get("value")
        for child in noun.children
        if child.name == "Parameter"
    }
    stream = call.new_stream(noun.get("url"), parameters)
    try:
        await stream.open(call.session, call.webhooks)
    except StreamError as error:
        call.journal.add("error", code=error.code, message=error.message)
        _report(run, noun, stream, "stream-error", str(error))
    else:
        await _converse(run, noun, stream)
    return Flow.HANG_UP if call.is_over else await run.ask_action()


async def _converse(run: Execution, noun: Verb, stream: MediaStream) -> None:
    """Return when the other side has closed the stream; stop it if the call is redirected."""
    call = run.call
    _report(run, noun, stream, "stream-started")
    call.stream = call.line.far_end = stream
    try:
        await stream.closed()
    finally:
        call.stream = call.line.far_end = None
        call.line.drop_playback()
        await stream.stop()
        event = "stream-error" if stream.error else "stream-stopped"
        _report(run, noun, stream, event, stream.error)
        if call.is_over:
            _tell_action_of_the_end(run)


def _tell_action_of_the_end(run: Execution) -> None:
    """Report that the person has hung up: the response is ignored."""
    if url := run.url("action"):
        run.call.notify("action", url, run.call.parameters(), method=run.verb.get("method"))


def _report(run: Execution, noun: Verb, stream: MediaStream, event: str, error: str = "") -> None:
    if not (url := run.of(noun).url("statusCallback")):
        return
    parameters = run.call.parameters() | {
        "StreamSid": stream.sid,
        "StreamName": noun.get("name") or stream.sid,
        "StreamEvent": event,
        "Timestamp": datetime.now(UTC).isoformat(),
    }
    if error:
        parameters["StreamError"] = error
    run.call.notify("stream-status", url, parameters, method=noun.get("statusCallbackMethod"))
