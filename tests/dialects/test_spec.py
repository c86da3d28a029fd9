"""Profiles: what loads, and how a bad file is named."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest

from receiver.core.errors import Misconfigured
from receiver.core.model import CreateId, Format, SignatureMode
from receiver.dialects import spec

RESELLER = """\
extends = "kling"
name = "seventh-heaven"
base_url = "https://api.example.net"
create_id = "none"
window_hours = 24
signature_mode = "none"
credentials = ["api_key"]
sources = ["https://docs.example.net"]

[envelope]
ok = ["success", "0"]
bare = true

[errors.codes]
task_not_exist = "missing"

[errors.statuses]
429 = "rate"

[kinds.text-to-audio]
create_path = "/kling/v1/audio/text-to-audio"
query_path = "/kling/v1/audio/text-to-audio/{id}"

[kinds.text-to-audio.fields.duration]
send_as = "text"

[kinds.video-to-audio]
create_path = "/kling/v1/audio/video-to-audio"
query_path = "/kling/v1/audio/video-to-audio/{id}"
formats = ["mp3"]
exactly_one = [["video_id", "video_url"]]
external_id_path = ""

[kinds.video-to-audio.fields.video_id]
type = "string"

[kinds.video-to-audio.fields.video_url]
type = "string"

[kinds.video-to-audio.fields.asmr_mode]
type = "boolean"
default = false
"""


def test_the_catalog_holds_kling_as_documented() -> None:
    kling = spec.catalog()["kling"]

    assert kling.base_url == "https://api-singapore.klingai.com"
    assert kling.create_id is CreateId.ENFORCED
    assert kling.query
    assert kling.window == timedelta(days=30)
    assert "klingai.com" in kling.asset_hosts
    kind = kling.kinds["text-to-audio"]
    assert kind.create_path == kind.list_path == "/v1/audio/text-to-audio"
    assert kind.query_path == "/v1/audio/text-to-audio/{id}"
    assert [field.name for field in kind.fields] == ["prompt", "duration"]
    assert set(kind.formats) == {Format.MP3, Format.WAV}


def test_the_sandbox_is_kling_on_loopback() -> None:
    kling, sandbox = spec.catalog()["kling"], spec.catalog()["sandbox"]

    assert sandbox.kinds == kling.kinds
    assert sandbox.codes == kling.codes
    assert sandbox.base_url == "http://127.0.0.1:8090"
    assert sandbox.asset_hosts == ("127.0.0.1", "localhost")
    assert sandbox.usual == timedelta(seconds=2)
    assert sandbox.concurrency == kling.concurrency


def test_a_reseller_is_a_file() -> None:
    profile = spec.load(RESELLER, origin="seventh-heaven.toml")

    assert profile.create_id is CreateId.NONE
    assert profile.window == timedelta(hours=24)
    assert profile.signature_mode is SignatureMode.NONE
    assert profile.codes["task_not_exist"] is spec.ErrorClass.MISSING
    assert profile.codes["1303"] is spec.ErrorClass.CONCURRENCY
    assert profile.kinds["text-to-audio"].fields[1].send_as is spec.SendAs.TEXT
    assert profile.kinds["text-to-audio"].fields[1].max == 10.0
    assert profile.kinds["video-to-audio"].external_id_path is None
    assert profile.kinds["video-to-audio"].exactly_one == (("video_id", "video_url"),)


@pytest.mark.parametrize(
    ("old", "new", "line", "key"),
    [
        ("window_hours = 24", "window_hour = 24", 5, "window_hour: unknown key"),
        ("window_hours = 24", "window_hours = 0", 5, "window_hours"),
        ("window_hours = 24", "window_hours = nan", 5, "window_hours"),
        ("window_hours = 24", 'window_hours = "24"', 5, "window_hours"),
        ("window_hours = 24", "concurrency = 0", 5, "concurrency"),
        ("window_hours = 24", "concurrency = 1.5", 5, "concurrency"),
        ("window_hours = 24", "usual_seconds = 90000", 5, "usual_seconds"),
        ("window_hours = 24", "create_timeout_seconds = 601", 5, "create_timeout_seconds"),
        ("window_hours = 24", 'query = "yes"', 5, "query"),
        ("window_hours = 24", "query = false", 22, "kinds.text-to-audio.query_path"),
        ("window_hours = 24", 'asset_hosts = ["*.example.net"]', 5, "asset_hosts"),
        ("window_hours = 24", 'asset_hosts = ["com"]', 5, "asset_hosts"),
        ("window_hours = 24", "asset_hosts = [1]", 5, "asset_hosts"),
        ('create_id = "none"', 'create_id = "perhaps"', 4, "create_id"),
        ('name = "seventh-heaven"', 'name = "Seventh Heaven"', 2, "name"),
        ('name = "seventh-heaven"', "", None, "name"),
        ('extends = "kling"', 'extends = "klang"', 1, "extends"),
        ('extends = "kling"', 'extends = "kling"\nwithout = ["kinds.none"]', 2, "without"),
        ('extends = "kling"', 'extends = "kling"\nwithout = "kinds"', 2, "without"),
        ('extends = "kling"', 'without = ["kinds"]', 1, "without"),
        ("window_hours = 24", "requests_per_minute = 0", 5, "requests_per_minute"),
        ("[envelope]", '[regions]\nwest = "api"\n[envelope]', 11, "regions.west"),
        ("[envelope]", '[regions]\nWEST = "https://a.example"\n[envelope]', 11, "regions.WEST"),
        ("[errors.codes]", '[errors]\nsure_on_5xx = ["odd"]\n[errors.codes]', 15, "errors.sure_on_5xx"),
        ('send_as = "text"', "choices = [3, 'x']", 25, "kinds.text-to-audio.fields.duration.choices"),
        ('send_as = "text"', "choices = 3", 25, "kinds.text-to-audio.fields.duration.choices"),
        ('send_as = "text"', "choices = [3]\ndefault = 4", 26, "kinds.text-to-audio.fields.duration.default"),
        ("default = false", "choices = [true]", 42, "kinds.video-to-audio.fields.asmr_mode.choices"),
        ('formats = ["mp3"]', 'results = ["audios"]\naudio_in = "videos"', 31, "kinds.video-to-audio.audio_in"),
        ('external_id_path = ""', 'external_query_path = "/x"', 32, "kinds.video-to-audio.external_query_path"),
        ('external_id_path = ""', "ids_per_query = 0", 32, "kinds.video-to-audio.ids_per_query"),
        ('extends = "kling"', "extends = 1", 1, "extends"),
        ('"https://api.example.net"', '"https://api.example.net/"', 3, "base_url"),
        ('"https://api.example.net"', '"ftp://api.example.net"', 3, "base_url"),
        ('"https://api.example.net"', '"https://user@api.example.net"', 3, "base_url"),
        ('"https://api.example.net"', '"https://[api"', 3, "base_url"),
        ('"https://api.example.net"', '"https://[1.2:3:]"', 3, "base_url"),
        ('"https://api.example.net"', '"https://api. example.net"', 3, "base_url"),
        ('"https://api.example.net"', '"https://api.example.net\\n"', 3, "base_url"),
        ('"https://api.example.net"', '"https://..."', 3, "base_url"),
        ('"https://api.example.net"', '"https://api.exämple.net"', 3, "base_url"),
        ('"https://api.example.net"', '"https://api.example.net:0"', 3, "base_url"),
        ('"https://api.example.net"', '"https://api.example.net:99999"', 3, "base_url"),
        ('"https://api.example.net"', '"https://api.example.net/a?b=c"', 3, "base_url"),
        ("window_hours = 24", "asset_hosts = []", 5, "asset_hosts: must name at least one"),
        ("window_hours = 24", "concurrency = 9999999", 5, "concurrency"),
        ("window_hours = 24", f"window_hours = {'9' * 400}", 5, "window_hours"),
        ('create_id = "none"', 'create_id = ""', 4, "create_id: must be one of enforced, none"),
        ('/kling/v1/audio/video-to-audio"', '//kling/v1/audio"', 28, "kinds.video-to-audio.create_path"),
        ('/kling/v1/audio/video-to-audio"', '/kling/{id}"', 28, "kinds.video-to-audio.create_path"),
        ("text-to-audio/{id}", "text-to-audio/{task_id}", 22, "kinds.text-to-audio.query_path: must be a path"),
        ('send_as = "text"', "default = 99", 25, "fields.duration.default: 99: must be from 3.0 to 10.0"),
        ('send_as = "text"', "default = 3.55", 25, "fields.duration.default: 3.55: may have at most 1 digits"),
        ('send_as = "text"', "default = nan", 25, "kinds.text-to-audio.fields.duration.default: must be a finite"),
        ('send_as = "text"', "choices = [3, 99]", 25, "kinds.text-to-audio.fields.duration.choices: 99: must be"),
        ('send_as = "text"', "choices = [nan]", 25, "kinds.text-to-audio.fields.duration.choices"),
        ("[envelope]", "[kinds.text-to-audio.constants]\nx = inf\n[envelope]", 11, "constants.x: must be a finite"),
        (
            "[errors.statuses]",
            "[errors.messages]\nunknown = 'a{99999999999}'\n[errors.statuses]",
            18,
            "unknown: is no reg",
        ),
        ('["api_key"]', "[]", 7, "credentials"),
        ('["api_key"]', '["password"]', 7, "credentials"),
        ('ok = ["success", "0"]', "ok = []", 11, "envelope.ok"),
        ("bare = true", "naked = true", 12, "envelope.naked"),
        ('= "missing"', '= "whatever"', 15, "errors.codes.task_not_exist"),
        ('429 = "rate"', '429 = "task"', 18, "errors.statuses.429"),
        ('429 = "rate"', '502 = "rate"', 18, "errors.statuses.502"),
        ('429 = "rate"', '302 = "rate"', 18, "errors.statuses.302"),
        ("audio/text-to-audio/{id}", "audio/text-to-audio", 22, "kinds.text-to-audio.query_path"),
        ('"/kling/v1/audio/video-to-audio"', '"kling"', 28, "kinds.video-to-audio.create_path"),
        ('formats = ["mp3"]', 'formats = ["ogg"]', 30, "kinds.video-to-audio.formats"),
        ('formats = ["mp3"]', "formats = []", 30, "kinds.video-to-audio.formats"),
        ('"video_url"]]', '"video"]]', 31, "kinds.video-to-audio.exactly_one"),
        ('[["video_id", "video_url"]]', '["video_id"]', 31, "kinds.video-to-audio.exactly_one"),
        ('send_as = "text"', "max_chars = 3", 25, "kinds.text-to-audio.fields.duration.max_chars"),
        ('send_as = "text"', "min = 11", 25, "kinds.text-to-audio.fields.duration.min"),
        ('send_as = "text"', 'default = "5"', 25, "kinds.text-to-audio.fields.duration.default"),
        ('send_as = "text"', "default = [5]", 25, "kinds.text-to-audio.fields.duration.default"),
        ('send_as = "text"', "decimals = -1", 25, "kinds.text-to-audio.fields.duration.decimals"),
        ('send_as = "text"', 'path = "prompt.x"', 20, "kinds.text-to-audio: prompt and prompt.x"),
        ('send_as = "text"', "kind = 3", 25, "kinds.text-to-audio.fields.duration.kind"),
        ("default = false", "min = 3", 42, "kinds.video-to-audio.fields.asmr_mode.min"),
        ("[errors.statuses]", "[errors.messages]\nexists = '('\n[errors.statuses]", 18, "errors.messages.exists"),
        ("[envelope]", "[envelope", 10, ""),
    ],
)
def test_a_bad_file_is_named_with_line_and_key(old: str, new: str, line: int | None, key: str) -> None:
    assert RESELLER.count(old) >= 1
    with pytest.raises(Misconfigured) as caught:
        spec.load(RESELLER.replace(old, new, 1), origin="resellers/bad.toml")

    message = str(caught.value)
    assert message.startswith("resellers/bad.toml")
    assert key in message
    if line is not None:
        assert re.search(rf"line {line}\b", message)


def test_a_profile_without_kinds_is_refused() -> None:
    with pytest.raises(Misconfigured, match=r"empty\.toml: kinds: at least one kind"):
        spec.load('name = "empty"\nbase_url = "https://a.example"\ncreate_id = "none"', origin="empty.toml")


def test_every_packaged_fact_names_its_sources() -> None:
    for profile in spec.catalog().values():
        assert all(source.startswith("https://") for source in profile.sources)
        assert profile.sources
