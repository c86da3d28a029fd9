"""Whatever is heard of one task, in any order and as often as it likes: one truthful answer gives one end."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from receiver.core.model import ENDS, JobKind, State, TaskId
from receiver.flow import act
from tests.flow.rig import OWNER, Rig, Stage
from tests.flow.world import CUT, JsonMap, Reply, created, envelope, sound

#: What the provider says in the course of a task, by how it is told.
HEARD = st.lists(
    st.tuples(st.sampled_from(["signed", "hint", "poll", "archive"]), st.sampled_from([0, 1, 2])), max_size=8
)


def course(rig: Rig, task: TaskId, end: str) -> list[JsonMap]:
    clips = ("c1", "c2") if end == "succeed" else ()
    return [
        rig.world.record("submitted", task),
        rig.world.record("processing", task),
        rig.world.record(end, task, clips=clips, final_unit_deduction="0.25", task_status_msg="risk control"),
    ]


async def run_if_there(rig: Rig, task: TaskId, kind: JobKind) -> None:
    await rig.forget_spacing(task)
    if kind in await rig.jobs_of(task):
        job = await rig.claim(kind)
        if job is not None:
            await rig.handle(job)


async def hear(rig: Rig, task: TaskId, how: str, record: JsonMap) -> None:
    if how == "archive":
        await run_if_there(rig, task, JobKind.ARCHIVE)
    elif how == "poll":
        rig.world.queries = [envelope(0, data=record)]
        await run_if_there(rig, task, JobKind.SUBMIT)
        await run_if_there(rig, task, JobKind.QUERY)
    elif await rig.call_back(task, record, sign="good" if how == "signed" else "no"):
        await rig.work(JobKind.ADVANCE)


async def finish(rig: Rig, task: TaskId, last: JsonMap) -> None:
    rig.world.queries = [envelope(0, data=last)]
    await act.refresh(rig.services, OWNER, task)
    for _ in range(6):
        for kind in (JobKind.SUBMIT, JobKind.QUERY, JobKind.ARCHIVE):
            await run_if_there(rig, task, kind)
    assert (await rig.state(task))[0] in ENDS
    assert await rig.jobs_of(task) == {}


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(heard=HEARD, end=st.sampled_from(["succeed", "failed"]), unsure=st.booleans())
def test_any_order_of_truthful_reports_ends_the_same(
    stage: Stage, heard: list[tuple[str, int]], end: str, *, unsure: bool
) -> None:
    async def story(rig: Rig) -> None:
        # All examples share a database, and the provider gives its ids anew each time: those of before are long gone.
        await rig.sql("UPDATE task SET last_sent_at = now() - interval '31 d'")
        rig.world.creates = [CUT if unsure else created()]
        for seed, clip in enumerate(("c1", "c2")):
            for kind in ("mp3", "wav"):
                rig.world.media[f"/media/{clip}.{kind}"] = [Reply(200, sound(kind, seed))]
        task = await rig.accept()
        await rig.work(JobKind.SUBMIT)
        told = course(rig, task, end)
        for how, which in heard:
            await hear(rig, task, how, told[which])
        await finish(rig, task, told[-1])

        found = await rig.task(task)
        expected = (State.ARCHIVED, None) if end == "succeed" else (State.FAILED, "provider_failed")
        assert (found.state, found.reason, found.units, found.revision) == (*expected, "0.25", 1)
        assert found.provider_task_id == "p1"
        wanted = [(c, k, len(sound(k, n))) for n, c in enumerate(("c1", "c2")) for k in ("mp3", "wav")]
        stored = sorted((asset.clip, asset.format.value, asset.size) for asset in found.assets)
        assert stored == (wanted if end == "succeed" else [])
        assert len(rig.world.made()) == 1
        assert found.attention is None

    stage.play(story)
