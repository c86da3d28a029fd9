"""A user's own profiles: a directory of files, and the eighth seller that nobody has written code for."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from receiver.core.errors import InvalidInput, Misconfigured
from receiver.core.model import CreateId, Format, Report
from receiver.dialects.answers import AccountRefused, Busy, Created, Refused, UnknownTask, Unsure
from receiver.dialects.spec import Profile, catalog, check_input, describe, load, load_directory
from receiver.dialects.wire import create_request, list_request, query_request, read_callback, read_create, read_query

#: Everything that differs from Kling, in one file.
EIGHTH: Final = """\
extends = "kling"
name = "eighth-wonder"
base_url = "https://api.eighth.example"
create_id = "none"
signature_mode = "none"
credentials = ["api_key"]
asset_hosts = ["eighth.example"]
window_hours = 6
requests_per_minute = 30
sources = ["https://docs.eighth.example"]
without = ["regions", "kinds.video-to-audio", "errors.codes.1303"]

[envelope]
ok = ["success"]
bare = true

[errors.codes]
too_many = "concurrency"
no_money = "account"
bad_words = "task"
no_such_task = "missing"

[kinds.text-to-audio]
create_path = "/sounds"
query_path = "/sounds/{id}"
list_path = ""
formats = ["mp3"]
external_id_path = "meta.reference"
callback_path = "meta.hook"

[kinds.text-to-audio.constants]
"options.model" = "boom-2"

[kinds.text-to-audio.fields.prompt]
path = "text"
max_chars = 80

