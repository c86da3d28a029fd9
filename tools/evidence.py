"""Run the tests that drive the whole surface and write down what they drove: `make coverage-page`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tools.documents import pages
from tools.documents.coverage import items

ROOT: Final = Path(__file__).resolve().parent.parent
DOCS: Final = ROOT / "docs"
#: Tests that drive it on purpose, in the order in which they are named.
TESTS: Final = ("tests/system/test_surface.py", "tests/docs/test_commands.py", "tests/cli/test_demo.py")
#: Tests that are named for one item.
MOST: Final = 3


def main() -> int:
    """Do all of it; return the exit status, 1 where something has no test."""
    with tempfile.NamedTemporaryFile("r", suffix=".jsonl", encoding="utf-8") as seen:
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", *TESTS]
        subprocess.run(command, cwd=ROOT, env={**os.environ, "TESTS_EVIDENCE": seen.name}, check=True)
        runs = [json.loads(line) for line in seen.read().splitlines()]
    by_test = {run["test"]: {tuple(each) for each in run["seen"]} for run in runs}
    found = {kind: {name: _tests(kind, name, by_test) for name in names} for kind, names in items().items()}
    (DOCS / "coverage.json").write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    (DOCS / "coverage.md").write_text(pages()["coverage.md"], "utf-8")
    left = [f"{kind} {name}" for kind, names in found.items() for name, tests in names.items() if not tests]
    sys.stdout.write("".join(f"no test drives {each}\n" for each in left))
    return 1 if left else 0


def _tests(kind: str, name: str, by_test: Mapping[str, set[tuple[str, str]]]) -> list[str]:
    ordered = sorted(by_test, key=lambda test: (TESTS.index(test.partition("::")[0]), test))
    return [test for test in ordered if (kind, name) in by_test[test]][:MOST]


if __name__ == "__main__":
    sys.exit(main())
