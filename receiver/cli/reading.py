"""The environment, read; imported by every command that has settings, so that it imports little."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Final
from urllib.parse import urlsplit

from pydantic import BaseModel, SecretStr, ValidationError

from receiver.core.errors import Misconfigured
from receiver.settings import PREFIX, Settings, SettingUnreadable, account_variable

#: Listening everywhere is reached here.
_HERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - compared, not bound


def settings() -> Settings:
    """
    Read the environment.

    Raises:
        Misconfigured: Names each variable that is wrong.
    """
    try:
        return Settings()
    except ValidationError as exc:
        raise Misconfigured("; ".join(f"{_variable(error['loc'])}: {error['msg']}" for error in exc.errors())) from None
    except SettingUnreadable as exc:
        raise Misconfigured(str(exc)) from exc


def address(host: str, port: int) -> str:
    """Return host and port at which this machine reaches what listens on *host*."""
    host = _HERE.get(host, host)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _variable(location: Sequence[int | str]) -> str:
    """Return the environment's name of what pydantic complains of."""
    match location:
        case ("accounts", account, str(name), *_):
            return account_variable(str(account), name)
        case (name, *_):
            return f"{PREFIX}{name}".upper()
        case _:
            return "the environment"


def hidden(value: object) -> Iterator[str]:
    """Yield every secret in settings, the password of a database URL among them."""
    match value:
        case SecretStr():
            yield value.get_secret_value()
            with suppress(ValueError):
                yield urlsplit(value.get_secret_value()).password or ""
        case BaseModel():
            yield from hidden(dict(value))
        case Mapping():
            yield from hidden(tuple(value.values()))
        case tuple():
            for each in value:
                yield from hidden(each)
        case _:
            return
