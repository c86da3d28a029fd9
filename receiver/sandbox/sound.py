"""Synthesises clips: real audio, another one for every task."""

from __future__ import annotations

import io
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

import numpy as np
import numpy.typing as npt
import soundfile

from receiver.sandbox.records import Format

#: Samples a second, mono.
RATE: Final = 44_100
#: Samples in one MPEG-1 layer III frame.
MP3_FRAME: Final = 1152
#: Gives 128 kbit/s, as was seen in the wild (providers.md 2.5).
MP3_LEVEL: Final = 0.65

Samples = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """One encoded file."""

    format: Format
    data: bytes
    #: Seconds, as text in the reply.
    duration: str


def record(seed: int, seconds: Decimal) -> tuple[Recording, Recording]:
    """Return the clip of *seed* as mp3 and wav; the same seed gives the same sound. Costs about 20 ms a second."""
    samples = _synthesise(np.random.default_rng(seed), int(seconds * RATE))
    # An mp3 holds whole frames, and one more for the encoder's delay.
    frames = -(-len(samples) // MP3_FRAME) + 1
    return (
        _encode(samples, Format.MP3, f"{frames * MP3_FRAME / RATE:.3f}"),
        _encode(samples, Format.WAV, str(seconds)),
    )


def _synthesise(rng: np.random.Generator, length: int) -> Samples:
    """Lay a few fading partials over faint noise, with a soft start and end."""
    time = np.arange(length, dtype=np.float32) / RATE
    sound: Samples = rng.standard_normal(length, dtype=np.float32) * np.float32(0.02)
    base = rng.uniform(110.0, 440.0)
    for partial in range(1, 5):
        pitch = np.float32(2 * np.pi * base * partial * rng.uniform(0.99, 1.01))
        fade = np.exp(time * np.float32(-rng.uniform(0.05, 0.6)))
        sound += np.float32(0.3 / partial) * fade * np.sin(pitch * time, dtype=np.float32)
    ramp = np.linspace(0.0, 1.0, RATE // 50, dtype=np.float32)
    sound[: len(ramp)] *= ramp
    sound[-len(ramp) :] *= ramp[::-1]
    return np.clip(sound, -1.0, 1.0)


def _encode(samples: Samples, form: Format, duration: str) -> Recording:
    buffer = io.BytesIO()
    if form is Format.MP3:
        soundfile.write(buffer, samples, RATE, format="MP3", bitrate_mode="CONSTANT", compression_level=MP3_LEVEL)
    else:
        soundfile.write(buffer, samples, RATE, format="WAV", subtype="PCM_16")
    return Recording(format=form, data=buffer.getvalue(), duration=duration)
