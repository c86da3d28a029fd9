"""The page of the command line, from the commands themselves."""

from __future__ import annotations

import argparse
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import typer

from receiver.cli.main import app
from receiver.cli.simulating import SANDBOX_PORT
from receiver.sandbox import __main__ as sandbox
from tools.documents.markdown import MADE, code, plain, table, value

_HELP: Final = "--help"


def page() -> str:
    """Return the page."""
    root: Any = typer.main.get_command(app)
    found = dict(tree(root))
    return "".join(
        [
            f"{MADE}\n\n# Command line\n\n{root.help}\n\n",
            "Exit status: 0 done, 1 something failed, 2 the command was not understood; `receiver web` and ",
            "`receiver worker` end with 78 where no other start can help before something is set otherwise. ",
            "On a terminal the output is ",
            "for people; in a pipe it is one line a row, with a tab between columns; `--json` prints what the API ",
            "answered. Every command has `--help`; `receiver --install-completion` lets the shell complete them.\n\n",
            table(
                ("command", ""),
                ((f"[`{name}`](#{_anchor(name)})", plain(each.help.splitlines()[0])) for name, each in found.items()),
            ),
            *(part for name, each in found.items() for part in _command(name, each)),
        ]
    )


def tree(command: Any, name: str = "receiver") -> Iterator[tuple[str, Any]]:
    """Yield each command that does something, by its whole name, in the order of `--help`."""
    commands = getattr(command, "commands", None)
    if not commands:
        yield name, command
        return
    for each in commands.values():
        if not each.hidden:
            yield from tree(each, f"{name} {each.name}")


def options(name: str, command: Any) -> set[str]:
    """Return all options that *command* takes."""
    if name == "receiver sandbox":
        return {text for action in _sandbox()._actions for text in action.option_strings}  # noqa: SLF001 - argparse shows them nowhere else
    return {_HELP, *(text for each in command.params for text in (*each.opts, *each.secondary_opts))}


def _anchor(name: str) -> str:
    return name.replace(" ", "-")


def _command(name: str, command: Any) -> Iterator[str]:
    arguments = [each for each in command.params if not each.opts[0].startswith("-")]
    flags = [each for each in command.params if each.opts[0].startswith("-") and _HELP not in each.opts]
    shown = [_argument(each) for each in arguments]
    yield f"## {name} {{ #{_anchor(name)} }}\n\n`{' '.join([name, *(['[OPTIONS]'] if flags else []), *shown])}`\n\n"
    yield plain(command.help) + "\n\n"
    if name == "receiver sandbox":
        yield from _of_sandbox()
    yield table(
        ("argument", "values", "meaning"), ((code(_name(each)), _values(each), _told(each)) for each in arguments)
    )
    yield table(
        ("option", "values", "meaning"),
        ((", ".join(map(code, (*each.opts, *each.secondary_opts))), _values(each), _told(each)) for each in flags),
    )


def _name(argument: Any) -> str:
    return str(argument.metavar or argument.name.upper())


def _argument(argument: Any) -> str:
    many = "..." if argument.nargs == -1 else ""
    return f"{_name(argument)}{many}" if argument.required else f"[{_name(argument)}]{many}"


def _values(parameter: Any) -> str:
    if getattr(parameter, "is_flag", False):
        return ""
    annotation = parameter.type_descriptor.annotation
    words = typing.get_args(annotation) if typing.get_origin(annotation) is typing.Literal else ()
    if words:
        return " ".join(map(code, words))
    if parameter.metavar:
        return code(parameter.metavar)
    bounds = [f"{sign} {bound}" for sign, bound in (("≥", parameter.min), ("≤", parameter.max)) if bound is not None]
    return ", ".join([{int: "whole number", float: "number", Path: "path"}.get(annotation, "text"), *bounds])


def _told(parameter: Any) -> str:
    told = [plain(parameter.help or "")]
    if parameter.required:
        told.append("needed")
    if parameter.default not in (None, False, [], ()) and not callable(parameter.default):
        told.append(f"else {value(str(parameter.default))}")
    if parameter.envvar:
        told.append(f"or by `{parameter.envvar}`")
    return "; ".join(told)


def _sandbox() -> argparse.ArgumentParser:
    return sandbox._parser("receiver sandbox", SANDBOX_PORT)  # noqa: SLF001 - the one place that knows its options


def _of_sandbox() -> Iterator[str]:
    parser = _sandbox()
    for group in parser._action_groups:  # noqa: SLF001 - argparse shows them nowhere else
        actions = [each for each in group._group_actions if _HELP not in each.option_strings]  # noqa: SLF001 - the same
        if group.title == "faults":
            yield f"Faults: {group.description}\n\n"
        lines = []
        for each in actions:
            # Secrets of the environment are no defaults to print.
            shown = (each.help or "") % {"default": each.default} if each.help else ""
            metavar = each.metavar or each.dest.upper()
            lines.append((code(each.option_strings[0]), code(metavar), plain(shown)))
        yield table(("option", "values", "meaning"), lines)
    yield "```text\n" + (parser.epilog or "") + "\n```\n\n"
