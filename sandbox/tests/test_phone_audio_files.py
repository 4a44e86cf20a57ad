"""Durations of audio files."""

import wave
from io import BytesIO

import pytest

from sandbox.phone.audio_files import AudioFileError, seconds_of

# MPEG-1 layer III, 128 kbit/s, 44.1 kHz: 417 bytes and 1152 samples per frame.
MPEG1 = b"\xff\xfb\x90\x00".ljust(417, b"\0")
# MPEG-2 layer III, 64 kbit/s, 24 kHz: 192 bytes and 576 samples per frame.
MPEG2 = b"\xff\xf3\x84\x00".ljust(192, b"\0")


def test_it_works() -> None:
    assert seconds_of(MPEG1 * 100) == pytest.approx(100 * 1152 / 44_100)
    assert seconds_of(MPEG2 * 50) == pytest.approx(50 * 576 / 24_000)


def test_tags_before_the_music_do_not_count() -> None:
    tag = b"ID3\x04\0\0\0\0\x01\x10" + b"\xff\xfb\x90\x00" * 36

    assert seconds_of(tag + MPEG1 * 10) == pytest.approx(10 * 1152 / 44_100)


def test_rubbish_between_frames_is_skipped() -> None:
    assert seconds_of(MPEG1 + b"rubbish" + MPEG1) == pytest.approx(2 * 1152 / 44_100)


def test_a_wav_file() -> None:
    file = BytesIO()
    with wave.open(file, "wb") as recording:
        recording.setnchannels(1)
        recording.setsampwidth(2)
        recording.setframerate(8000)
        recording.writeframes(bytes(8000))

    assert seconds_of(file.getvalue()) == 0.5


@pytest.mark.parametrize("body", [b"", b"<html></html>", b"RIFF0000", b"ID3", b"\xff" * 100])
def test_what_is_no_audio(body: bytes) -> None:
    with pytest.raises(AudioFileError):
        seconds_of(body)
