"""Write the made pages; with `--site DIRECTORY`, see instead that a built site asks nobody else for anything."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Final

from tools.documents import DOCS, pages

#: What a browser fetches by itself.
_FETCHED: Final = re.compile(
    r"<(?:script|img|iframe|source|audio|video)\b[^>]*\ssrc=[\"']?(?:https?:)?//[^\s\"'>]+"
    r"|<link\b(?=[^>]*rel=[\"']?(?:stylesheet|preload|preconnect|icon))[^>]*href=[\"']?(?:https?:)?//[^\s\"'>]+"
    r"|@import\s[^;]*//[^;]+|url\([\"']?(?:https?:)?//[^)]+\)"
)


def main(arguments: list[str]) -> int:
    """Do what is asked; return the exit status."""
    if arguments[:1] == ["--site"]:
        site = Path(arguments[1])
        found = [
            f"{file.relative_to(site)}: {match[0]}"
            for file in sorted(site.rglob("*"))
            if file.suffix in {".html", ".css", ".svg"}
            for match in _FETCHED.finditer(file.read_text("utf-8"))
        ]
        sys.stdout.write("".join(f"{line}\n" for line in found))
        return 1 if found else 0
    for name, text in pages().items():
        file = DOCS / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.exists() or file.read_text("utf-8") != text:
            file.write_text(text, "utf-8")
            sys.stdout.write(f"wrote docs/{name}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
