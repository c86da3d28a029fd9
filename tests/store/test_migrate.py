"""Migrations: forward only, once, by whoever comes first."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from psycopg import sql

from receiver.core.errors import Misconfigured, StoreUnavailable
from receiver.local.postgres import EmbeddedPostgres
from receiver.store.migrate import MigrationChanged, migrate, migrations, pending
from tests.conftest import url_of

Look = Callable[[str], list[str]]
SHAPE = """
SELECT table_name, column_name, data_type, is_nullable, column_default FROM information_schema.columns
 WHERE table_schema = 'public' ORDER BY 1, 2
"""


@pytest.fixture
def empty_url(postgres_server: EmbeddedPostgres) -> Iterator[str]:
    name = f"empty_{secrets.token_hex(6)}"
    with psycopg.connect(postgres_server.start(), autocommit=True) as conn:
        conn.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    yield url_of(postgres_server, name)
    # Only the superuser may end a vacuum that is at work there.
    with psycopg.connect(postgres_server.start().replace("//receiver@", "//postgres@"), autocommit=True) as conn:
        conn.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def test_an_empty_database_lacks_everything_and_then_nothing(empty_url: str) -> None:
    assert pending(empty_url) == list(migrations())
    assert migrate(empty_url) == list(migrations())
    assert pending(empty_url) == []
    assert migrate(empty_url) == []


def test_a_fresh_database_is_like_the_one_that_tests_copy(empty_url: str, database_url: str) -> None:
    migrate(empty_url)
    with psycopg.connect(empty_url) as fresh, psycopg.connect(database_url) as copied:
        assert fresh.execute(SHAPE).fetchall() == copied.execute(SHAPE).fetchall()


def test_processes_that_start_together_apply_each_file_once(empty_url: str) -> None:
    with ThreadPoolExecutor(8) as threads:
        applied = list(threads.map(migrate, [empty_url] * 8))
    assert sorted(name for names in applied for name in names) == list(migrations())
    assert pending(empty_url) == []


def test_a_database_of_a_newer_program_is_left_alone(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute("INSERT INTO migration (name) VALUES ('9999_pre_future')")
    for look in (pending, migrate):
        with pytest.raises(Misconfigured, match="9999_pre_future"):
            look(database_url)


@pytest.mark.parametrize("look", [pending, migrate])
def test_a_file_that_was_changed_after_it_was_applied_is_named(look: Look, database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute("UPDATE migration SET sha256 = repeat('0', 64) WHERE name LIKE '0002%'")
    with pytest.raises(MigrationChanged, match="another text of 0002_pre_lists than this program has; run the"):
        look(database_url)


def test_a_list_without_digests_gets_them_from_the_files(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as conn:
        kept = conn.execute("SELECT name, sha256 FROM migration ORDER BY name").fetchall()
        conn.execute("ALTER TABLE migration DROP COLUMN sha256")
        assert pending(database_url) == []
        assert migrate(database_url) == []
        assert conn.execute("SELECT name, sha256 FROM migration ORDER BY name").fetchall() == kept
    assert all(digest for _, digest in kept)


def test_a_database_with_tables_of_others_is_refused_in_words(empty_url: str) -> None:
    with psycopg.connect(empty_url, autocommit=True) as conn:
        conn.execute("CREATE TABLE task ()")
    with pytest.raises(Misconfigured, match=r'0001_pre_spine does not fit .*"task" already exists.*of its own'):
        migrate(empty_url)


@pytest.mark.parametrize("look", [pending, migrate])
def test_a_list_of_applied_files_that_is_not_ours_is_refused_in_words(look: Look, empty_url: str) -> None:
    with psycopg.connect(empty_url, autocommit=True) as conn:
        conn.execute("CREATE TABLE migration (id int, sha256 text)")
    with pytest.raises(Misconfigured, match=r"is not receiver's .*of its own"):
        look(empty_url)


@pytest.mark.parametrize("look", [pending, migrate])
def test_a_database_that_is_not_there_is_unavailable(look: Look, database_url: str) -> None:
    with pytest.raises(StoreUnavailable):
        look(database_url.replace("/test_", "/nothing_"))
