"""Settings, databases and clients that every test may ask for."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from migrations.run import upgrade
from server import db
from server.settings import Settings, get_settings
from server.storage import Storage
from tests import factories
from tests.databases import empty_postgres, scratch_postgres


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("migrated") / "d3po.db"
    upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def migrated_postgres() -> Iterator[str]:
    with scratch_postgres() as url:
        upgrade(url)
        yield url


@pytest.fixture
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A migrated, empty database: a SQLite file, or PostgreSQL for tests marked `@on_both_databases`."""
    if getattr(request, "param", "sqlite") == "postgres":
        return str(request.getfixturevalue("migrated_postgres"))
    shutil.copyfile(request.getfixturevalue("migrated_sqlite"), tmp_path / "d3po.db")
    return f"sqlite:///{tmp_path / 'd3po.db'}"


@pytest.fixture
def settings(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """Settings of this test alone: its own database and data folder, and a broker that keeps messages in memory."""
    monkeypatch.setenv("D3PO_DATABASE_URL", database_url)
    monkeypatch.setenv("D3PO_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("D3PO_BROKER_URL", "memory://")
    get_settings.cache_clear()
    db.forget_engine()
    yield get_settings()
    get_settings.cache_clear()


@pytest.fixture
def engine(settings: Settings) -> Iterator[Engine]:
    engine = db.get_engine()
    yield engine
    if engine.dialect.name == "postgresql":
        with engine.begin() as connection:
            empty_postgres(connection)
    engine.dispose()
    db.get_engine.cache_clear()


@pytest.fixture
def session(engine: Engine) -> Iterator[Session]:
    """A session for arranging and looking. On SQLite it is the one writer while it is open: `commit()` lets others go on."""
    with Session(engine, expire_on_commit=False) as session:
        factories.bind(session)
        yield session


@pytest.fixture
def storage(settings: Settings) -> Storage:
    return Storage(settings.data_dir)


@pytest.fixture
def client(session: Session) -> Iterator[TestClient]:
    """The web application without anybody signed in; `client.headers.update(factories.bearer(user))` signs in."""
    from server.app import create_app

    with TestClient(create_app(), follow_redirects=False) as client:
        yield client


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A diffusers folder with random weights: a real pipeline that draws 32x32 noise in no time."""
    from tests.factories.tiny_pipeline import tiny_pipeline

    return tiny_pipeline(tmp_path_factory.mktemp("tiny"))
