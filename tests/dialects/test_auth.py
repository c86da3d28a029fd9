from __future__ import annotations

from datetime import UTC, datetime

import jwt

from receiver.core.model import ApiKey, KeyPair, Secret
from receiver.dialects.auth import bearer

NOW = datetime(2026, 6, 10, 8, 39, 54, 151000, tzinfo=UTC)
SECRET_KEY = "sk-0123456789abcdef0123456789abcdef"


def test_an_api_key_is_sent_as_it_is() -> None:
    assert bearer(ApiKey(key=Secret("k-1")), now=NOW) == "Bearer k-1"


def test_a_key_pair_becomes_a_token_with_the_documented_claims() -> None:
    value = bearer(KeyPair(access_key="ak-1", secret_key=Secret(SECRET_KEY)), now=NOW)

    scheme, token = value.split(" ")
    now = int(NOW.timestamp())
    assert scheme == "Bearer"
    assert jwt.get_unverified_header(token) == {"alg": "HS256", "typ": "JWT"}
    claims = jwt.decode(token, SECRET_KEY, algorithms=["HS256"], options={"verify_exp": False, "verify_nbf": False})
    assert claims == {"iss": "ak-1", "exp": now + 1800, "nbf": now - 5}
