import threading
from collections.abc import Callable
from hashlib import sha256

import httpx
import pytest

from tests.sandbox.rig import Inbox, Sandbox, wait_for

QUICK = ("--run-seconds", "0.1", "--concurrency", "0")


def fetch(link: str, **headers: str) -> httpx.Response:
    return httpx.get(link, headers=headers, trust_env=False, timeout=20)


def digests(sandbox: Sandbox, task_id: str) -> dict[str, str]:
    return {audio["format"]: audio["sha256"] for audio in sandbox.entry(task_id)["audios"]}


def partial_body(link: str, **headers: str) -> tuple[httpx.Response, bytes, bool]:
    """Return the answer, what came of its body, and whether it ended well."""
    body = bytearray()
    with httpx.stream("GET", link, headers=headers, trust_env=False, timeout=20) as answer:
        try:
            for chunk in answer.iter_raw():
                body += chunk
        except httpx.RemoteProtocolError:
            return answer, bytes(body), False
    return answer, bytes(body), True


def test_a_link_lapses_and_each_query_gives_a_fresh_one(start: Callable[..., Sandbox]) -> None:
    sandbox = start(*QUICK, "--expire-links", "2s")
    task_id = sandbox.make()
    link = sandbox.clip(task_id)["url_mp3"]
    wait_for(lambda: fetch(link).status_code == 403)
    wait_for(lambda: fetch(sandbox.clip(task_id)["url_mp3"]).status_code == 200)
    assert fetch(link).status_code == 403
    seen = {(one["status"], *one["faults"]) for one in sandbox.fetched(task_id, 3)}
    assert seen == {(200,), (403, "lapsed")}


def test_a_dead_link_is_dead_until_it_was_tried_and_a_query_gave_another(
    start: Callable[..., Sandbox], inbox: Inbox
) -> None:
    first = start(*QUICK, "--dead-links", "1")
    task_id = first.make(callback_url=inbox.url)
    link = first.clip(task_id)["url_mp3"]
    # Asking again without having tried gives another link of the same kind.
    assert fetch(first.clip(task_id)["url_mp3"]).status_code == 404
    assert fetch(link).status_code == 404
    first.kill()
    second = start(*QUICK)
    fresh = second.clip(task_id)
    assert fetch(fresh["url_mp3"]).status_code == 200
    assert fetch(fresh["url_wav"]).status_code == 404
    assert fetch(link.replace(first.url, second.url)).status_code == 404
    assert second.entry(task_id)["faults"] == ["dead_mp3", "dead_wav"]
    seen = [(one["format"], one["nth"], one["status"], one["faults"]) for one in second.fetched(task_id, 5)]
    assert seen == [
        ("mp3", 1, 404, ["dead"]),
        ("mp3", 2, 404, ["dead"]),
        ("mp3", 3, 200, []),
        ("wav", 1, 404, ["dead"]),
        ("mp3", 4, 404, ["dead"]),
    ]


