"""`python -m receiver.sandbox`: the sandbox without the rest of the command line."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from receiver.sandbox.config import MONTH, SandboxConfig
from receiver.sandbox.course import FAIL_MARK
from receiver.sandbox.server import run


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the options and serve."""
    parser = _parser()
    options = vars(parser.parse_args(arguments))
    host, port = options.pop("host"), options.pop("port")
    try:
        config = SandboxConfig(**options)
    except ValueError as exc:
        parser.error(str(exc))
    run(config, host=host, port=port)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m receiver.sandbox",
        description="A strict simulator of Kling's official text-to-audio API.",
        epilog=f"A prompt with {FAIL_MARK} in it ends failed, without a charge.",
    )
    add = parser.add_argument
    add("--state-dir", type=Path, required=True, help="database and media; made when missing")
    add("--host", default="127.0.0.1", help="address to listen on")
    add("--port", type=int, default=0, help="0: a free one (printed when ready)")
    add("--api-key", required=True, help="taken as Authorization: Bearer <key>")
    add("--access-key", help="with --secret-key: JWTs are taken too")
    add("--secret-key")
    add("--webhook-secret", help="whsec_<base64>: callbacks are signed with it")
    add("--control-key", help="opens /control (default: the API key)")
    add("--concurrency", type=int, default=20, help="tasks not yet ended at one time; 0: no limit")
    add("--run-seconds", type=float, default=1.5, help="average run time; each task takes 50 %% to 150 %% of it")
    add("--link-seconds", type=int, default=MONTH, help="life of a media link")
    add("--seed", type=int, default=0, help="the same seed gives the same run times")
    add("--public-url", help="where media links point (default: the bound address)")
    return parser


if __name__ == "__main__":
    main()
