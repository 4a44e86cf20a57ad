"""Verbs that need only the line: speech, keys, another number."""

from __future__ import annotations

import asyncio

import aiohttp

from sandbox.phone.audio_files import AudioFileError, audio_seconds
from sandbox.phone.execution import Execution, Flow, Outcome
from sandbox.phone.identity import is_phone_number, new_sid
from sandbox.phone.twiml import TwimlError
from sandbox.speech import frames, hold_tone

_KEY_TONE_S = 0.3
_DIAL_TIMEOUT_S = 30
_GATHER_TIMEOUT_S = 5
_SPEECH_TIMEOUT_MS = 1_000
# loop="0" repeats without end, but this call must end.
_FOR_EVER = 1_000


async def say(run: Execution) -> Outcome:
    for _ in range(_repetitions(run)):
        await run.call.play_out(b"".join(frames(run.verb.text)))
    return Flow.GO_ON


async def play(run: Execution) -> Outcome:
    if keys := run.verb.get("digits"):
        await run.call.clock.sleep(len(keys) * _KEY_TONE_S)
        return Flow.GO_ON
    journal = run.call.journal
    url = run.document.address(run.verb.text)
    try:
        seconds = await audio_seconds(run.call.session, url)
    except (AudioFileError, aiohttp.ClientError, TimeoutError) as error:
        journal.add("error", code=11200, message=f"{url} cannot be played: {error}")
        return Flow.GO_ON
    journal.add("plays", url=url, seconds=round(seconds, 2))
    for _ in range(_repetitions(run)):
        await run.call.play_out(hold_tone(seconds))
    return Flow.GO_ON


async def pause(run: Execution) -> Outcome:
    await run.call.clock.sleep(run.verb.number("length", 1))
    return Flow.GO_ON


async def redirect(run: Execution) -> Outcome:
    url = run.document.address(run.verb.text)
    return await run.call.fetch("redirect", url, method=run.verb.get("method"))


async def hang_up(_run: Execution) -> Outcome:
    return Flow.HANG_UP


async def dial(run: Execution) -> Outcome:
    """Call another person, who says their lines and hangs up."""
    noun = run.verb.child("Number")
    number = noun.text if noun else run.verb.text
    if not is_phone_number(number):
        raise TwimlError(13224, f"Dial: {number!r} is no valid phone number")
    call, callee = run.call, run.callee_of(number)
    timeout = run.verb.number("timeout", _DIAL_TIMEOUT_S)
    call.journal.add("dials", number=number)
    await call.clock.sleep(min(callee.rings_for, timeout))
    duration = 0.0
    if callee.rings_for > timeout:
        status = "no-answer"
    elif not callee.picks_up:
        status = callee.answers
    else:
        status = "completed"
        begun = call.clock.now()
        call.journal.add("dial-answered", number=number)
        for line in callee.lines:
            await run.call.play_out(b"".join(frames(line)))
            await call.clock.sleep(1)
        duration = call.clock.now() - begun
    call.journal.add("dial-ended", number=number, status=status)
    return await run.ask_action(
        DialCallSid=new_sid("CA"),
        DialCallStatus=status,
        DialCallDuration=str(round(duration)),
        DialBridged=str(status == "completed").lower(),
    )


async def gather(run: Execution) -> Outcome:
    """Collect keys, and speech if requested, while the nested verbs are executed."""
    prompts = asyncio.create_task(_prompt(run))
    try:
        result = await _collect(run, prompts)
    finally:
        prompts.cancel()
        await asyncio.wait({prompts})
    if not result and run.verb.get("actionOnEmptyResult") != "true":
        return Flow.GO_ON
    url = run.document.address(run.verb.get("action"))
    return await run.call.fetch("gather", url, method=run.verb.get("method"), **result)


async def _prompt(run: Execution) -> None:
    carry_out = {"Say": say, "Play": play, "Pause": pause}
    for child in run.verb.children:
        if verb := carry_out.get(child.name):
            await verb(run.of(child))


async def _collect(run: Execution, prompts: asyncio.Task[None]) -> dict[str, str]:
    """Return Twilio's result parameters; empty if no input came in time."""
    line, verb = run.call.line, run.verb
    said_before = line.said if "speech" in verb.get("input", "dtmf") else None

    def has_spoken() -> bool:
        return said_before not in (None, line.said) and line.mute_ms >= _SPEECH_TIMEOUT_MS

    most, finish = verb.number("numDigits", 0), verb.get("finishOnKey", "#")
    digits = ""
    await line.until(lambda: prompts.done() or bool(line.keys) or has_spoken())
    while await line.until(
        lambda: bool(line.keys) or has_spoken(), within=verb.number("timeout", _GATHER_TIMEOUT_S)
    ):
        prompts.cancel()
        if not line.keys:
            speech = line.said.removeprefix(said_before or "").strip()
            return {"SpeechResult": speech, "Confidence": "1.0"}
        key = line.keys.popleft()
        digits += key if key != finish else ""
        if key == finish or len(digits) == most:
            break
    return {"Digits": digits} if digits else {}


def _repetitions(run: Execution) -> int:
    return int(run.verb.number("loop", 1)) or _FOR_EVER
