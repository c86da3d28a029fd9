"""Every command of the documents that can run here is run, in the order of its page, on a real deployment."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests import evidence
from tests.docs import forking, reading
from tests.docs.reading import Command
from tests.system import processes
from tests.system.deployment import STRANGERS, free_port

START = reading.DOCS / "start.md"
README = reading.ROOT / "README.md"
#: Ports as the documents have them; the tests take free ones.
PORTS = ("8080", "8081", "8090")
#: Seconds; far above what a page takes.
PATIENCE = 250


@dataclass
class Machine:
    """Where a reader works: a directory, ports, and what the shells left running."""

    directory: Path
    ports: dict[str, str]
    shells: list[subprocess.Popen[bytes]] = field(default_factory=list)
    #: Where the program is that is put before the real one, if any.
    bin: Path | None = None

    def quicken(self) -> None:
        """Let `receiver` be forked from a process that has imported it already."""
        self.bin = Path(tempfile.mkdtemp(dir=self.directory, prefix=".bin-"))
        address = self.bin / "socket"
        forking.install(self.bin, address)
        command = [sys.executable, "-m", "tests.docs.forking", str(address)]
        server = subprocess.Popen(command, cwd=reading.ROOT, env=self.environment(), start_new_session=True)
        self.shells.append(server)
        processes.until(address.exists, what="commands can be forked")

    def environment(self) -> dict[str, str]:
        web, worker, sandbox = self.ports.values()
        ours = {name: text for name, text in os.environ.items() if not name.startswith(STRANGERS)}
        return {
            **ours,
            "PATH": os.pathsep.join(
                [*([str(self.bin)] if self.bin else []), str(Path(sys.executable).parent), ours["PATH"]]
            ),
            "RECEIVER_PORT": web,
            "RECEIVER_WORKER_PORT": worker,
            "RECEIVER_URL": f"http://127.0.0.1:{web}",
            "RECEIVER_ACCOUNTS__SANDBOX__BASE_URL": f"http://127.0.0.1:{sandbox}",
        }

    def work(self, page: Path, environment: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
        """Run the commands of *page* in one shell until one goes wrong; return what did, and the environment left."""
        told = reading.commands(page)
        place = Path(tempfile.mkdtemp(dir=self.directory, prefix=f".{page.stem}-"))
        script = place / "script"
        script.write_text(
            "".join(self._step(each, place / str(n)) for n, each in enumerate(told)) + f"env -0 > {place}/env\n"
        )
        shell = subprocess.Popen(
            ["/bin/bash", str(script)], cwd=self.directory, env=dict(environment), start_new_session=True
        )
        self.shells.append(shell)
        shell.wait(PATIENCE)
        wrong = [complaint for n, each in enumerate(told) for complaint in judge(each, place / str(n))]
        left = (place / "env").read_text().split("\0") if (place / "env").exists() else []
        return wrong, dict(line.partition("=")[::2] for line in left if line)

    def _step(self, command: Command, place: Path) -> str:
        text = re.sub(rf"\b({'|'.join(PORTS)})\b", lambda found: self.ports[found[0]], command.text)
        # What stands in the braces changes this shell, so that the next command finds its variables.
        return (
            f"{{ {text}\n}} > {place} 2>&1 < /dev/null\n"
            f"status=$?; echo $status > {place}.status; [ $status = {command.status} ] || exit 1\n"
        )

    def stop(self) -> None:
        """Stop all that a page left running, as its reader would; nothing is left."""
        for shell in self.shells:
            with suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGTERM)
            shell.wait()
        processes.until(lambda: not processes.mentioning(str(self.directory)), what="all is stopped")


def judge(command: Command, place: Path) -> Iterator[str]:
    """Say what is not as the document has it; a command behind one that went wrong is not judged."""
    status = Path(f"{place}.status")
    if not status.exists():
        return
    output = place.read_text(errors="replace")
    if int(status.read_text()) != command.status:
        yield f"{command.where}: {shlex.quote(command.text)} ended with {status.read_text().strip()}:\n{output}"
    elif not command.agrees(output):
        yield f"{command.where}: {shlex.quote(command.text)} said\n{output}\nand not\n{command.expected}"


@pytest.fixture
def machines() -> Iterator[list[Machine]]:
    """Two fresh directories; all that was started there is stopped after the test."""
    drawn = set[int]()
    while len(drawn) < 2 * len(PORTS):
        drawn.add(free_port())
    made = []
    for _ in range(2):
        place = Path(tempfile.mkdtemp(prefix="receiver-docs-"))
        place.chmod(0o711)  # the database may run as another user
        made.append(Machine(place, {port: str(drawn.pop()) for port in PORTS}))
    yield made
    for machine in made:
        machine.stop()
        shutil.rmtree(machine.directory)


@pytest.mark.system
@pytest.mark.timeout(900)
def test_every_command_does_what_its_page_says(machines: list[Machine]) -> None:
    first, second = machines
    wrong, _ = first.work(README, first.environment())
    second.quicken()
    failed, environment = second.work(START, second.environment())
    wrong += failed
    assert wrong == []
    others = [page for page in reading.pages() if page not in {README, START} and reading.commands(page)]
    assert len(others) >= 5
    for page in others:
        wrong += second.work(page, environment)[0]
    assert wrong == []
    for command in [each for page in reading.pages() for each in reading.commands(page)]:
        for said in re.findall(r"\breceiver ([a-z][^|;&)]*)", command.text):
            evidence.command(said.split())
    evidence.settings(environment)


def test_what_is_not_run_says_why() -> None:
    left = [
        block.where
        for page in reading.pages()
        for block in reading.blocks(page)
        if block.language not in {*reading.SILENT, "console"} and block.excuse is None
    ]
    assert left == []
