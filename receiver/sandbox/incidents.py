"""Requests that met a fault of their own: operations for `State.do`."""

from __future__ import annotations

import sqlite3


def add(conn: sqlite3.Connection, *, house: str, kind: str, given: str | None, fault: str) -> None:
    """Note that a request of *kind* to a house, for the task whose id or external id was *given*, met *fault*."""
    conn.execute("INSERT INTO incident (house, kind, given, fault) VALUES (?, ?, ?, ?)", (house, kind, given, fault))
