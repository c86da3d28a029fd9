"""Reads what is ordered: one function for each product (providers.md 2.2)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from types import MappingProxyType
from typing import Final
from urllib.parse import urlsplit

from receiver.sandbox.answers import bad_parameter
from receiver.sandbox.checks import Fields, read_object
from receiver.sandbox.houses import House, Seconds
from receiver.sandbox.records import Order, Product

#: Unicode code points (providers.md D13).
MAX_PROMPT: Final = 200
MAX_VIDEO_PROMPT: Final = 2500
#: Seconds of a sound.
SHORTEST: Final = Decimal("3.0")
LONGEST: Final = Decimal("10.0")

VIDEO_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
VIDEO_TYPES: Final = (".mp4", ".mov")

_HOOKS: Final = frozenset({"external_task_id", "callback_url"})

#: The fields that each product takes, unless a house says otherwise.
FIELDS: Final[Mapping[Product, frozenset[str]]] = MappingProxyType(
    {
        Product.SOUND: _HOOKS | {"prompt", "duration"},
        Product.VIDEO_SOUND: _HOOKS | {"video_id", "video_url", "sound_effect_prompt", "bgm_prompt", "asmr_mode"},
        Product.VIDEO_SOUND_VIDEO: _HOOKS | {"video_url", "prompt", "audio_type"},
        Product.VIDEO: _HOOKS
        | {"model_name", "prompt", "negative_prompt", "cfg_scale", "mode", "sound", "aspect_ratio", "duration"},
        Product.NEW_VIDEO: frozenset({"prompt", "settings", "options"}),
    }
)

MODELS: Final = ("kling-v1", "kling-v1-6", "kling-v2-master", "kling-v2-1-master", "kling-v2-5-turbo", "kling-v2-6")
#: Of `MODELS`: the only one that can make sound.
SOUNDING: Final = "kling-v2-6"
RATIOS: Final = ("16:9", "9:16", "1:1")
VIDEO_SECONDS: Final = ("5", "10")


def read_order(body: bytes, product: Product, house: House) -> Order:
    """
    Read the body of a create.

    Empty text counts as absent for the optional fields, as in the vendor's own
    example (providers.md 2.2).

    Raises:
        Refusal: 1200 when it is no JSON object, 1201 when a field is wrong.
    """
    fields = read_object(body)
    fields.refuse_others(house.fields.get(product, FIELDS[product]))
    return READERS[product](fields, house)


def _sound(fields: Fields, house: House) -> Order:
    fields.require("prompt", "duration")
    return Order(
        prompt=fields.text("prompt", MAX_PROMPT, least=1) or "",
        duration=_duration(fields.value("duration"), house.seconds),
        external_id=fields.text("external_task_id"),
        callback_url=fields.url("callback_url"),
    )


def _video_sound(fields: Fields, _house: House) -> Order:
    video_id, video_url = fields.text("video_id"), _video_url(fields)
    if (video_id is None) == (video_url is None):
        raise bad_parameter("exactly one of video_id and video_url is required")
    if video_id is not None and not VIDEO_ID.fullmatch(video_id):
        raise bad_parameter("video_id is no id")
    fields.flag("asmr_mode")
    return Order(
        product=Product.VIDEO_SOUND,
        prompt=_words(fields, MAX_PROMPT, "sound_effect_prompt", "bgm_prompt"),
        duration=None,
        video_id=video_id,
        video_url=video_url,
        external_id=fields.text("external_task_id"),
        callback_url=fields.url("callback_url"),
    )


def _video_sound_video(fields: Fields, _house: House) -> Order:
    fields.require("video_url")
    video_url = _video_url(fields)
    if video_url is None:
        raise bad_parameter("video_url is empty")
    return Order(
        product=Product.VIDEO_SOUND_VIDEO,
        prompt=_words(fields, MAX_VIDEO_PROMPT, "prompt", "audio_type"),
        duration=None,
        video_url=video_url,
        external_id=fields.text("external_task_id"),
        callback_url=fields.url("callback_url"),
    )


def _video(fields: Fields, _house: House) -> Order:
    fields.require("prompt")
    model = fields.word("model_name", MODELS, MODELS[0])
    sound = fields.word("sound", ("on", "off"), "off") == "on"
    if sound and model != SOUNDING:
        raise bad_parameter(f"sound is supported by {SOUNDING} only")
    fields.word("mode", ("std", "pro"), "std")
    fields.word("aspect_ratio", RATIOS, RATIOS[0])
    scale = fields.value("cfg_scale")
    if isinstance(scale, bool) or not isinstance(scale, int | Decimal | None) or not 0 <= (scale or 0) <= 1:
        raise bad_parameter("cfg_scale must be a number from 0 to 1")
    fields.text("negative_prompt", MAX_VIDEO_PROMPT)
    return Order(
        product=Product.VIDEO,
        prompt=fields.text("prompt", MAX_VIDEO_PROMPT, least=1) or "",
        duration=Decimal(fields.word("duration", VIDEO_SECONDS, VIDEO_SECONDS[0])),
        sound=sound,
        external_id=fields.text("external_task_id"),
        callback_url=fields.url("callback_url"),
    )


def _new_video(fields: Fields, _house: House) -> Order:
    fields.require("prompt")
    settings, options = fields.inside("settings"), fields.inside("options")
    settings.refuse_others({"audio", "resolution", "aspect_ratio", "duration"})
    options.refuse_others({"callback_url", "external_task_id", "watermark_info"})
    watermark = options.inside("watermark_info")
    watermark.refuse_others({"enabled"})
    watermark.flag("enabled")
    sound = settings.word("audio", ("native", "off"), "off") == "native"
    resolution = settings.word("resolution", ("720p", "1080p"), "720p")
    if sound and resolution != "1080p":
        raise bad_parameter("settings.audio native needs settings.resolution 1080p")
    settings.word("aspect_ratio", RATIOS, RATIOS[0])
    seconds = settings.value("duration") if settings.has("duration") else int(VIDEO_SECONDS[0])
    if isinstance(seconds, bool) or not isinstance(seconds, int) or str(seconds) not in VIDEO_SECONDS:
        raise bad_parameter(f"settings.duration must be one of {', '.join(VIDEO_SECONDS)}")
    return Order(
        product=Product.NEW_VIDEO,
        prompt=fields.text("prompt", MAX_VIDEO_PROMPT, least=1) or "",
        duration=Decimal(seconds),
        sound=sound,
        external_id=options.text("external_task_id"),
        callback_url=options.url("callback_url"),
    )


READERS: Final[Mapping[Product, Callable[[Fields, House], Order]]] = MappingProxyType(
    {
        Product.SOUND: _sound,
        Product.VIDEO_SOUND: _video_sound,
        Product.VIDEO_SOUND_VIDEO: _video_sound_video,
        Product.VIDEO: _video,
        Product.NEW_VIDEO: _new_video,
    }
)


def _words(fields: Fields, most: int, *names: str) -> str:
    return "\n".join(text for name in names if (text := fields.text(name, most)))


def _video_url(fields: Fields) -> str | None:
    """Read it; how long and how large the video is, nobody looks."""
    url = fields.url("video_url")
    if url is not None and not urlsplit(url).path.lower().endswith(VIDEO_TYPES):
        raise bad_parameter("video_url must end with .mp4 or .mov")
    return url


def _duration(value: object, seconds: Seconds) -> Decimal:
    if isinstance(value, str) and seconds is Seconds.TEXT:
        value = _decimal(value)
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise bad_parameter("duration must be a number")
    duration = Decimal(value)
    if not SHORTEST <= duration <= LONGEST:
        raise bad_parameter(f"duration must be from {SHORTEST} to {LONGEST}")
    step = Decimal(1) if seconds is Seconds.WHOLE else Decimal("0.1")
    if duration.quantize(step) != duration:
        raise bad_parameter(f"duration must be a multiple of {step}")
    return duration.quantize(Decimal("0.1"))


def _decimal(text: str) -> Decimal:
    try:
        value = Decimal(text)
    except InvalidOperation as exc:
        raise bad_parameter("duration must be a number") from exc
    if not value.is_finite():
        raise bad_parameter("duration must be a number")
    return value
