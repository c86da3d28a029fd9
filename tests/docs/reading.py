"""The documents as data: their pages, fenced blocks, commands, and what they name in backticks."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
DOCS = ROOT / "docs"
#: Blocks that are no commands.
SILENT = {"", "text", "toml", "yaml", "json"}

_FENCE = re.compile(r"(?P<indent> *)```(?P<language>\w*) *")
_MARKER = re.compile(r"<!-- not run here: (.+) -->")
_STATUS = re.compile(r"# exit status (\d+)$")
_SPAN = re.compile(r"`([^`\n]+)`")


@dataclass(frozen=True)
class Block:
    """One fenced block; *line* is that of its fence."""

    page: Path
    line: int
    language: str
    text: str
    #: Why it is not run, where somebody said so.
    excuse: str | None

    @property
    def where(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


@dataclass(frozen=True)
class Command:
    """What stands behind a `$`, and what is said to come of it."""

    where: str
    text: str
    expected: str

    @property
    def status(self) -> int:
        match = _STATUS.search(self.text)
        return int(match[1]) if match else 0

    def agrees(self, output: str) -> bool:
        """Say whether *output* is as it is told; `…` stands for anything, and nothing told for anything, too."""
        pattern = ".*".join(map(re.escape, self.expected.split("…")))
        return not self.expected or re.fullmatch(pattern, output.strip(), re.DOTALL) is not None


def pages() -> list[Path]:
    """All pages, the README first."""
    return [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]


def blocks(page: Path) -> Iterator[Block]:
    """Yield the fenced blocks of *page*."""
    lines = page.read_text("utf-8").splitlines()
    number = 0
    while number < len(lines):
        fence = _FENCE.fullmatch(lines[number])
        if fence is None:
            number += 1
            continue
        end = next(n for n in range(number + 1, len(lines)) if lines[n].strip() == "```")
        said = _MARKER.fullmatch(lines[number - 1].strip()) if number else None
        indent = len(fence["indent"])
        text = "\n".join(line[indent:] for line in lines[number + 1 : end])
        yield Block(page, number + 1, fence["language"], text, said[1] if said else None)
        number = end + 1


def commands(page: Path) -> list[Command]:
    """Return the commands of *page* that can run, in order."""
    return [each for block in blocks(page) if block.language == "console" for each in _commands(block)]


def _commands(block: Block) -> Iterator[Command]:
    lines = block.text.splitlines()
    number = 0
    while number < len(lines):
        line = lines[number]
        assert line.startswith("$ "), f"{block.where}: this is the output of no command: {line}"
        first, number = number + 1, number + 1
        text = line[2:]
        while number < len(lines) and (lines[number].startswith("> ") or not _whole(text)):
            text += "\n" + lines[number].removeprefix("> ")
            number += 1
        end = next((n for n in range(number, len(lines)) if lines[n].startswith("$ ")), len(lines))
        yield Command(
            f"{block.page.relative_to(ROOT)}:{block.line + first}", text, "\n".join(lines[number:end]).strip()
        )
        number = end


def _whole(text: str) -> bool:
    """Say whether a shell would ask for no further line."""
    if text.endswith("\\"):
        return False
    return subprocess.run(["/bin/bash", "-n", "-c", text], capture_output=True, check=False).returncode == 0


def spans(page: Path) -> Iterator[tuple[int, str]]:
    """Yield what stands in backticks, with its line; fenced blocks are left out."""
    fenced = False
    for number, line in enumerate(page.read_text("utf-8").splitlines(), 1):
        if line.strip().startswith("```"):
            fenced = not fenced
        elif not fenced:
            for match in _SPAN.finditer(line):
                yield number, match[1]
