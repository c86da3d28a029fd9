"""`python -m receiver.sandbox`, and what `receiver sandbox` runs."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from dataclasses import Field, fields
from pathlib import Path
from typing import Any, Final

from receiver.sandbox.config import SandboxConfig
from receiver.sandbox.course import FAIL_MARK
from receiver.sandbox.faults import NO_FAULTS, Faults
from receiver.sandbox.houses import HOUSES, MONTH
from receiver.sandbox.server import run

#: Secrets may be given by the environment, where no list of processes shows them.
VARIABLES: Final = ("api_key", "secret_key", "webhook_secret", "control_key")


def main(arguments: Sequence[str] | None = None, *, program: str = "python -m receiver.sandbox", port: int = 0) -> None:
    """
    Read the options and serve.

    Raises:
        SystemExit: 2 when the options make no sense, else what `server.run` says.
    """
    parser = _parser(program, port)
    options = vars(parser.parse_args(arguments))
    host, bound = options.pop("host"), options.pop("port")
    faults = Faults(**{one.name: options.pop(one.name) for one in fields(Faults)})
    try:
        config = SandboxConfig(faults=faults, **options)
    except ValueError as exc:
        parser.error(str(exc))
    run(config, host=host, port=bound)


def _parser(program: str, port: int) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=program,
        description="A strict simulator of Kling's audio APIs, and of the providers that resell them.",
        epilog=_epilog(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    given = {name: os.environ.get(f"SANDBOX_{name.upper()}") for name in VARIABLES}
    add = parser.add_argument
    add("--state-dir", type=Path, required=True, help="database and media; made when missing")
    add("--host", default="127.0.0.1", help="address to listen on")
    add("--port", type=int, default=port, help="0: a free one (printed when ready); default %(default)s")
    add("--api-key", default=given["api_key"], required=not given["api_key"], help="taken as Bearer <key>")
    add("--keys", type=_key, action=_Keys, default={}, metavar="HOUSE=KEY", help="a house's own key; may be repeated")
    add("--access-key", help="with --secret-key: JWTs are taken too")
    add("--secret-key", default=given["secret_key"])
    add("--webhook-secret", default=given["webhook_secret"], help="whsec_<base64>: callbacks are signed with it")
    add("--control-key", default=given["control_key"], help="opens /control (default: the API key)")
    add("--concurrency", type=int, default=20, help="tasks of one house not yet ended at one time; 0: no limit")
    add("--run-seconds", type=float, default=1.5, help="average run time; each task takes 50 %% to 150 %% of it")
    add("--link-seconds", type=int, default=MONTH, help="life of a media link; resellers' live a day at most")
    add("--clips", type=int, default=0, help="so many different sounds, shared by all tasks; 0: each has its own")
    add("--seed", type=int, default=0, help="the same seed gives the n-th order the same run time and faults")
    add("--public-url", help="where media links point (default: the bound address)")
    group = parser.add_argument_group("faults", "RATE is from 0 to 1, DURATION as in 500ms, 20s, 2m; by default none.")
    for one in fields(Faults):
        _add_fault(group, one)
    return parser


def _epilog() -> str:
    houses = "\n".join(f"  /{house.name:<18}{house.about}" for house in HOUSES.values())
    variables = ", ".join(f"SANDBOX_{name.upper()}" for name in VARIABLES)
    return (
        f"houses, each with an account, a ledger and faults of its own below its path:\n{houses}\n\n"
        f"A prompt with {FAIL_MARK} in it ends failed, without a charge.\n"
        f"Secrets may come by the environment: {variables}"
    )


class _Keys(argparse.Action):
    """Gathers keys by house."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        del parser, option_string
        setattr(namespace, self.dest, getattr(namespace, self.dest) | values)


def _key(text: str) -> dict[str, str]:
    house, equals, key = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError("must be HOUSE=KEY")
    return {house: key}


def _add_fault(group: argparse._ArgumentGroup, one: Field[Any]) -> None:
    read: Callable[[str], object] = one.metadata["read"]

    def parsed(text: str) -> object:
        try:
            return read(text)
        except ValueError as exc:
            raise argparse.ArgumentTypeError(str(exc)) from exc

    default = getattr(NO_FAULTS, one.name)
    name, form, about = f"--{one.name.replace('_', '-')}", one.metadata["form"], one.metadata["help"]
    group.add_argument(name, type=parsed, default=default, metavar=form, help=about)


if __name__ == "__main__":
    main()
