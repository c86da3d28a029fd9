"""URLs that give the bytes of one asset to whoever has them."""

from __future__ import annotations

from receiver.core import ids
from receiver.core.errors import NotFound
from receiver.core.model import Asset, AssetId
from receiver.flow.services import Services
from receiver.store import assets


def url(services: Services, found: AssetId) -> str:
    """Return the URL that gives the bytes of an asset to whoever has it: never logged; a path in poll-only mode."""
    return f"{services.public_url or ''}/a/{found}/{services.tokens.asset_token(found)}"


async def asset(services: Services, text: str, token: str) -> Asset:
    """
    Return the stored asset whose id *text* spells, to whoever has its *token*.

    Raises:
        NotFound: The token is not that of the asset, or there is no such asset, or it has no bytes; all told alike.
    """
    number = ids.parse_task_id(text)
    if number is not None and services.tokens.is_asset_token(token, text):
        async with services.database.connection() as conn:
            found = await assets.stored(conn, AssetId(number))
        if found is not None:
            return found
    raise NotFound("there is nothing at this address")
