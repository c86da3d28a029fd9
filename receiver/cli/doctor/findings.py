"""What a check says, and how it is shown."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Final

from rich.console import Console
from rich.text import Text

from receiver.cli.tables import clean


class Status(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"  #: it works, though not as it could, or not for long
    BROKEN = "broken"  #: something that is set up does not work


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check has found; holds no secret."""

    name: str
    status: Status
    found: str
    #: What to do; None where there is nothing to do.
    mend: str | None = None


_STYLES: Final = {Status.OK: "green", Status.WARNING: "yellow", Status.BROKEN: "bold red"}


def ok(name: str, found: str) -> Finding:
    """Make a finding that all is well."""
    return Finding(name, Status.OK, found)


def warning(name: str, found: str, mend: str) -> Finding:
    """Make a finding that a person should look at."""
    return Finding(name, Status.WARNING, found, mend)


def broken(name: str, found: str, mend: str) -> Finding:
    """Make a finding that something does not work."""
    return Finding(name, Status.BROKEN, found, mend)


def worst(findings: Sequence[Finding]) -> Status:
    """Return the status of all together."""
    order = list(Status)
    return max((finding.status for finding in findings), key=order.index, default=Status.OK)


def tell(findings: Sequence[Finding], *, as_json: bool) -> None:
    """Write the findings to stdout, a line each; below what is not well, how it is mended."""
    if as_json:
        document = {"status": worst(findings), "checks": [asdict(finding) for finding in findings]}
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
        return
    console = Console(highlight=False, soft_wrap=True)
    width = max((len(finding.name) for finding in findings), default=0)
    for finding in findings:
        line = Text(f"{finding.status:<7}", style=_STYLES[finding.status])
        line.append(f"  {finding.name:<{width}}  {clean(finding.found)}", style="default")
        console.print(line)
        if finding.mend is not None:
            console.print(Text(f"{'':<{width + 11}}-> {clean(finding.mend)}", style="dim"))
    counted = Counter(finding.status for finding in findings)
    console.print(Text(", ".join(f"{counted[status]} {status}" for status in Status if counted[status])))