[kinds.text-to-audio.fields.duration]
path = "options.seconds"
send_as = "text"
max = 5
"""


def eighth(folder: Path) -> Profile:
    (folder / "eighth-wonder.toml").write_text(EIGHTH, "utf-8")
    return load_directory(folder)["eighth-wonder"]


def test_an_invented_seller_works_by_its_file_alone(tmp_path: Path) -> None:
    profile = eighth(tmp_path)

    values = check_input(profile, "text-to-audio", {"prompt": "boom", "duration": 3.5})
    request = create_request(
        profile, "text-to-audio", values, external_task_id="7", callback_url="https://hooks.example.net/x"
    )

    assert (request.method, request.path) == ("POST", "/sounds")
    assert request.body == (
        b'{"text":"boom","options":{"seconds":"3.5","model":"boom-2"},'
        b'"meta":{"reference":"7","hook":"https://hooks.example.net/x"}}'
    )
    assert query_request(profile, "text-to-audio", id="a/b").path == "/sounds/a%2Fb"
    with pytest.raises(ValueError, match="no list route"):
        list_request(profile, "text-to-audio", page=1)
    with pytest.raises(InvalidInput, match="at most 80"):
        check_input(profile, "text-to-audio", {"prompt": "x" * 81, "duration": 3.5})


def test_an_invented_sellers_answers_are_read_by_its_file_alone(tmp_path: Path) -> None:
    profile = eighth(tmp_path)

    def made(status: int, body: Any) -> object:
        return read_create(profile, status=status, content_type="application/json", body=json.dumps(body).encode())

    def asked(status: int, body: Any) -> object:
        return read_query(
            profile, "text-to-audio", status=status, content_type="application/json", body=json.dumps(body).encode()
        )

    assert isinstance(made(200, {"id": "s1", "status": "queued"}), Created)
    assert made(429, {"code": "too_many"}) == Busy("too_many", "", concurrency=True)
    assert made(402, {"code": "no_money"}) == AccountRefused("no_money", "", authentication=False)
    assert made(400, {"code": "bad_words"}) == Refused("bad_words", "")
    assert made(429, {"code": 1303}) == Unsure("http 429, code 1303"), "taken out of the file"
    assert asked(404, {"code": "no_such_task"}) == UnknownTask()
    done = asked(200, {"id": "s1", "status": "completed", "url": "https://cdn.eighth.example/s1"})
    assert isinstance(done, Report)
    assert [media.format for media in done.media] == [Format.MP3]
    body = b'{"data":{"id":"s1","status":"completed","url":"https://cdn.eighth.example/s1"}}'
    assert read_callback(profile, "text-to-audio", body).media == done.media


def test_a_directory_holds_a_profile_in_each_toml_file_and_nothing_else_counts(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not TOML", "utf-8")
    (tmp_path / "one.toml").write_text('extends = "cometapi"\nname = "one"', "utf-8")
    (tmp_path / "two.toml").write_text('extends = "new-api"\nname = "two"\nbase_url = "https://gw.example"', "utf-8")

    found = load_directory(tmp_path)

    assert list(found) == ["one", "two"]
    assert found["one"].create_id is CreateId.NONE
    assert found["one"].kinds == catalog()["cometapi"].kinds
    assert found["two"].base_url == "https://gw.example"


def test_a_users_profile_may_stand_in_the_place_of_a_packaged_one(tmp_path: Path) -> None:
    (tmp_path / "kling.toml").write_text('extends = "kling"\nname = "kling"\nconcurrency = 50', "utf-8")

    assert load_directory(tmp_path)["kling"].concurrency == 50


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("bad.toml", b'extends = "kling"\nname = "bad"\n\nwindow = 3\n', "bad.toml, line 4: window: unknown key"),
        ("bad.toml", b'extends = "kling"\nname = "bad"\n[errors.codes]\n7 = "x"', "bad.toml, line 4: errors.codes.7: "),
        ("bad.toml", b'name = "bad"\nwithout = ["regions"]', "bad.toml, line 2: without: means nothing"),
        ("bad.toml", b"name = 'bad'\nname = 'worse'\nquery = true", "bad.toml, line 2: name: Cannot overwrite a value"),
        ("bad.toml", b"name = \xff", "bad.toml, line 1: must be UTF-8"),
        ("bad.toml", b'name = "bad"\n\n# caf\xe9', "bad.toml, line 3: must be UTF-8"),
        ("bad.toml", b'extends = "kling"\nname = "other"', "bad.toml, line 2: name: must be the name of the file"),
        ("bad.toml", b"[envelope\n", "bad.toml, line 1: Expected ']' at the end of a table declaration"),
        ("bad.toml", b"name = 'bad", "bad.toml: "),
        ("bad.toml", b"a = " + b"[" * 5000, "bad.toml: is nested too deeply"),
        ("bad.toml", b"concurrency = " + b"9" * 5000, "bad.toml: holds a number that is too long"),
        ("bad.toml", b'extends = "kling"\nname = "bad"\n[kind.x]\na = 1', "bad.toml, line 3: kind: unknown key"),
        ("bad.toml", b'extends = "kling"\nname = "bad"\n"a\\nb" = 1', "bad.toml: a?b: unknown key"),
        ("bad.toml", b'extends = "bad"\nname = "bad"', "bad.toml, line 1: extends: must name a packaged profile"),
    ],
)
def test_a_bad_file_is_named_with_its_line_and_key(tmp_path: Path, name: str, content: bytes, complaint: str) -> None:
    (tmp_path / name).write_bytes(content)

    with pytest.raises(Misconfigured) as caught:
        load_directory(tmp_path)

    assert str(caught.value).startswith(str(tmp_path / name))
    assert complaint in str(caught.value)


@pytest.mark.parametrize("kind", ["folder", "link to nothing", "link to itself"])
def test_what_is_no_file_is_named(tmp_path: Path, kind: str) -> None:
    odd = tmp_path / "odd.toml"
    if kind == "folder":
        odd.mkdir()
    else:
        odd.symlink_to(odd if kind == "link to itself" else tmp_path / "nothing")

    with pytest.raises(Misconfigured, match=r"odd\.toml: is no file, or a link that leads to none"):
        load_directory(tmp_path)


def test_a_mark_of_an_editor_and_hidden_files_do_no_harm(tmp_path: Path) -> None:
    (tmp_path / "one.toml").write_text('\ufeffextends = "kling"\r\nname = "one"\r\n', "utf-8", newline="")
    (tmp_path / "._one.toml").write_bytes(b"\0\5\x16\7")
    (tmp_path / ".#one.toml").symlink_to("nobody@nowhere.1")

    assert list(load_directory(tmp_path)) == ["one"]


def test_a_default_is_sent_as_a_given_value_would_be() -> None:
    text = 'extends = "kling"\nname = "x"\n[kinds.text-to-audio.fields.duration]\ndefault = 5.0\nsend_as = "text"\n'
    profile = load(text, origin="x.toml")

    values = check_input(profile, "text-to-audio", {"prompt": "rain"})
    request = create_request(profile, "text-to-audio", values, external_task_id="7", callback_url=None)

    assert json.loads(request.body or b"")["duration"] == "5"


def test_nothing_may_be_one_of_a_few_numbers() -> None:
    text = 'extends = "kling"\nname = "x"\n[kinds.video-to-audio.fields.loudness]\ntype = "number"\nchoices = [0, 1]\n'

    values = check_input(load(text, origin="x.toml"), "video-to-audio", {"video_id": "1", "loudness": 0})

    assert values["loudness"] == 0


def test_a_directory_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="missing: profiles cannot be read: No such file"):
        load_directory(tmp_path / "missing")


def test_an_account_names_a_region_a_host_or_nothing() -> None:
    kling = catalog()["kling"]

    assert kling.address(None) == kling.address("singapore") == "https://api-singapore.klingai.com"
    assert kling.address("beijing") == "https://api-beijing.klingai.com"
    assert kling.address("https://proxy.example/kling/") == "https://proxy.example/kling"
    with pytest.raises(Misconfigured, match="set base_url: new-api"):
        catalog()["new-api"].address(None)
    for wrong in (
        "beijng",
        "api.example",
        "ftp://a.example",
        "https://a b.example",
        "https://u:p@a.example",
        "https://",
    ):
        with pytest.raises(Misconfigured, match=r"base_url must be .* or one of beijing, singapore"):
            kling.address(wrong)


@pytest.mark.parametrize("name", sorted(catalog()))
def test_a_profile_can_be_shown_whole_as_json(name: str) -> None:
    profile = catalog()[name]

    shown: Any = json.loads(json.dumps(describe(profile)))

    assert shown["name"] == name
    assert shown["sources"]
    assert set(shown["kinds"]) == set(profile.kinds)
    for kind in profile.kinds.values():
        fields = shown["kinds"][kind.name]["fields"]
        assert [field["name"] for field in fields] == [field.name for field in kind.fields]
        assert all(field["help"] for field in fields)


def test_what_is_shown_has_every_limit() -> None:
    shown: Any = describe(catalog()["kling"])

    assert shown["kinds"]["text-to-audio"]["fields"] == [
        {
            "name": "prompt",
            "type": "string",
            "required": True,
            "max_chars": 200,
            "path": "prompt",
            "send_as": "number",
            "help": "What is to be heard",
        },
        {
            "name": "duration",
            "type": "number",
            "required": True,
            "min": 3.0,
            "max": 10.0,
            "decimals": 1,
            "path": "duration",
            "send_as": "number",
            "help": "Seconds",
        },
    ]
    assert shown["kinds"]["video-to-audio"]["exactly_one"] == [["video_id", "video_url"]]
    assert shown["errors"]["codes"]["1303"] == "concurrency"
    assert shown["window_seconds"] == 30 * 24 * 3600


@pytest.mark.parametrize("profile", sorted(catalog()))
def test_choices_are_kept(profile: str) -> None:
    for kind in catalog()[profile].kinds.values():
        for field in kind.fields:
            if field.choices:
                given = {other.name: "x" for other in kind.fields if other.required} | {field.name: "no such thing"}
                with pytest.raises(InvalidInput, match=rf"input\.{field.name}: must be"):
                    check_input(catalog()[profile], kind.name, given)


def test_a_number_may_be_one_of_a_few() -> None:
    for wrong in (7, 5.5, True, "5"):
        with pytest.raises(InvalidInput, match=r"input\.duration"):
            check_input(catalog()["kling-text2video"], "text2video", {"prompt": "sea", "duration": wrong})
    values = check_input(catalog()["kling-text2video"], "text2video", {"prompt": "sea", "duration": 10.0})
    assert values["duration"] == 10


def test_a_packaged_profile_may_be_extended_twice_over() -> None:
    profile = load('extends = "deerapi"\nname = "third"\n', origin="third.toml")

    assert profile.kinds == catalog()["deerapi"].kinds
    assert profile.codes == catalog()["deerapi"].codes


def test_a_profile_without_queries_inherits_no_route_for_them() -> None:
    profile = load('extends = "kling"\nname = "deaf"\nquery = false\n', origin="deaf.toml")

    assert {kind.query_path for kind in profile.kinds.values()} == {None}


def test_the_example_of_the_documents_is_a_profile() -> None:
    page = (Path(__file__).parents[2] / "docs" / "profiles.md").read_text("utf-8")
    example = page.partition("```toml\n")[2].partition("```")[0]

    profile = load(example, origin="docs/profiles.md")

    assert list(profile.kinds) == ["text-to-audio"]
    assert profile.window == timedelta(hours=24)
    assert all(f"`{name}`" in page for name in catalog() if name != "sandbox")
