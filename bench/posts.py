"""Callbacks as a provider sends them: each body once, signed when it is made, to the URL of one of many tasks."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import random
import secrets
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import count, cycle
from typing import Any, Final

from bench.parts import ACCOUNT, HOST, Keys
from receiver.core import ids
from receiver.core.model import AccountId, Secret, TaskId
from receiver.core.tokens import TokenKeys

#: Bytes of a body, about.
BODY: Final = 900
_URL: Final = "https://p2-kling.klingai.com/bs2/upload-ylab-stunt/muse/{}.{}?x-kcdn-pid=112452&ksTime=6b2f{}&ksSign={}"


def paths(keys: Keys, tasks: int) -> list[str]:
    """Return the callback paths of *tasks* new tasks."""
    now = datetime.now(UTC)
    return _paths(keys, [ids.task_id(now, secrets.randbelow(ids.SPREAD)) for _ in range(tasks)])


def _paths(keys: Keys, tasks: Sequence[TaskId]) -> list[str]:
    tokens, account = TokenKeys((Secret(keys.callback),)), AccountId(ACCOUNT)
    return [f"/callbacks/{account}/{task}/{tokens.callback_token(account, task)}" for task in tasks]


def requests(over: list[str], keys: Keys, port: int) -> Iterator[bytes]:
    """Make whole HTTP requests without end, to the paths *over* in turn."""
    run = secrets.token_hex(8)
    before, after = _template()
    bodies = (b"%s%s-%012d%s" % (before, run.encode(), number, after) for number in count())
    return _posted(zip(cycle(over), bodies), keys, port)


def lives(tasks: Sequence[TaskId], keys: Keys, port: int) -> Iterator[bytes]:
    """Make the requests that tell the whole life of each task, in any order, its end twice."""
    made = [
        (path, json.dumps(_document(task, status, number)).encode())
        for number, status in enumerate(("submitted", "processing", "succeed", "succeed"))
        for path, task in zip(_paths(keys, tasks), tasks, strict=True)
    ]
    random.Random(1).shuffle(made)  # noqa: S311  the same order in each run
    return _posted(made, keys, port)


def _posted(over: Iterable[tuple[str, bytes]], keys: Keys, port: int) -> Iterator[bytes]:
    key = base64.b64decode(keys.webhook.removeprefix("whsec_"))
    run, stamp = secrets.token_hex(8), str(int(time.time()))
    for number, (path, body) in enumerate(over):
        name = f"{run}{number:012d}"
        mac = hmac.digest(key, b"%s.%s.%s" % (name.encode(), stamp.encode(), body), hashlib.sha256)
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {HOST}:{port}\r\nContent-Type: application/json; charset=utf-8\r\n"
            f"Content-Length: {len(body)}\r\nUser-Agent: bench\r\nwebhook-id: {name}\r\nwebhook-timestamp: {stamp}\r\n"
            f"webhook-signature: v1,{base64.b64encode(mac).decode()}\r\n\r\n"
        )
        yield head.encode() + body


def _template() -> tuple[bytes, bytes]:
    """Return what stands before and after the part of the body that differs."""
    document = _document(ids.task_id(datetime.now(UTC), 0), "succeed", 0) | {"task_id": "@"}
    before, _, after = json.dumps(document).encode().partition(b"@")
    return before, after


def _document(task: TaskId, status: str, later: int) -> dict[str, Any]:
    now = int(time.time() * 1000)
    links = {
        f"url_{form}": _URL.format(secrets.token_hex(16), form, secrets.token_hex(2), secrets.token_hex(32))
        for form in ("mp3", "wav")
    }
    clip = {"id": "8674665223082153551", **links, "duration_mp3": "5.09", "duration_wav": "5.00"}
    document = {
        "task_id": f"p{task}",
        "task_status": status,
        "task_status_msg": "",
        "task_info": {"external_task_id": str(task), "parent_video": {}},
        "task_result": {"audios": [clip] if status == "succeed" else []},
        "created_at": now - 15_000,
        "updated_at": now + later,
        "final_unit_deduction": "1",
    }
    document["task_status_msg"] = "-" * max(BODY - len(json.dumps(document)), 0)
    return document
