"""Break everything at once and count what was lost: `python -m tests.chaos --minutes 2 --seed 7`."""

from __future__ import annotations

import argparse
import secrets
import sys

from tests.chaos.run import run


def main() -> int:
    """Run once; return 1 when anything was lost, stored or charged twice, or cannot be explained."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=None, help="by default a new one")
    given = parser.parse_args()
    seed = secrets.randbelow(10**6) if given.seed is None else given.seed

    def say(line: str) -> None:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()

    return 0 if run(seed, given.minutes * 60, say) else 1


if __name__ == "__main__":
    sys.exit(main())
