"""Durations of audio files. The sound is not decoded: the caller hears a tone instead."""

from __future__ import annotations

import io
import wave

import aiohttp

from sandbox.phone.bodies import body_of

_LARGEST_FILE = 20 * 1024 * 1024
_TIMEOUT = aiohttp.ClientTimeout(total=15)

# MPEG audio, layer III, by version bits of the frame header (3 is MPEG-1, 2 is MPEG-2, 0 is 2.5):
# kilobits per second, samples per second, samples per frame.
_BITRATES_1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0)
_BITRATES_2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0)
_VERSIONS = {
    3: (_BITRATES_1, (44_100, 48_000, 32_000, 0), 1152),
    2: (_BITRATES_2, (22_050, 24_000, 16_000, 0), 576),
    0: (_BITRATES_2, (11_025, 12_000, 8_000, 0), 576),
}
_LAYER_III = 1


class AudioFileError(Exception):
    """There is no playable audio."""


async def audio_seconds(session: aiohttp.ClientSession, url: str) -> float:
    """Fetch a file and return its duration.

    :raises AudioFileError: it is missing, too large, or neither MP3 nor WAV.
    """
    async with session.get(url, timeout=_TIMEOUT) as response:
        if response.status != 200:
            raise AudioFileError(f"it answered {response.status}")
        body = await body_of(response, _LARGEST_FILE + 1)
    if len(body) > _LARGEST_FILE:
        raise AudioFileError("it is larger than 20 MiB")
    return seconds_of(body)


def seconds_of(body: bytes) -> float:
    """Return the duration of an MP3 or WAV file; raise :class:`AudioFileError` for others."""
    if body.startswith(b"RIFF"):
        try:
            with wave.open(io.BytesIO(body)) as file:
                return file.getnframes() / file.getframerate()
        except (wave.Error, EOFError) as error:
            raise AudioFileError(f"its WAV cannot be read: {error}") from None
    seconds = _mp3_seconds(body)
    if not seconds:
        raise AudioFileError("it is neither MP3 nor WAV")
    return seconds


def _mp3_seconds(body: bytes) -> float:
    """Add up the frames, since a file's bit rate may change."""
    at = _end_of_id3(body)
    seconds = 0.0
    while at + 4 <= len(body):
        frame = _mp3_frame(body[at : at + 4])
        if frame is None:
            at = body.find(b"\xff", at + 1)
            if at < 0:
                break
            continue
        size, duration = frame
        at += size
        seconds += duration
    return seconds


def _mp3_frame(header: bytes) -> tuple[int, float] | None:
    """Return a frame's size in bytes and its duration, or None when no frame begins here."""
    if header[0] != 0xFF or header[1] & 0xE0 != 0xE0 or header[1] >> 1 & 0x03 != _LAYER_III:
        return None
    if (version := _VERSIONS.get(header[1] >> 3 & 0x03)) is None:
        return None
    bitrates, rates, samples = version
    bits_per_second = bitrates[header[2] >> 4] * 1000
    rate = rates[header[2] >> 2 & 0x03]
    if not bits_per_second or not rate:
        return None
    return samples // 8 * bits_per_second // rate + (header[2] >> 1 & 1), samples / rate


def _end_of_id3(body: bytes) -> int:
    if not body.startswith(b"ID3") or len(body) < 10:
        return 0
    size = 0
    for byte in body[6:10]:
        size = size << 7 | byte & 0x7F
    return 10 + size
