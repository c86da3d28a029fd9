"""Orders at every house, and what comes back, in the words of the tests."""

import uuid
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.sandbox.rig import Sandbox, wait_for

SOUND = {"prompt": "rain on a tin roof", "duration": 3}
FILM = {"video_url": "https://example.net/source.mp4"}
TALKIE = {"prompt": "waves on a shore", "model_name": "kling-v2-6", "sound": "on", "mode": "pro", "duration": "5"}
NEW_TALKIE = {"prompt": "waves on a shore", "settings": {"audio": "native", "resolution": "1080p", "duration": 5}}

ENDS = {"succeed", "failed", "completed", "SUCCESS", "FAILURE", "succeeded"}


@dataclass(frozen=True, kw_only=True)
class Shop:
    """One product of one house."""

    house: str
    path: str
    body: dict[str, Any]
    #: Of the result.
    formats: tuple[str, ...]
    done: str = "succeed"
    #: Asked for at `/tasks`.
    batch: bool = False

    def __str__(self) -> str:
        return f"{self.house}{self.path}"


SHOPS = (
    Shop(house="kling", path="/v1/audio/text-to-audio", body=SOUND, formats=("mp3", "wav")),
    Shop(house="kling", path="/v1/audio/video-to-audio", body=FILM, formats=("mp3", "mp4", "wav")),
    *(
        Shop(house=house, path=f"/kling/v1/audio/{name}", body=body, formats=formats)
        for house in ("cometapi", "deerapi", "kkiai")
        for name, body, formats in (
            ("text-to-audio", SOUND, ("mp3", "wav")),
            ("video-to-audio", FILM, ("mp3", "mp4", "wav")),
        )
    ),
    Shop(house="kling-videos", path="/v1/videos/video-to-audio", body=FILM, formats=("mp4",)),
    Shop(house="kling-text2video", path="/v1/videos/text2video", body=TALKIE, formats=("mp4",)),
    Shop(
        house="kling-text2video",
        path="/text-to-video/kling-2.6",
        body=NEW_TALKIE,
        formats=("mp4",),
        done="succeeded",
        batch=True,
    ),
    Shop(house="new-api", path="/kling/v1/audio/text-to-audio", body=SOUND, formats=("mp3", "wav"), done="SUCCESS"),
    Shop(house="new-api", path="/kling/v1/videos/text2video", body=TALKIE, formats=("mp4",), done="SUCCESS"),
    Shop(house="soundshop", path="/api/kling/text-to-audio", body=SOUND, formats=("mp3", "wav"), done="completed"),
)


@dataclass(kw_only=True)
class Bought:
    """A task that was made."""

    sandbox: Sandbox
    shop: Shop
    #: As told, and as sent.
    id: str
    external: str
    #: The whole reply to the create.
    reply: dict[str, Any] = field(default_factory=dict)

    def ask(self, given: str | None = None) -> httpx.Response:
        shop = self.shop
        if shop.batch:
            return self.sandbox.client.get(f"/{shop.house}/tasks", params={"task_ids": given or self.id})
        return self.sandbox.client.get(f"/{shop.house}{shop.path}/{given or self.id}")

    def record(self) -> dict[str, Any]:
        data: Any = self.ask().raise_for_status().json()["data"]
        told: dict[str, Any] = data[0] if self.shop.batch else data
        return told

    def ended(self) -> dict[str, Any]:
        def fact() -> dict[str, Any] | None:
            told = self.record()
            status = told.get("task_status") or told["status"]
            return told if status in ENDS else None

        return wait_for(fact)

    def entry(self) -> dict[str, Any]:
        """Return its entry in the ledger of its house."""
        ledger = self.sandbox.client.get("/control/ledger", params={"house": self.shop.house}).json()
        entry: dict[str, Any] = next(task for task in ledger["tasks"] if task["task_id"] == self.id)
        return entry

    def told(self) -> list[dict[str, Any]]:
        """Return its callbacks, once the last of them has an outcome."""

        def fact() -> list[dict[str, Any]] | None:
            callbacks: list[dict[str, Any]] = self.entry()["callbacks"]
            ended = [one for one in callbacks if one["status"] in {"succeed", "failed"}]
            return callbacks if ended and all(one["outcome"] for one in callbacks) else None

        return wait_for(fact)


def body(shop: Shop, external: str | None, callback_url: str | None = None, **changes: Any) -> dict[str, Any]:
    """Return what is sent to order."""
    hooks = {"external_task_id": external, "callback_url": callback_url}
    given = {name: value for name, value in hooks.items() if value is not None}
    return {**shop.body, **({"options": given} if shop.batch else given), **changes}


def order(sandbox: Sandbox, shop: Shop, sent: dict[str, Any]) -> httpx.Response:
    return sandbox.client.post(f"/{shop.house}{shop.path}", json=sent)


def buy(sandbox: Sandbox, shop: Shop, callback_url: str | None = None, **changes: Any) -> Bought:
    external = str(changes.pop("external", None) or uuid.uuid4())
    answer = order(sandbox, shop, body(shop, external, callback_url, **changes))
    assert answer.status_code == 200, answer.text
    reply: dict[str, Any] = answer.json()
    data = reply.get("data", reply)
    return Bought(sandbox=sandbox, shop=shop, id=str(data.get("task_id") or data["id"]), external=external, reply=reply)


def links(told: Any) -> dict[str, str]:
    """Return every media link in an answer, by format."""
    found: dict[str, str] = {}
    if isinstance(told, dict):
        told = list(told.values())
    for value in told if isinstance(told, list) else ():
        if isinstance(value, str) and "/media/" in value:
            found[value.partition("?")[0].rpartition(".")[2]] = value
        found |= links(value)
    return found
