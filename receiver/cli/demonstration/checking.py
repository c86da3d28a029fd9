"""Fetches every file through the public API and compares it with what the sandbox says that it made."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from receiver.cli import api
from receiver.cli.demonstration.board import Asset, Row
from receiver.cli.demonstration.parts import StopRequest
from receiver.core.keeping import OF_VIDEO
from receiver.core.model import ENDS, Format, State
from receiver.transfer import media
from receiver.transfer.media import Completeness

#: A clip may be this much longer or shorter than ordered; an mp3 is padded to whole frames, a video to whole pictures.
TOLERANCE: Final = timedelta(seconds=0.3)
#: For the callbacks that are still on their way when all tasks have ended; the sandbox gives each 5 s.
CALLBACKS: Final = timedelta(seconds=10)
PAUSE: Final = timedelta(milliseconds=200)
#: What the sandbox's ledger calls no charge, and how replies to creates begin there that leave nothing in doubt.
NO_CHARGE: Final = "0"
SURE: Final = ("200 ", "4")


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """One file of the sandbox's ledger, or the sound inside a video of it."""

    #: None of a sound inside a video.
    bytes: int | None
    #: Lower-case hex; of a sound inside a video that of its AAC packets, one after the other.
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """The sandbox's own account: it is the judge."""

    charges: int
    #: By our task id, clip and format: what it made, and the sound to be cut out of videos that hold all there is.
    files: Mapping[tuple[str, str, str], Made]
    #: Callbacks that were not taken, and those that were due and never sent.
    lost: int
    #: How often each of our tasks was charged.
    charged: Mapping[str, int] = field(default_factory=dict)
    #: Charges of each provider that it plays.
    houses: Mapping[str, int] = field(default_factory=dict)
    #: Replies to creates of each provider that left in doubt whether the task was made.
    spoilt: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """The service's account."""

    accepted: int
    states: Mapping[State, int]
    received: int
    duplicates: int
    #: Of each account: the number accepted, and of these by state.
    by_account: Mapping[str, tuple[int, Mapping[State, int]]] = field(default_factory=dict)

    @property
    def open(self) -> int:
        """The number of tasks that have not ended."""
        return sum(number for state, number in self.states.items() if state not in ENDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """One file as it came through the public API."""

    task: str
    clip: str
    format: str
    #: 0 when it could not be fetched.
    bytes: int
    #: Of the bytes that came, lower-case hex; None when they could not be fetched.
    sha256: str | None
    #: The hash is that of the service's record and that of the sandbox's ledger.
    verified: bool
    #: Everything that is wrong with it.
    faults: tuple[str, ...]


def judge(sandbox: api.Client, stop: StopRequest, *, cuts: bool) -> Judged:
    """Read the sandbox's ledger, once no callback is on its way; *cuts*: the service cuts sound out of videos."""
    end = time.monotonic() + CALLBACKS.total_seconds()
    while True:
        told = sandbox.get("/control/ledger").document
        waiting = any(callback["outcome"] is None for task in told["tasks"] for callback in task["callbacks"])
        if not waiting or time.monotonic() > end:
            break
        stop.pause(PAUSE)
    return read(told, cuts=cuts)


def read(told: Mapping[str, Any], *, cuts: bool) -> Judged:
    """Read what the sandbox's ledger has *told*."""
    tasks = told["tasks"]
    outcomes = [callback["outcome"] for task in tasks for callback in task["callbacks"]]
    files = {key: made for task in tasks for key, made in _files(task, cuts=cuts)}
    lost = sum(outcome is None or not outcome.startswith("2") for outcome in outcomes)
    return Judged(
        charges=told["charges"],
        files=files,
        lost=lost,
        charged=Counter(task["external_task_id"] for task in tasks if task["charged"] != NO_CHARGE),
        houses={name: house["charges"] for name, house in told["houses"].items()},
        spoilt=Counter(
            order["house"]
            for order in (*tasks, *told["unmade"])
            for attempt in order["attempts"]
            if not attempt["reply"].startswith(SURE)
        ),
    )


def _files(task: Mapping[str, Any], *, cuts: bool) -> Iterator[tuple[tuple[str, str, str], Made]]:
    """Yield what a task of the sandbox's ledger gave."""
    ours = task["external_task_id"]
    for made in (*task["audios"], *task["videos"]):
        yield (ours, made["id"], made["format"]), Made(bytes=made["bytes"], sha256=made["sha256"])
    if cuts and not task["audios"]:
        for video in task["videos"]:
            yield (ours, video["id"], Format.M4A), Made(bytes=None, sha256=video["sound_sha256"])


def ledger(service: api.Client) -> Ledger:
    """Read the service's ledger."""
    told = service.get("/v1/ledger").document
    accepted: Counter[str] = Counter()
    states: dict[str, Counter[State]] = defaultdict(Counter)
    for line in told["lines"]:
        accepted[line["account"]] += line["accepted"]
        states[line["account"]].update({State(name): number for name, number in line["states"].items()})
    return Ledger(
        accepted=told["accepted"],
        states={State(name): number for name, number in told["states"].items()},
        received=told["callbacks"]["received"],
        duplicates=told["callbacks"]["duplicates"],
        by_account={account: (number, states[account]) for account, number in accepted.items()},
    )


def fetch_all(service: api.Client, rows: Sequence[Row], judged: Judged, stop: StopRequest) -> Iterator[Fetched]:
    """
    Fetch every stored file.

    Raises:
        Interrupted: A stop was asked for.
    """
    stored = [(row, asset) for row in rows for asset in row.assets if asset.state == "stored"]
    for row, asset in stored:
        stop.check()
        made = judged.files.get((asset.task, asset.clip, asset.format))
        yield _fetch(service, asset, made, timedelta(seconds=row.placed.order.seconds))


def _fetch(service: api.Client, asset: Asset, made: Made | None, ordered: timedelta) -> Fetched:
    try:
        data = service.content(asset.id)
    except (api.Problem, api.ServiceUnreachable) as exc:
        return _fetched(asset, b"", None, verified=False, faults=(f"not to be had: {exc}",))
    sha256 = hashlib.sha256(data).hexdigest()
    faults = [
        *([] if sha256 == asset.sha256 else ["another hash than the service recorded"]),
        *([] if len(data) == asset.bytes else ["another size than the service recorded"]),
        *_compare(data, sha256, made),
    ]
    verified = not faults
    form = Format(asset.format)
    if (fault := _walk(data, form, ordered) if form in OF_VIDEO else _listen(data, ordered)) is not None:
        faults.append(fault)
    return _fetched(asset, data, sha256, verified=verified, faults=tuple(faults))


def _fetched(asset: Asset, data: bytes, sha256: str | None, *, verified: bool, faults: tuple[str, ...]) -> Fetched:
    return Fetched(
        task=asset.task,
        clip=asset.clip,
        format=asset.format,
        bytes=len(data),
        sha256=sha256,
        verified=verified,
        faults=faults,
    )


def _compare(data: bytes, sha256: str, made: Made | None) -> list[str]:
    if made is None:
        return ["the sandbox never made it"]
    if made.bytes is None:
        return [] if _sound_sha256(data) == made.sha256 else ["another sound than in the sandbox's video"]
    return [] if (sha256, len(data)) == (made.sha256, made.bytes) else ["other bytes than the sandbox made"]


def _sound_sha256(data: bytes) -> str | None:
    """Return the hash of the packets of sound one after the other; None where there are none to be found."""
    import av  # noqa: PLC0415  it comes with the extra `video`, without which no sound is cut

    packets = hashlib.sha256()
    try:
        with av.open(io.BytesIO(data), "r", format="mov") as container:
            for packet in container.demux(audio=0):
                packets.update(bytes(packet))
    except (av.error.FFmpegError, IndexError):
        return None
    return packets.hexdigest()


def _listen(data: bytes, ordered: timedelta) -> str | None:
    """Decode the whole clip; say what is wrong with it."""
    import soundfile  # noqa: PLC0415  it comes with the extra `local`, which other commands do without

    try:
        samples, rate = soundfile.read(io.BytesIO(data))
    except soundfile.SoundFileError as exc:
        return f"it cannot be decoded: {exc}"
    return _measure(timedelta(seconds=len(samples) / rate), ordered)


def _walk(data: bytes, form: Format, ordered: timedelta) -> str | None:
    """Walk the whole video, or the sound out of one; say what is wrong with it."""
    found = media.sniff(io.BytesIO(data), len(data))
    if found.format is not form or found.completeness is not Completeness.COMPLETE or found.duration is None:
        return f"it is no whole {form}: {found.why}"
    return _measure(found.duration, ordered) if found.has_sound else "it has no sound"


def _measure(length: timedelta, ordered: timedelta) -> str | None:
    if abs(length - ordered) <= TOLERANCE:
        return None
    return f"it lasts {length.total_seconds():.1f} s, {ordered.total_seconds():.1f} s were ordered"


def is_installed() -> bool:
    """Say whether what decodes the clips is there."""
    return importlib.util.find_spec("soundfile") is not None
