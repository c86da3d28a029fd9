"""
Keep modules and functions small: `python -m tests.sizes`.

Exits 1 and lists what is over the limits; docstrings do not count towards a function.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

PACKAGE: Final = Path(__file__).resolve().parent.parent / "receiver"
#: Lines.
MODULE: Final = 400
FUNCTION: Final = 40

FUNCTIONS: Final = (ast.FunctionDef, ast.AsyncFunctionDef)


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Count the lines from `def` to the last one, without those of the docstring."""
    lines = (function.end_lineno or function.lineno) - function.lineno + 1
    if ast.get_docstring(function, clean=False) is not None:
        first = function.body[0]
        lines -= (first.end_lineno or first.lineno) - first.lineno + 1
    return lines


def over(file: Path, name: str) -> Iterator[str]:
    """Name the module and the functions that are too long."""
    text = file.read_text(encoding="utf-8")
    if (lines := len(text.splitlines())) > MODULE:
        yield f"{name}: {lines} lines, {MODULE} are allowed"
    for node in ast.walk(ast.parse(text, str(file))):
        if isinstance(node, FUNCTIONS) and (lines := length(node)) > FUNCTION:
            yield f"{name}:{node.lineno}: {node.name} has {lines} lines, {FUNCTION} are allowed"


def main() -> int:
    """Print what is too long, or one line; return the exit status."""
    files = sorted(PACKAGE.rglob("*.py"))
    found = [line for file in files for line in over(file, str(file.relative_to(PACKAGE.parent)))]
    for line in found or [f"{len(files)} modules, none over {MODULE} lines, no function over {FUNCTION}"]:
        sys.stdout.write(line + "\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
