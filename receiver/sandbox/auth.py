"""Who may ask: an API key, or a JWT made of access key and secret key (providers.md 2.1)."""

from __future__ import annotations

import hmac
from typing import Final

import jwt

from receiver.sandbox.answers import Refusal
from receiver.sandbox.config import SandboxConfig

UNAUTHORIZED: Final = 401
#: A JWT has three parts.
JWT_DOTS: Final = 2


def authorize(config: SandboxConfig, house: str, header: str | None, *, pair: bool) -> None:
    """
    Check the `Authorization` header of an API request to a house; with *pair* a JWT will do.

    Clocks get no leeway: clients set `nbf` five seconds back themselves.

    Raises:
        Refusal: 401 with 1001 no header, 1002 no Bearer or an unknown key, 1000
            a wrong JWT, 1003 a JWT not yet valid, 1004 an expired one.
    """
    token = bearer(header)
    if hmac.compare_digest(token.encode(), config.keys.get(house, config.api_key).encode()):
        return
    looks_like_jwt = pair and token.count(".") == JWT_DOTS
    if config.access_key is None or config.secret_key is None or not looks_like_jwt:
        raise Refusal(UNAUTHORIZED, 1002, "Authorization is invalid")
    _check_jwt(token, config.access_key, config.secret_key)


def authorize_control(config: SandboxConfig, header: str | None) -> None:
    """
    Check the `Authorization` header of a control request.

    Raises:
        Refusal: 401: no header, no Bearer, or another key.
    """
    expected = config.api_key if config.control_key is None else config.control_key
    if not hmac.compare_digest(bearer(header).encode(), expected.encode()):
        raise Refusal(UNAUTHORIZED, 1002, "Authorization is invalid")


def bearer(header: str | None) -> str:
    """
    Return the token of an `Authorization` header.

    Raises:
        Refusal: There is no header, or it is not of the form `Bearer <token>`.
    """
    if header is None or not header.strip():
        raise Refusal(UNAUTHORIZED, 1001, "Authorization is empty")
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Refusal(UNAUTHORIZED, 1002, "Authorization is invalid")
    return token.strip()


def _check_jwt(token: str, access_key: str, secret_key: str) -> None:
    try:
        jwt.decode(
            token,
            secret_key,
            algorithms=["HS256"],
            issuer=access_key,
            leeway=0,
            options={"require": ["iss", "exp", "nbf"]},
        )
    except jwt.ImmatureSignatureError as exc:
        raise Refusal(UNAUTHORIZED, 1003, "Authorization is not yet valid") from exc
    except jwt.ExpiredSignatureError as exc:
        raise Refusal(UNAUTHORIZED, 1004, "Authorization has expired") from exc
    except (jwt.InvalidTokenError, OverflowError) as exc:
        raise Refusal(UNAUTHORIZED, 1000, "Authentication failed") from exc
