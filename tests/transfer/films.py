"""Small films of every layout, made once for each process of tests."""

from __future__ import annotations

import hashlib
import io
import tempfile
from collections.abc import Iterator
from fractions import Fraction
from functools import cache
from typing import Any, Final

import av
import numpy as np

RATE: Final = 22_050
#: How a writer lays the boxes out.
FAST: Final = "+faststart"
LAST: Final = ""
FRAGMENTS: Final = "+frag_keyframe+empty_moov"


@cache
def film(
    *,
    seconds: float = 1.0,
    seed: int = 7,
    picture: bool = True,
    codec: str | None = "aac",
    flags: str = FAST,
    form: str = "mp4",
) -> bytes:
    """Return a film of noise; *codec* None leaves the sound out."""
    # To move the tables to the front, the writer opens what it wrote by name.
    with tempfile.NamedTemporaryFile() as file:
        _write(file.name, seconds=seconds, seed=seed, picture=picture, codec=codec, flags=flags, form=form)
        return file.read()


def _write(path: str, *, seconds: float, seed: int, picture: bool, codec: str | None, flags: str, form: str) -> None:
    options = {"fflags": "+bitexact"} | ({"movflags": flags} if flags else {})
    with av.open(path, "w", format=form, options=options) as container:
        streams: list[Any] = []
        if picture:
            video: Any = container.add_stream("mpeg4", rate=10)
            video.width, video.height, video.pix_fmt, video.options = 32, 32, "yuv420p", {"threads": "1"}
            streams.append((video, _pictures(int(seconds * 10), seed)))
        if codec is not None:
            rate = 48_000 if codec == "libopus" else RATE
            audio: Any = container.add_stream(codec, rate=rate, layout="mono")
            streams.append((audio, _sounds(int(seconds * rate), rate, audio, seed)))
        for stream, frames in streams:
            for frame in frames:
                container.mux(stream.encode(frame))
            container.mux(stream.encode())


def packets(data: bytes) -> str:
    """Return the SHA-256 of all packets of sound, one after the other."""
    digest = hashlib.sha256()
    with av.open(io.BytesIO(data), "r") as container:
        for packet in container.demux(audio=0):
            if packet.size:
                digest.update(bytes(packet))
    return digest.hexdigest()


def _pictures(number: int, seed: int) -> Iterator[av.VideoFrame]:
    noise = np.random.default_rng(seed)
    for at in range(number):
        frame = av.VideoFrame.from_ndarray(noise.integers(0, 255, (32, 32, 3), dtype=np.uint8), format="rgb24")
        frame.pts, frame.time_base = at, Fraction(1, 10)
        yield frame


def _sounds(number: int, rate: int, audio: Any, seed: int) -> Iterator[av.AudioFrame]:
    samples = np.random.default_rng(seed).normal(0, 0.1, number).astype(np.float32)
    resampler = av.AudioResampler(format=audio.format, layout="mono", rate=rate, frame_size=audio.frame_size or 1024)
    frame = av.AudioFrame.from_ndarray(samples[None, :], format="fltp", layout="mono")
    frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
    yield from resampler.resample(frame)
    yield from resampler.resample(None)
