"""Files of a running service: listed, shown, and brought here over connections that are cut."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from receiver.cli import download
from tests.cli.asking import Said, ask, ask_on_terminal, own_task
from tests.cli.rig import Demo
from tests.transfer.servers import Exchange, RawHost

#: The first test waits for the whole service to start.
pytestmark = [pytest.mark.system, pytest.mark.timeout(400)]

#: Changes the answer of the service: its status, its headers and its body; None cuts nothing.
Change = Callable[[Exchange, httpx.Response], bytes | None]


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "PAUSE", 0)


def archived(kept: Demo) -> dict[str, Any]:
    """An archived task with its files."""
    found: dict[str, Any] = json.loads(ask(kept, "tasks", "show", own_task(kept), "--json").stdout)
    assert {asset["format"] for asset in found["assets"]} == {"mp3", "wav"}
    return found


def wav_of(task: dict[str, Any]) -> dict[str, Any]:
    return next(asset for asset in task["assets"] if asset["format"] == "wav")


def through(kept: Demo, change: Change) -> RawHost:
    """A relay before the service, which changes or cuts the answers that carry bytes of files."""

    def behaviour(exchange: Exchange) -> bool:
        method, path, _ = exchange.line.split(" ")
        kinds = ("authorization", "range", "if-range")
        headers = {name: value for name, value in exchange.headers.items() if name in kinds}
        with httpx.Client(base_url=kept.url, timeout=60) as client:
            answer = client.request(method, path, headers=headers, content=exchange.body)
        head = [f"{name}: {value}" for name, value in answer.headers.items() if name != "content-length"]
        body = change(exchange, answer) if path.endswith("/content") else None
        lines = [f"HTTP/1.1 {answer.status_code} Whatever", f"Content-Length: {len(answer.content)}", *head, "", ""]
        exchange.send("\r\n".join(lines).encode() + (answer.content if body is None else body))
        return body is None

    return RawHost(behaviour)


def get(kept: Demo, host: RawHost, *arguments: str) -> Said:
    return ask(kept, "assets", "get", *arguments, env={"RECEIVER_URL": host.url})


def cut_to(*lengths: int) -> Change:
    """Cut the bodies in turn after as many bytes, and no more after that."""
    left = list(lengths)
    return lambda _, answer: answer.content[: left.pop(0)] if left else None


def contents(host: RawHost) -> list[Exchange]:
    return [each for each in host.seen if each.line.split(" ")[1].endswith("/content")]


def ranges(host: RawHost) -> list[str | None]:
    return [each.headers.get("range") for each in contents(host)]


def test_the_files_of_a_task_are_listed_and_shown(kept: Demo) -> None:
    task = archived(kept)
    lines = [line.split("\t") for line in ask(kept, "assets", "list", "--task", task["id"]).stdout.splitlines()]
    assert [(line[0], line[2], line[3], line[6]) for line in lines] == [
        (asset["id"], asset["format"], "stored", asset["sha256"]) for asset in task["assets"]
    ]
    wav = wav_of(task)
    assert json.loads(ask(kept, "assets", "show", wav["id"], "--json").stdout)["sha256"] == wav["sha256"]
    shown = dict(line.split("\t") for line in ask(kept, "assets", "show", wav["id"]).stdout.splitlines())
    assert (shown["bytes"], shown["state"]) == (str(wav["bytes"]), "stored")
    link = f"{kept.url}{shown['play_url']}" if shown["play_url"].startswith("/") else shown["play_url"]
    bytes_of = httpx.get(link, timeout=60)
    assert hashlib.sha256(bytes_of.content).hexdigest() == wav["sha256"]
    table = ask_on_terminal(kept, "assets", "list", "--task", task["id"])
    assert wav["sha256"][:8] in table
    assert "Traceback" not in ask_on_terminal(kept, "assets", "show", wav["id"])


def test_all_files_of_a_task_are_brought_and_not_brought_again(kept: Demo, tmp_path: Path) -> None:
    task = archived(kept)
    done = ask(kept, "assets", "get", "--task", task["id"], "--out", str(tmp_path / "new" / "place"), "--json")
    assert (done.returncode, done.stderr) == (0, "")
    files = json.loads(done.stdout)["files"]
    assert {Path(each["path"]).name for each in files} == {f"{task['id']}-0.mp3", f"{task['id']}-0.wav"}
    for each in files:
        assert hashlib.sha256(Path(each["path"]).read_bytes()).hexdigest() == each["sha256"]
        assert (each["resumed_at"], each["known"]) == (0, False)
    with through(kept, cut_to()) as host:
        again = get(kept, host, "--task", task["id"], "--out", str(tmp_path / "new" / "place"))
        assert (again.returncode, contents(host)) == (0, [])
    assert len(again.stdout.splitlines()) == 2
    assert sorted(path.name for path in (tmp_path / "new" / "place").iterdir()) == sorted(
        Path(each["path"]).name for each in files
    )


def test_a_connection_that_is_cut_is_taken_up_where_it_ended(kept: Demo, tmp_path: Path) -> None:
    wav = wav_of(archived(kept))
    target = tmp_path / "rain.wav"
    with through(kept, cut_to(1000, 0, 0, 500)) as host:
        done = get(kept, host, wav["id"], "--out", str(target))
        assert (done.returncode, done.stderr) == (0, "")
        assert ranges(host) == [None, "bytes=1000-", "bytes=1000-", "bytes=1000-", "bytes=1500-"]
        assert {each.headers.get("if-range") for each in contents(host)[1:]} == {f'"{wav["sha256"]}"'}
    assert done.stdout == f"{wav['id']}\t{target}\t{wav['bytes']}\t{wav['sha256']}\n"
    assert hashlib.sha256(target.read_bytes()).hexdigest() == wav["sha256"]
    assert list(tmp_path.iterdir()) == [target]


def test_what_does_not_come_is_kept_and_the_same_command_goes_on(kept: Demo, tmp_path: Path) -> None:
    wav = wav_of(archived(kept))
    part = tmp_path / f"{wav['task']}-0.wav.part"
    with through(kept, cut_to(1000, *[0] * 5)) as host:
        done = get(kept, host, wav["id"], "--out", str(tmp_path))
        assert (done.returncode, done.stdout, len(contents(host))) == (1, "", 6)
        assert done.stderr.startswith(f"receiver: download_cut: asset {wav['id']}: 1000 of {wav['bytes']} bytes came")
        assert (part.stat().st_size, list(tmp_path.iterdir())) == (1000, [part])
        again = get(kept, host, wav["id"], "--out", str(tmp_path), "--json")
    (file,) = json.loads(again.stdout)["files"]
    assert (again.returncode, file["resumed_at"], ranges(host)[-1]) == (0, 1000, "bytes=1000-")
    assert hashlib.sha256(Path(file["path"]).read_bytes()).hexdigest() == wav["sha256"]
    assert not part.exists()


def test_a_part_of_something_else_is_not_built_upon(kept: Demo, tmp_path: Path) -> None:
    wav = wav_of(archived(kept))
    part = tmp_path / f"{wav['task']}-0.wav.part"
    for left in (b"x" * 1000, b"x" * wav["bytes"], b"x" * (wav["bytes"] + 1)):
        part.write_bytes(left)
        assert ask(kept, "assets", "get", wav["id"], "--out", str(tmp_path)).returncode == 0
        target = part.with_suffix("")
        assert hashlib.sha256(target.read_bytes()).hexdigest() == wav["sha256"]
        target.unlink()


def test_other_bytes_than_the_api_names_get_no_file(kept: Demo, tmp_path: Path) -> None:
    wav = wav_of(archived(kept))
    with through(kept, lambda _, answer: bytes(len(answer.content))) as host:
        done = get(kept, host, wav["id"], "--out", str(tmp_path))
    assert (done.returncode, done.stdout, list(tmp_path.iterdir())) == (1, "", [])
    assert done.stderr.startswith(f"receiver: content_differs: asset {wav['id']}: the SHA-256 is ")
    assert wav["sha256"] in done.stderr


def test_a_file_of_the_same_name_is_never_overwritten(kept: Demo, tmp_path: Path) -> None:
    wav = wav_of(archived(kept))
    target = tmp_path / "mine.wav"
    target.write_bytes(b"mine")
    done = ask(kept, "assets", "get", wav["id"], "--out", str(target))
    assert (done.returncode, target.read_bytes()) == (1, b"mine")
    assert "content_differs" in done.stderr


def test_what_cannot_be_had_is_told_and_the_rest_is_brought(kept: Demo, tmp_path: Path) -> None:
    wav = wav_of(archived(kept))
    done = ask(kept, "assets", "get", "999999", wav["id"], wav["id"], "--out", str(tmp_path))
    assert (done.returncode, len(done.stdout.splitlines())) == (1, 1)
    assert done.stderr.startswith("receiver: not_found: asset 999999: ")
    assert (tmp_path / f"{wav['task']}-0.wav").stat().st_size == wav["bytes"]


def test_a_place_that_cannot_be_written_is_named(kept: Demo, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    done = ask(kept, "assets", "get", wav_of(archived(kept))["id"], "--out", f"{tmp_path}/file/below/x.wav")
    assert (done.returncode, done.stdout) == (1, "")
    assert "cannot_write" in done.stderr
    assert str(tmp_path) in done.stderr


def test_nothing_to_get_is_a_slip_of_the_hand(kept: Demo) -> None:
    assert ask(kept, "assets", "get").returncode == 2


def test_a_presigned_url_is_followed_without_the_key_and_taken_up_there(kept: Demo, tmp_path: Path) -> None:
    wav = wav_of(archived(kept))
    with httpx.Client(base_url=kept.url, headers={"Authorization": f"Bearer {kept.key}"}) as client:
        content = client.get(f"/v1/assets/{wav['id']}/content").content

    def store(exchange: Exchange) -> bool:
        """As rclone does, it gives a range with status 200, and its ETag is its own."""
        start = int(exchange.headers.get("range", "bytes=0-")[6:-1])
        head = [f"Content-Length: {len(content) - start}"]
        head += [f"Content-Range: bytes {start}-{len(content) - 1}/{len(content)}"] * (start > 0)
        body = content[start : start + 1000] if exchange.number == 0 else content[start:]
        exchange.send("\r\n".join(["HTTP/1.1 200 OK", *head, "", ""]).encode() + body)
        return exchange.number > 0

    with RawHost(store) as bucket:

        def point(exchange: Exchange) -> bool:
            if exchange.line.split(" ")[1].endswith("/content"):
                exchange.answer("307 Whatever", b"", f"Location: {bucket.url}/key?X-Amz-Signature=x")
            else:
                exchange.answer("200 OK", json.dumps(wav).encode(), "Content-Type: application/json")
            return True

        with RawHost(point) as host:
            done = get(kept, host, wav["id"], "--out", str(tmp_path))
            assert [each.headers.get("range") for each in contents(host)] == [None, "bytes=1000-"]
    assert (done.returncode, done.stderr) == (0, "")
    assert [each.headers.get("range") for each in bucket.seen] == [None, "bytes=1000-"]
    assert not [each for each in bucket.seen if "authorization" in each.headers or "if-range" in each.headers]
    assert hashlib.sha256((tmp_path / f"{wav['task']}-0.wav").read_bytes()).hexdigest() == wav["sha256"]
