"""A worker as a process of its own: each query job leaves its mark in the table `mark`; one kind of job kills it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

from receiver.core.model import JobKind
from receiver.flow.outcome import Done, Outcome
from receiver.flow.services import Services
from receiver.jobs.worker import HANDLERS, Worker, single
from receiver.local.store import StoreAddress
from receiver.store.jobs import Job
from receiver.wiring import open_services
from tests.flow.rig import Stage

POISON = 666


async def leave_mark(services: Services, job: Job) -> Outcome:
    async with services.database.connection() as conn:
        await conn.execute("INSERT INTO tries (subject) VALUES (%(s)s)", {"s": job.subject})
        if job.subject == POISON:
            os.kill(os.getpid(), signal.SIGKILL)
        await asyncio.sleep(0.01)
        await conn.execute("INSERT INTO mark (subject) VALUES (%(s)s) ON CONFLICT DO NOTHING", {"s": job.subject})
    return Done()


async def main() -> None:
    given = json.loads(sys.argv[1])
    stage = Stage(given["database_url"], StoreAddress(**given["store"]), given["prefix"], Path(given["directory"]))
    async with open_services(stage.settings("http://127.0.0.1:1")) as services:
        worker = Worker(services, handlers={**HANDLERS, JobKind.QUERY: single(leave_mark)})
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.stop.set)
        await worker.run()


if __name__ == "__main__":
    asyncio.run(main())
