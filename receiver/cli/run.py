"""Run the service, whole or in parts."""

from __future__ import annotations

import asyncio
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog
import typer
import uvloop

from receiver import wiring
from receiver.cli import failing, keys, reading
from receiver.core.errors import Misconfigured, ReceiverError
from receiver.jobs.worker import Worker
from receiver.local.postgres import EmbeddedPostgres, running
from receiver.local.private import read_or_make
from receiver.local.store import EmbeddedStore
from receiver.local.supervisor import ChildSpec, Service, Supervisor
from receiver.settings import FILE, Settings, is_secret
from receiver.store import migrate as migrations
from receiver.telemetry import logs
from receiver.web.app import build_ops_app
from receiver.web.server import serve as serve_app
from receiver.web.server import serve_web, stop_on_signal

log = structlog.get_logger(__name__)


def serve() -> None:
    """
    Run everything as children of one process: embedded parts where none are set, web and worker.

    What ends is started again, after ever longer pauses. Only when web or worker has never run, and says that it cannot
    as it is set up, all is stopped: its port is taken, for example, or the bucket refuses the key.
    """
    settings = read_settings()
    services, env = embed(settings)
    try:
        url = env["RECEIVER_DATABASE_URL"]
        for name in migrations.migrate(url):
            log.info("migration.applied", migration=name)
        if (key := asyncio.run(keys.first(url))) is not None:
            sys.stdout.write(f"API key (shown once): {key}\n")
            sys.stdout.flush()
        status = Supervisor(services, children(env)).run()
    finally:
        for service in reversed(services):
            service.stop()
    raise typer.Exit(status)


def web() -> None:
    """Serve the API and the callbacks; needs a database and a bucket."""

    async def run(settings: Settings) -> None:
        async with wiring.open_services(settings) as services:
            wiring.spare_what_lives()
            await serve_web(services, host=settings.host, port=settings.port)

    with _hopeless_told():
        uvloop.run(run(read_settings()))


def worker() -> None:
    """Submit, ask, archive; needs a database and a bucket. Any number may run."""

    async def run(settings: Settings) -> None:
        async with wiring.open_services(settings) as services:
            wiring.spare_what_lives()
            stop = stop_on_signal()
            work = Worker(services, stop=stop)
            app = build_ops_app(services)
            ops = serve_app(app, host=settings.worker_host, port=settings.worker_port, name="worker", stop=stop)
            async with asyncio.TaskGroup() as group:
                group.create_task(work.run())
                group.create_task(ops)

    with _hopeless_told():
        uvloop.run(run(read_settings()))


def migrate() -> None:
    """Bring the database to this version."""
    with database(read_settings(), make=True) as url:
        applied = migrations.migrate(url)
    sys.stdout.write("".join(f"applied {name}\n" for name in applied) or "nothing to do\n")


@contextmanager
def _hopeless_told() -> Iterator[None]:
    """End with a status of its own what no other start can mend: `serve` does not try it again."""
    try:
        yield
    except (ReceiverError, BaseExceptionGroup) as exc:
        errors = failing.known(exc)
        if not any(failing.hopeless(each) for each in errors):
            raise
        failing.tell(*errors)
        raise typer.Exit(failing.HOPELESS) from exc


def read_settings() -> Settings:
    """
    Read the environment and set up the log.

    Raises:
        Misconfigured: Names each variable that is wrong.
    """
    settings = reading.settings()
    logs.configure(form=settings.log_format, level=settings.log_level, secrets=reading.hidden(settings))
    return settings


@contextmanager
def database(settings: Settings, *, make: bool = False) -> Iterator[str]:
    """
    Give the URL of the database that is set, or of the embedded one, which is started if it does not run.

    Args:
        settings: Say which.
        make: Make the embedded one where there is none yet.

    Raises:
        Misconfigured: The embedded one cannot run here, or is not there.
    """
    if settings.database_url is not None:
        yield settings.database_url.get_secret_value()
        return
    directory = settings.data_dir / "postgres"
    if (url := running(directory)) is not None:
        yield url
        return
    if not make and not directory.exists():
        raise Misconfigured(f"there is no database in {directory} yet: `receiver serve` makes it (RECEIVER_DATA_DIR)")
    postgres = EmbeddedPostgres(directory)
    try:
        yield postgres.start()
    finally:
        postgres.stop()


def embed(settings: Settings) -> tuple[list[Service], dict[str, str]]:
    """
    Start the parts that no setting names; return them and what our children need to know.

    Raises:
        Misconfigured: A part cannot run here, or another receiver runs on the directory.
    """
    services: list[Service] = []
    env: dict[str, str] = {}
    try:
        if settings.database_url is None:
            postgres = EmbeddedPostgres(settings.data_dir / "postgres")
            services.append(postgres)
            env["RECEIVER_DATABASE_URL"] = postgres.start()
        else:
            env["RECEIVER_DATABASE_URL"] = settings.database_url.get_secret_value()
        if settings.s3_endpoint is None:
            store = EmbeddedStore(settings.data_dir / "store")
            services.append(store)
            address = store.start()
            env |= {
                "RECEIVER_S3_ENDPOINT": address.endpoint,
                "RECEIVER_S3_ACCESS_KEY": address.access_key,
                "RECEIVER_S3_SECRET_KEY": address.secret_key,
                "RECEIVER_S3_BUCKET": address.bucket,
            }
        if (file := own_secrets_file(settings)) is not None:
            read_or_make(file, lambda: secrets.token_hex(32))
            env[f"RECEIVER_CALLBACK_SECRETS{FILE}"] = str(file)
    except BaseException:
        for service in reversed(services):
            service.stop()
        raise
    # A file that was named for what we now give ourselves has no say.
    return services, {**{f"{name}{FILE}": "" for name in env if is_secret(name)}, **env}


def own_secrets_file(settings: Settings) -> Path | None:
    """Return the file in which we keep the callback secrets; None where they are set, or must be."""
    if settings.database_url is not None or settings.callback_secrets:
        return None
    return (settings.data_dir / "callback-secret").absolute()


def children(env: dict[str, str]) -> list[ChildSpec]:
    """Return web and worker as programs of their own."""
    program = [sys.executable, "-m", "receiver"]
    return [ChildSpec(name, [*program, name], env, hopeless=failing.HOPELESS) for name in ("web", "worker")]
