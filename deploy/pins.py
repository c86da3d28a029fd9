"""
Print what a pinned requirements file says of the named packages, hashes and all.

    python deploy/pins.py requirements/dev.txt hatchling packaging > build.txt

So that an image can install a few of them without a second list that drifts.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

#: A pin begins at the start of a line; its hashes follow, indented.
_PIN = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==.*\n(?:[ ].*\n?)*", re.MULTILINE)


def pins(text: str, names: list[str]) -> str:
    """
    Return the pins of *names*, each with its hashes; a package may have several, for different Pythons.

    Raises:
        KeyError: One of them is not pinned there.
    """
    found: dict[str, list[str]] = {name: [] for name in names}
    for match in _PIN.finditer(text):
        if match["name"] in found:
            found[match["name"]].append(match[0])
    if missing := [name for name, each in found.items() if not each]:
        raise KeyError(f"not pinned: {', '.join(missing)}")
    return "".join(text for each in found.values() for text in each)


if __name__ == "__main__":
    sys.stdout.write(pins(Path(sys.argv[1]).read_text("utf-8"), sys.argv[2:]))
