"""The baseline of `ack`: what a user would write with FastAPI and the SQLAlchemy ORM."""

# The check environment has neither of the two.
# mypy: disable-error-code="import-not-found"
# mypy: allow-subclassing-any, allow-untyped-decorators, allow-any-unimported

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import Body, FastAPI, Header
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from starlette.applications import Starlette


class Base(DeclarativeBase):
    """The tables."""


class Inbox(Base):
    """One received callback."""

    __tablename__ = "inbox"
    key: Mapped[str] = mapped_column(primary_key=True)
    body: Mapped[str]


async def build(url: str) -> Starlette:
    """Build the endpoint: look whether the id is known, add the row, commit; no signature is checked."""
    engine = create_async_engine(url.replace("postgresql:", "postgresql+asyncpg:"), pool_size=16)
    sessions = async_sessionmaker(engine, expire_on_commit=False)
    async with engine.begin() as conn:
        await conn.run_sync(Base.metadata.create_all)
    app = FastAPI()

    @app.post("/hook")
    async def hook(payload: Annotated[dict[str, Any], Body()], webhook_id: Annotated[str, Header()]) -> dict[str, bool]:
        async with sessions() as session:
            if await session.get(Inbox, webhook_id) is None:
                session.add(Inbox(key=webhook_id, body=json.dumps(payload)))
                await session.commit()
        return {"ok": True}

    made: Starlette = app
    return made
