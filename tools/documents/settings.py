"""The page of settings, from the settings themselves."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from receiver.cli.api import KEY_VARIABLE, URL_VARIABLE
from receiver.settings import OWN_VARIABLES, SAME_KEY, AccountSettings, Own, Settings, is_secret, variables
from tools.documents.markdown import MADE, code, plain, table

_LITERAL: Final = re.compile(r"'([a-z]+)'")


def page() -> str:
    """Return the page."""
    found = variables("NAME")
    general = {name: each for name, each in found.items() if "__NAME__" not in name and isinstance(each, FieldInfo)}
    account = {name: each for name, each in found.items() if "__NAME__" in name}
    return "".join(
        [
            f"{MADE}\n\n# Settings\n\n",
            "All settings are environment variables, and all are optional: without any, `receiver serve` runs on this "
            "machine alone. An empty variable counts as not set. The same list, to copy from: `.env.example` in the "
            "checkout. `receiver doctor` tells what is wrong with them.\n\n",
            "What is marked *secret* may lie in a file instead: the variable's name with `_FILE` behind it names the "
            "file, such as `RECEIVER_DATABASE_URL_FILE`. Only one of the two may be set. Lists are JSON, or have commas "
            "between.\n\n",
            "## An account by one key\n\n",
            "The key of a provider makes an account, named as the provider's profile; nothing else is needed.\n\n",
            table(("variable", "account", "meaning"), _owns()),
            "With the key of Kling set, "
            + " and ".join(f"accounts of `{each}`" for each, of in SAME_KEY.items() if of == "kling")
            + " need none of their own. A key never goes to another host than its provider's.\n\n",
            "## Accounts in general\n\n",
            "Any number of accounts; `NAME` is the account's name. What is not set is taken from the profile of its "
            "`DIALECT` ([all profiles](providers.md)). An account that the table above makes can be set up further by "
            "the same variables.\n\n",
            table(("variable", "values", "default", "meaning"), _lines(account)),
            "## Everything else\n\n",
            table(("variable", "values", "default", "meaning"), _lines(general)),
            "## Of the command line\n\n",
            "Commands that speak to a running service read these from their own environment.\n\n",
            table(
                ("variable", "meaning"),
                (
                    (code(URL_VARIABLE), "Where the service listens; else `http://127.0.0.1:8080`"),
                    (code(KEY_VARIABLE), "The API key"),
                ),
            ),
        ]
    )


def _owns() -> Iterator[tuple[str, str, str]]:
    for profile, owns in OWN_VARIABLES.items():
        for own in owns:
            yield code(own.variable), code(profile), f"{plain(own.description)} (secret)"


def _lines(found: dict[str, FieldInfo | Own] | dict[str, FieldInfo]) -> Iterator[tuple[str, str, str, str]]:
    for name, field in found.items():
        if isinstance(field, FieldInfo):
            secret = " (secret)" if is_secret(name) else ""
            yield code(name), _values(field), _default(field), plain(field.description or "") + secret


def _default(field: FieldInfo) -> str:
    default: Any = field.get_default(call_default_factory=True, validated_data={})
    if default is PydanticUndefined:
        return "needed"
    if default is None or default in ((), {}, "") or "Secret" in type(default).__name__:
        return ""
    return code(str(default).lower() if isinstance(default, bool) else default)


def _values(field: FieldInfo) -> str:
    annotation = str(field.annotation)
    if "Literal" in annotation:
        return " ".join(map(code, _LITERAL.findall(annotation)))
    if field.annotation is bool:
        return "`true` `false`"
    bounds = {kind: getattr(each, kind) for each in field.metadata for kind in ("ge", "le") if hasattr(each, kind)}
    kind = "whole number" if "int" in annotation else "number" if "Decimal" in annotation else ""
    words = [f"{sign} {bounds[name]}" for name, sign in (("ge", "≥"), ("le", "≤")) if name in bounds]
    return ", ".join([*([kind] if kind else []), *words])


#: What the page is made from, so that a test can see that nothing is left out.
MODELS: Final = (Settings, AccountSettings)
