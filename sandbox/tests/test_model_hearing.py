"""Detection of where speech begins and ends."""

from hypothesis import given
from hypothesis import strategies as st

from sandbox import speech
from sandbox.model.hearing import InputBuffer, SpeechStarted, SpeechStopped, VadSettings

SILENCE = speech.SILENCE
SECOND = [SILENCE] * 50


def listening(vad: VadSettings | None) -> InputBuffer:
    buffer = InputBuffer()
    buffer.vad = vad
    return buffer


def detected(buffer: InputBuffer, frames: list[bytes]) -> list[SpeechStarted | SpeechStopped]:
    return [event for frame in frames for event in buffer.append(frame)]


def test_it_works() -> None:
    buffer = listening(VadSettings(pause_ms=500, prefix_ms=300))
    started, stopped = detected(buffer, [*SECOND, *speech.frames("Hello"), *SECOND])

    # Before the word is a breath of 40 ms; the speech begins with the padding before its sound.
    assert started == SpeechStarted(at_ms=1000 + 40 - 300)
    assert stopped == SpeechStopped(at_ms=1000 + 240 + 500)


def test_the_buffer_holds_what_was_said() -> None:
    buffer = listening(VadSettings())
    said = ""
    for frame in [*SECOND, *speech.frames("Hello there"), *SECOND, *SECOND]:
        for event in buffer.append(frame):
            if isinstance(event, SpeechStopped):
                said = speech.hear([buffer.take()])

    assert said == "Hello there"
    assert buffer.duration_ms < 1_000


@given(st.lists(st.integers(1, 700), min_size=1))
def test_how_the_audio_is_cut_does_not_matter(lengths: list[int]) -> None:
    audio = b"".join([*SECOND, *speech.frames("Who is there?"), *SECOND])
    pieces, at = [], 0
    while at < len(audio):
        for length in lengths:
            pieces.append(audio[at : at + length])
            at += length

    assert detected(listening(VadSettings()), pieces) == detected(listening(VadSettings()), [audio])


def test_two_turns() -> None:
    turn = [*speech.frames("Hello"), *SECOND]
    events = detected(listening(VadSettings()), [*turn, *turn])

    assert [type(event) for event in events] == [SpeechStarted, SpeechStopped] * 2


def test_a_short_pause_is_part_of_the_turn() -> None:
    frames = [*speech.frames("Well"), *SECOND[:20], *speech.frames("yes"), *SECOND]

    assert len(detected(listening(VadSettings(pause_ms=500)), frames)) == 2
    assert len(detected(listening(VadSettings(pause_ms=300)), frames)) == 4


def test_silence_and_clicks_are_no_speech() -> None:
    click = bytes([0x10]) * 160
    hum = bytes([0xE0]) * 160

    assert detected(listening(VadSettings()), [*SECOND, click, *SECOND, *[hum] * 50]) == []


def test_a_lower_threshold_hears_more() -> None:
    hum = [bytes([0xE0]) * 160] * 50

    assert detected(listening(VadSettings(threshold=0.2)), hum) == [SpeechStarted(0)]


def test_silence_does_not_pile_up() -> None:
    buffer = listening(VadSettings(prefix_ms=300))
    detected(buffer, SECOND * 60)

    assert buffer.duration_ms <= 400


def test_without_detection_everything_is_kept() -> None:
    buffer = listening(None)

    assert detected(buffer, [*SECOND, *speech.frames("Hello"), b"\xff" * 10]) == []
    assert buffer.duration_ms == 1000 + 240 + 10 / 8
    assert speech.hear([buffer.take()]) == "Hello"
    assert buffer.duration_ms == 0


def test_settings_of_a_session() -> None:
    assert VadSettings.of({"type": "semantic_vad", "eagerness": "low"}).pause_ms == 1_000
    assert VadSettings.of(
        {
            "type": "server_vad",
            "silence_duration_ms": 200,
            "prefix_padding_ms": 100,
            "threshold": 0.7,
        }
    ) == VadSettings(pause_ms=200, prefix_ms=100, threshold=0.7)
