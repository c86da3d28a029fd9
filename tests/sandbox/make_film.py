"""
Makes the two films that the sandbox ships; run it again only to change them.

    python -m tests.sandbox.make_film

The sound is a row of notes, each as long as a whole number of AAC packets, so
that `receiver.sandbox.film` can play them in another order for every task.
"""

import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from receiver.sandbox import film

FOLDER = Path(film.__file__).with_name("reels")

WIDTH, HEIGHT, FRAMES_A_SECOND = 192, 108, 10
RATE, PACKET = 44_100, 1024
#: Hertz: two octaves of a scale that has no wrong order.
NOTES = (220.0, 246.94, 277.18, 329.63, 369.99, 440.0, 493.88, 554.37, 659.26, 739.99)

SAMPLES = PACKET * film.NOTE_PACKETS


def picture(number: int, frames: int) -> av.VideoFrame:
    """Return a bar that moves over a slow gradient."""
    across = np.linspace(0, 1, WIDTH)[None, :]
    down = np.linspace(0, 1, HEIGHT)[:, None]
    turn = 2 * np.pi * number / frames
    levels = [0.5 + 0.4 * np.sin(turn + shift + 2 * across + down) for shift in (0.0, 2.1, 4.2)]
    image = (np.stack(levels, axis=-1) * 255).astype(np.uint8)
    left = number * (WIDTH - 12) // frames
    image[HEIGHT // 3 : 2 * HEIGHT // 3, left : left + 12] = 255
    return av.VideoFrame.from_ndarray(image, format="rgb24")


def music() -> np.ndarray:
    """Return the notes one after the other, each with a soft start and end."""
    time = np.arange(SAMPLES) / RATE
    shape = np.minimum(1, np.minimum(time, time[::-1]) / 0.03) * np.exp(-2 * time)
    tones = [sum(np.sin(2 * np.pi * note * k * time) / k for k in (1, 2, 3)) for note in NOTES]
    return np.concatenate([0.3 * shape * tone for tone in tones]).astype(np.float32)


def make(path: Path, *, sound: bool) -> None:
    """Write one film."""
    samples = music()
    frames = -(-len(samples) * FRAMES_A_SECOND // RATE)
    with av.open(str(path), "w", options={"movflags": "+faststart", "fflags": "+bitexact"}) as container:
        video = container.add_stream("libx264", rate=FRAMES_A_SECOND)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        video.options = {"crf": "30", "preset": "slow", "profile": "baseline", "threads": "1"}
        audio = container.add_stream("aac", rate=RATE, layout="mono") if sound else None
        if audio is not None:
            audio.bit_rate = 56_000
        for number in range(frames):
            container.mux(video.encode(picture(number, frames)))
        container.mux(video.encode())
        if audio is not None:
            for start in range(0, len(samples), PACKET):
                frame = av.AudioFrame.from_ndarray(samples[None, start : start + PACKET], format="fltp", layout="mono")
                frame.sample_rate, frame.pts, frame.time_base = RATE, start, Fraction(1, RATE)
                container.mux(audio.encode(frame))
            container.mux(audio.encode())


def main() -> None:
    """Write both."""
    FOLDER.mkdir(exist_ok=True)
    for name, sound in (("sound.mp4", True), ("silent.mp4", False)):
        make(FOLDER / name, sound=sound)
        sys.stdout.write(f"{name}: {(FOLDER / name).stat().st_size} bytes\n")


if __name__ == "__main__":
    main()