def test_a_truncated_file_announces_its_length_or_does_not(start: Callable[..., Sandbox]) -> None:
    sandbox = start(*QUICK, "--truncate", "1")
    kinds = set()
    for _ in range(5):
        task_id = sandbox.make()
        sandbox.ended(task_id)
        sizes = {audio["format"]: audio["bytes"] for audio in sandbox.entry(task_id)["audios"]}
        for form, size in sizes.items():
            answer, body, well = partial_body(sandbox.clip(task_id)[f"url_{form}"])
            assert (answer.status_code, len(body)) == (200, size // 2)
            announced = "content-length" in answer.headers
            assert "transfer-encoding" not in answer.headers
            assert well != announced
            assert not announced or int(answer.headers["content-length"]) == size
            kinds.add(announced)
        faults = {fault for one in sandbox.fetched(task_id, 2) for fault in one["faults"]}
        assert faults <= {"truncated", "truncated_lengthless"}
        assert {one["bytes"] for one in sandbox.entry(task_id)["fetches"]} == {size // 2 for size in sizes.values()}
    assert kinds == {True, False}


def test_a_truncated_file_can_be_had_in_pieces(start: Callable[..., Sandbox]) -> None:
    sandbox = start(*QUICK, "--truncate", "1")
    task_id = sandbox.make()
    link = sandbox.clip(task_id)["url_wav"]
    whole = bytearray()
    for _ in range(4):
        answer, body, _ = partial_body(link, range=f"bytes={len(whole)}-")
        assert answer.status_code == 206
        whole += body
    sandbox.control("faults", truncate=0)
    whole += fetch(link, range=f"bytes={len(whole)}-").content
    assert sha256(whole).hexdigest() == digests(sandbox, task_id)["wav"]


def test_a_slow_file_comes_whole(start: Callable[..., Sandbox]) -> None:
    sandbox = start(*QUICK, "--slow", "1:2s")
    task_id = sandbox.make()
    link = sandbox.clip(task_id)["url_mp3"]
    with httpx.stream("GET", link, trust_env=False) as answer:
        chunks = list(answer.iter_raw())
    assert len(chunks) > 1
    assert sha256(b"".join(chunks)).hexdigest() == digests(sandbox, task_id)["mp3"]
    assert [one["faults"] for one in sandbox.fetched(task_id, 1)] == [["slow"]]


def test_wrong_bytes_come_at_the_first_fetch_alone(start: Callable[..., Sandbox]) -> None:
    sandbox = start(*QUICK, "--wrong-bytes", "1")
    kinds = set()
    for _ in range(8):
        task_id = sandbox.make()
        link = sandbox.clip(task_id)["url_mp3"]
        wrong = fetch(link)
        assert wrong.status_code == 200
        kinds.add((wrong.headers["content-type"].partition(";")[0], bool(wrong.content)))
        assert sha256(fetch(link).content).hexdigest() == digests(sandbox, task_id)["mp3"]
        first, second = sandbox.fetched(task_id, 2)
        assert first["faults"][0] in {"html", "json", "empty"}
        assert second["faults"] == []
    assert kinds == {("text/html", True), ("application/json", True), ("audio/mpeg", False)}


def test_media_can_be_unavailable(start: Callable[..., Sandbox]) -> None:
    sandbox = start(*QUICK, "--media-5xx", "1")
    task_id = sandbox.make()
    link = sandbox.clip(task_id)["url_mp3"]
    assert fetch(link).status_code == 503
    sandbox.control("faults", media_5xx=0)
    assert fetch(link).status_code == 200
    assert [one["faults"] for one in sandbox.fetched(task_id, 2)] == [["5xx"], []]


@pytest.mark.parametrize("cut", [False, True])
def test_a_fetch_is_held_when_half_was_sent(start: Callable[..., Sandbox], *, cut: bool) -> None:
    sandbox = start(*QUICK)
    task_id = sandbox.make(external_task_id="held")
    link = sandbox.clip(task_id)["url_wav"]
    size = next(a["bytes"] for a in sandbox.entry(task_id)["audios"] if a["format"] == "wav")
    sandbox.control("hold", what="media", task="held")
    got = bytearray()
    well: list[bool] = []

    def read() -> None:
        with httpx.stream("GET", link, trust_env=False, timeout=30) as answer:
            try:
                for chunk in answer.iter_raw():
                    got.extend(chunk)
            except httpx.RemoteProtocolError:
                well.append(False)
            else:
                well.append(True)

    thread = threading.Thread(target=read)
    thread.start()
    (held,) = sandbox.held()
    assert (held["what"], held["task"]) == ("media", "held")
    wait_for(lambda: len(got) == size // 2)
    sandbox.control("release", id=held["id"], cut=cut)
    thread.join()
    assert well == [not cut]
    assert len(got) == (size // 2 if cut else size)
    (entry,) = sandbox.fetched(task_id, 1)
    assert (entry["bytes"], entry["faults"]) == (len(got), ["held_cut"] if cut else [])


def test_fetches_of_one_file_are_numbered_through_a_kill(start: Callable[..., Sandbox]) -> None:
    first = start(*QUICK)
    task_id = first.make()
    link = first.clip(task_id)["url_mp3"]
    fetch(link)
    first.fetched(task_id, 1)
    first.kill()
    second = start(*QUICK)
    fetch(link.replace(first.url, second.url))
    assert [one["nth"] for one in second.fetched(task_id, 2)] == [1, 2]
