"""The judge: the client's own list, the provider's ledger and the bytes in the bucket, against the service's word."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos.scene import Scene
from tests.chaos.submitter import Submitter
from tests.system.deployment import ENDS, WITHOUT_WORK
from tests.system.judging import FAULTS, FORMATS

#: What a process that is killed during its start-up proof leaves in the bucket.
PROBES = ".probe/"
DEAD = "SELECT kind || ' of ' || subject || ': ' || coalesce(last_error, '') FROM job WHERE state = 'dead'"


@dataclass(kw_only=True)
class Verdict:
    """What was found wrong, each with its task where it has one."""

    lost: list[tuple[str, str]] = field(default_factory=list)
    duplicated: list[tuple[str, str]] = field(default_factory=list)
    charged_twice: list[tuple[str, str]] = field(default_factory=list)
    unexplained: list[tuple[str, str]] = field(default_factory=list)
    #: Tasks by end.
    ends: Counter[str] = field(default_factory=Counter)
    #: What the provider did to callbacks, creates, fetches and queries.
    weather: Counter[str] = field(default_factory=Counter)

    @property
    def line(self) -> str:
        return (
            f"lost {len(self.lost)}, duplicated {len(self.duplicated)}, "
            f"charged twice {len(self.charged_twice)}, unexplained {len(self.unexplained)}"
        )

    @property
    def findings(self) -> list[tuple[str, str]]:
        return [*self.lost, *self.duplicated, *self.charged_twice, *self.unexplained]


def settled(scene: Scene, submitter: Submitter) -> bool:
    """Say whether nothing is under way any more, at the client, at the service or at the provider."""
    if not submitter.done() or scene.rows("SELECT 1 FROM job LIMIT 1"):
        return False
    told = [one["outcome"] for task in scene.deployment.sandbox.ledger()["tasks"] for one in task["callbacks"]]
    return None not in told and not scene.rows("SELECT 1 FROM job LIMIT 1")


def judge(scene: Scene, submitter: Submitter) -> Verdict:
    """Compare everything with everything."""
    verdict = Verdict()
    ledger = scene.deployment.sandbox.ledger()
    made = {task["external_task_id"]: task for task in ledger["tasks"]}
    shown = {task["id"]: task for task in _listed(scene)}
    accepted = {order.ids[0]: order for order in submitter.orders if order.ids}
    verdict.ends.update(task["state"] for task in shown.values())
    verdict.weather.update(_weather(ledger))

    verdict.unexplained += [("", said) for said in submitter.odd]
    verdict.duplicated += [
        ("", f"order {o.number} stands for tasks {o.ids}") for o in submitter.orders if len(set(o.ids)) > 1
    ]
    for task in accepted.keys() - shown.keys():
        verdict.lost.append((task, "was accepted, and the service does not know it"))
    for task in shown.keys() - accepted.keys():
        verdict.unexplained.append((task, "nobody ordered it"))
    told = Counter({str(task): number for task, number in scene.rows(KEPT)})
    for task, state in shown.items():
        _judge_task(verdict, state, made.get(task))
        answered = sum("200" in {one["outcome"], *one["copies"]} for one in made.get(task, {}).get("callbacks", ()))
        if told[task] < answered:
            verdict.lost.append((task, f"{answered} callbacks were answered 200, {told[task]} are kept"))
    _judge_charges(verdict, ledger, shown)
    _judge_bucket(verdict, scene.objects.bucket, shown, made)
    _judge_service(verdict, scene, len(accepted))
    return verdict


KEPT = "SELECT task_id, count(*) FROM inbox GROUP BY 1"


def _listed(scene: Scene) -> Iterator[dict[str, Any]]:
    cursor: dict[str, str] = {}
    while True:
        page = scene.first.client.get("/v1/tasks", params={"limit": 200, **cursor}).raise_for_status().json()
        yield from page["tasks"]
        if page["next_cursor"] is None:
            return
        cursor = {"cursor": page["next_cursor"]}


def _judge_task(verdict: Verdict, shown: dict[str, Any], made: dict[str, Any] | None) -> None:
    """A task that the provider made ends as the provider says, every other one does not end at all here."""
    task, state, reason = shown["id"], shown["state"], shown["reason"]
    if state not in ENDS:
        verdict.lost.append((task, f"is still {state}: the provider says {made and made['status']}"))
        return
    said = None if made is None else made["status"]
    expected = {"succeed": ("archived", None), "failed": ("failed", "provider_failed")}.get(said or "")
    if (state, reason) != expected:
        verdict.unexplained.append((task, f"ended {state} ({reason}: {shown['detail']}): the provider says {said}"))


def _judge_charges(verdict: Verdict, ledger: dict[str, Any], shown: dict[str, Any]) -> None:
    times = Counter(task["external_task_id"] for task in ledger["tasks"])
    for task, number in times.items():
        if number > 1:
            verdict.charged_twice.append((task, f"the provider made {number} of it"))
        if task not in shown:
            verdict.charged_twice.append((task or "", "the provider made it for nobody"))


def _judge_bucket(verdict: Verdict, bucket: Path, shown: dict[str, Any], made: dict[str, Any]) -> None:
    """Each archived file is in the bucket once, with the bytes that the provider made, and little else is there."""
    files = {str(file.relative_to(bucket)): file for file in bucket.rglob("*") if file.is_file()}
    named = set()
    for task, state in shown.items():
        if state["state"] != "archived" or task not in made:
            continue
        truth = {(audio["id"], audio["format"]): (audio["bytes"], audio["sha256"]) for audio in made[task]["audios"]}
        stored = {}
        for asset in state["assets"]:
            name = (asset["s3_uri"] or "").removeprefix(f"s3://{bucket.name}/")
            named.add(name)
            content = files[name].read_bytes() if name in files else b""
            stored[asset["clip"], asset["format"]] = (len(content), hashlib.sha256(content).hexdigest())
        if stored != truth:
            verdict.lost.append((task, f"the bucket has {stored}, the provider made {truth}"))
    _judge_names(verdict, files.keys(), named)


def _judge_names(verdict: Verdict, names: Collection[str], named: AbstractSet[str]) -> None:
    media = {name for name in names if name.endswith(FORMATS)}
    each: dict[tuple[str, str], list[str]] = defaultdict(list)
    for name in media:
        each[name.partition("/")[0], name.rpartition(".")[2]].append(name)
    for (task, _), same in each.items():
        if len(same) > 1:
            verdict.duplicated.append((task, f"is stored as {sorted(same)}"))
    verdict.unexplained += [(name.partition("/")[0], f"{name} is of no archived task") for name in media - named]
    verdict.unexplained += [
        ("", f"{name} lies in the bucket")
        for name in set(names) - media
        if "/manifest-" not in name and not name.startswith(PROBES)
    ]


def _judge_service(verdict: Verdict, scene: Scene, accepted: int) -> None:
    """The service's own sum is right, each open task has its work, and no log tells of a fault of ours."""
    ledger = scene.first.ledger()
    if ledger["accepted"] != accepted:
        verdict.lost.append(("", f"the ledger has {ledger['accepted']} accepted, the client {accepted}"))
    verdict.unexplained += [("", f"{row[0]} lacks its job") for row in scene.rows(WITHOUT_WORK)]
    verdict.unexplained += [("", f"dead: {row[0]}") for row in scene.rows(DEAD)]
    complaints = Counter(scene.deployment.complaints())
    verdict.unexplained += [("", f"{complaints[name]} x {name} in the log") for name in FAULTS & complaints.keys()]
    for file, text in scene.deployment.written():
        if "Traceback (most recent call last)" in text:
            at = text.index("Traceback (most recent call last)")
            verdict.unexplained.append(("", f"{file.name}: {text[max(0, at - 600) : at + 4000]}"))


def _weather(ledger: dict[str, Any]) -> Iterator[str]:
    for task in ledger["tasks"]:
        yield from (f"task {fault}" for fault in task["faults"])
        for told in task["callbacks"]:
            yield from (f"callback {fault}" for fault in told["faults"])
        for tried in task["attempts"]:
            yield from (f"create {fault}" for fault in tried["faults"])
        for fetched in task["fetches"]:
            yield from (f"fetch {fault}" for fault in fetched["faults"])
        yield from (f"query {fault}" for fault in task["queries"])
