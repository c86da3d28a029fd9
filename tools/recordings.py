"""Run real commands on a terminal and draw what they show: `make recordings` writes `docs/assets/*.svg`."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

ASSETS: Final = Path(__file__).resolve().parent.parent / "docs" / "assets"
COLUMNS: Final = 112
LINES: Final = 60
#: Stands for the directory of the recording.
HOME: Final = "/srv"
#: Seconds; far above what any of it takes.
PATIENCE: Final = 60.0
PROMPTS: Final = ("rain on a tin roof", "a train far away at night", "waves on a pebble beach")
#: What moves the cursor or erases; colours are left where they stand.
_CONTROL: Final = re.compile(r"\r|\n|\x1b\[(\d*)A|\x1b\[2K|\x1b\[\?\d+[hl]")
#: Fonts are fetched from nowhere.
_FORMAT: Final = re.sub(r"\s*@font-face {{.*?}}\n", "\n", CONSOLE_SVG_FORMAT, flags=re.DOTALL)


def main() -> int:
    """Record all; return the exit status."""
    ASSETS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="receiver-recordings-") as name:
        place = Path(name)
        place.chmod(0o711)
        record("demo", ["demo", "--tasks", "12"], place, {})
        with deployed(place) as variables:
            ids = [
                said(["tasks", "submit", "sandbox", "text-to-audio", f"prompt={each}", "duration:=4"], place, variables)
                for each in PROMPTS
            ]
            record("watch", ["tasks", "watch", *ids], place, variables)
            record("doctor", ["doctor"], place, variables)
    return 0


def record(name: str, arguments: Sequence[str], place: Path, variables: Mapping[str, str]) -> None:
    """Run `receiver` with *arguments* on a terminal and draw what stands there at the end."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, highlight=False)
    console.print(Text("$ ", style="bold green") + Text(" ".join(["receiver", *arguments]), style="bold"))
    # Where it ran on this machine is nobody's business.
    for line in screen(run(arguments, place, variables).replace(str(place), HOME)):
        console.print(Text.from_ansi(line), overflow="fold")
    svg = console.export_svg(title="receiver", theme=MONOKAI, code_format=_FORMAT, unique_id=name)
    (ASSETS / f"{name}.svg").write_text("\n".join(line.rstrip() for line in svg.splitlines()) + "\n", "utf-8")
    sys.stdout.write(f"wrote docs/assets/{name}.svg\n")


def run(arguments: Sequence[str], place: Path, variables: Mapping[str, str]) -> str:
    """Run `receiver` on a terminal of its own and return all that it wrote."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    process = subprocess.Popen(program(arguments), cwd=place, env=environment(variables), stdout=theirs, stderr=theirs)
    os.close(theirs)
    written = b""
    try:
        while chunk := os.read(ours, 65_536):
            written += chunk
    except OSError as exc:
        # Linux says so when the other side has closed.
        if process.wait() not in {0, 1}:
            raise RuntimeError(written.decode(errors="replace")) from exc
    os.close(ours)
    return written.decode()


def screen(written: str) -> list[str]:
    """Return the lines that stand on a terminal after *written*; what draws anew always erases whole lines first."""
    lines, row, last = [""], 0, 0
    for found in _CONTROL.finditer(written):
        lines[row] += written[last : found.start()]
        last = found.end()
        match found[0]:
            case "\n":
                row += 1
                lines += [""] * (row + 1 - len(lines))
            case "\x1b[2K":
                lines[row] = ""
            case up if up.endswith("A"):
                row = max(0, row - int(found[1] or 1))
    lines[row] += written[last:]
    while lines and not lines[-1].strip():
        lines.pop()
    return lines


@contextmanager
def deployed(place: Path) -> Iterator[dict[str, str]]:
    """Run a sandbox and a service; give the variables of both and of who speaks to them."""
    web, worker, provider = free_port(), free_port(), free_port()
    url = f"http://127.0.0.1:{web}"
    variables = {
        "SANDBOX_API_KEY": "sandbox-key",
        "RECEIVER_URL": url,
        "RECEIVER_PUBLIC_URL": url,
        "RECEIVER_PORT": str(web),
        "RECEIVER_WORKER_PORT": str(worker),
        "RECEIVER_ACCOUNTS__SANDBOX__DIALECT": "sandbox",
        "RECEIVER_ACCOUNTS__SANDBOX__BASE_URL": f"http://127.0.0.1:{provider}",
        "RECEIVER_ACCOUNTS__SANDBOX__API_KEY": "sandbox-key",
        "RECEIVER_ACCOUNTS__SANDBOX__ALLOW_HTTP": "true",
        "RECEIVER_ACCOUNTS__SANDBOX__ALLOW_CIDRS": "127.0.0.0/8",
    }
    said(["migrate"], place, variables)
    variables["RECEIVER_API_KEY"] = said(["keys", "create"], place, variables)
    with ExitStack() as stack:
        for arguments in (["sandbox", "--port", str(provider), "--state-dir", "sandbox"], ["serve"]):
            log = stack.enter_context((place / f"{arguments[0]}.log").open("wb"))
            process = subprocess.Popen(
                program(arguments), cwd=place, env=environment(variables), stdout=log, stderr=log
            )
            stack.callback(process.wait)
            stack.callback(process.terminate)
        deadline = time.monotonic() + PATIENCE
        while subprocess.run(
            program(["health"]), env=environment(variables), capture_output=True, check=False
        ).returncode:
            if time.monotonic() > deadline:
                raise RuntimeError((place / "serve.log").read_text("utf-8"))
            threading.Event().wait(0.1)
        yield variables


def said(arguments: Sequence[str], place: Path, variables: Mapping[str, str]) -> str:
    """Run `receiver` and return what it printed."""
    done = subprocess.run(
        program(arguments), cwd=place, env=environment(variables), capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def program(arguments: Sequence[str]) -> list[str]:
    """Return the command line of *arguments*."""
    return [sys.executable, "-m", "receiver", *arguments]


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Return our environment without settings of the person who records."""
    ours = {name: text for name, text in os.environ.items() if not name.startswith(("RECEIVER_", "KLING_", "SANDBOX_"))}
    return {**ours, "TERM": "xterm-256color", "COLUMNS": str(COLUMNS), "LINES": str(LINES), **variables}


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


if __name__ == "__main__":
    sys.exit(main())
