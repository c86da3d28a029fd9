"""Every provider of the sandbox as an account of one service: its profile, its orders, and its own account of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.system.deployment import ENDS, Deployment, Service

DIRECTORY = "RECEIVER_PROFILES_DIR"
#: Each shipped profile as it is, but for its times: the simulator's day is short.
HASTY = """extends = "{house}"
name = "{profile}"
usual_seconds = {usual}
create_timeout_seconds = 10
"""
#: A seller whom no document names, in the words of the guide for sellers of one's own.
SOUNDSHOP = """extends = "kling"
name = "soundshop"
base_url = "https://api.soundshop.example"
credentials = ["api_key"]
create_id = "none"
signature_mode = "none"
asset_hosts = ["soundshop.example"]
window_hours = 24
usual_seconds = 2
create_timeout_seconds = 10
sources = ["https://soundshop.example/docs"]
without = ["regions", "kinds.video-to-audio"]

[envelope]
ok = ["200"]

[errors.statuses]
429 = "rate"

[kinds.text-to-audio]
create_path = "/api/kling/text-to-audio"
query_path = "/api/kling/text-to-audio/{id}"
list_path = ""
"""


@dataclass(frozen=True, kw_only=True)
class Seller:
    """A house of the sandbox and what is ordered there, in turn."""

    house: str
    orders: tuple[tuple[str, Mapping[str, Any]], ...]
    #: A repeated external id is refused: a lost create is sent again.
    enforced: bool = False
    #: A lost create is found by our id.
    finds: bool = False
    #: A callback tells by which id a lost create is found.
    hints: bool = False

    @property
    def account(self) -> str:
        return self.house.replace("-", "_")


SOUND = ("text-to-audio", {"prompt": "rain on a tin roof", "duration": 3})
#: The provider's own failure, for which it takes nothing.
NOISE = ("text-to-audio", {"prompt": "rain [fail]", "duration": 3})
FILM = ("video-to-audio", {"video_url": "https://example.com/silent.mp4"})
TALKIE = ("text2video", {"prompt": "waves on a pebble beach"})
SOUNDSHOP_SELLER = Seller(house="soundshop", orders=(SOUND,), hints=True)
DEERAPI = Seller(house="deerapi", orders=(SOUND, FILM, NOISE), hints=True)
KLING = Seller(house="kling", orders=(SOUND, FILM, NOISE), enforced=True, finds=True)
SELLERS = (
    KLING,
    Seller(
        house="kling-text2video",
        orders=(TALKIE, ("text-to-video", {"prompt": "waves on a pebble beach"})),
        enforced=True,
        finds=True,
    ),
    Seller(house="cometapi", orders=(SOUND, FILM), hints=True),
    DEERAPI,
    Seller(house="kkiai", orders=(SOUND, FILM), finds=True),
    Seller(house="kling-videos", orders=(FILM,), finds=True),
    # Callbacks of such a gateway may come from Kling, whose ids it does not know.
    Seller(house="new-api", orders=(TALKIE,)),
    SOUNDSHOP_SELLER,
)


def variables(
    deployment: Deployment, sellers: Sequence[Seller] = SELLERS, *, slots: int = 200, usual: int = 2
) -> dict[str, str]:
    """Write the profiles of *sellers*, whose tasks usually run so long, and return the settings of their accounts."""
    directory = deployment.directory / "profiles"
    directory.mkdir()
    given = {DIRECTORY: str(directory)}
    for seller in sellers:
        given |= _account(deployment, seller, directory, slots, usual)
    return given


def _account(deployment: Deployment, seller: Seller, directory: Path, slots: int, usual: int) -> dict[str, str]:
    profile, text = f"hasty-{seller.house}", HASTY
    if seller is SOUNDSHOP_SELLER:
        profile, text = seller.house, SOUNDSHOP
    else:
        text = text.format(house=seller.house, profile=profile, usual=usual)
    (directory / f"{profile}.toml").write_text(text)
    account = {
        "DIALECT": profile,
        "BASE_URL": f"{deployment.sandbox.url}/{seller.house}",
        "API_KEY": deployment.known.account_key,
        "CONCURRENCY": str(slots),
        "ASSET_HOSTS": json.dumps(["127.0.0.1"]),
        "ALLOW_CIDRS": json.dumps(["127.0.0.0/8"]),
        "ALLOW_HTTP": "true",
    }
    return {f"RECEIVER_ACCOUNTS__{seller.account.upper()}__{name}": value for name, value in account.items()}


@dataclass(kw_only=True)
class Shopping:
    """The client's own list of what it ordered where."""

    service: Service
    #: By task, whose it is.
    placed: dict[str, Seller] = field(default_factory=dict)

    def order(self, number: int, sellers: Sequence[Seller] = SELLERS, **more: Any) -> list[str]:
        """Hand in *number* tasks as one batch, at the sellers in turn."""
        first = len(self.placed)
        chosen = [sellers[n % len(sellers)] for n in range(first, first + number)]
        items = []
        for n, seller in enumerate(chosen, first):
            kind, given = seller.orders[n // len(sellers) % len(seller.orders)]
            items.append({"account": seller.account, "kind": kind, "input": {**given, **more}})
        answer = self.service.client.post("/v1/tasks:batch", json={"tasks": items})
        assert answer.status_code == 202, answer.text
        ids = [each["id"] for each in answer.json()["tasks"]]
        self.placed |= zip(ids, chosen, strict=True)
        return ids


def listed(service: Service, **filters: str) -> Iterator[dict[str, Any]]:
    """Yield every task as the list shows it."""
    cursor: dict[str, str] = {}
    while True:
        page = service.client.get("/v1/tasks", params={"limit": 200, **filters, **cursor}).raise_for_status().json()
        yield from page["tasks"]
        if page["next_cursor"] is None:
            return
        cursor = {"cursor": page["next_cursor"]}


def open_tasks(service: Service) -> dict[str, dict[str, Any]]:
    """Return the tasks that have not ended."""
    return {each["id"]: each for each in listed(service) if each["state"] not in ENDS}
