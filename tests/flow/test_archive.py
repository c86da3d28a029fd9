from __future__ import annotations

from receiver.core.model import JobKind, State
from tests.flow.rig import Rig, Stage


def test_a_task_goes_from_accept_to_archived(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        task = await rig.succeeded()
        await rig.work(JobKind.ARCHIVE)
        assert await rig.state(task) == (State.ARCHIVED, None)
        assert [asset.verified for asset in await rig.assets(task)] == ["readback", "readback"]

    stage.play(story)
