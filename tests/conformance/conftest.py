"""Fixtures of the store contract: every test that asks for `lab` runs once on each store."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.store_lab import Lab, MongoLab, SqliteLab
from tests.mongod import Mongod


@pytest.fixture(scope="session")
def mongod() -> Iterator[Mongod]:
    with Mongod() as server:
        yield server


@pytest.fixture
def mongo_lab(mongod: Mongod) -> Iterator[MongoLab]:
    lab = MongoLab(mongod)
    yield lab
    lab.close()


@pytest.fixture(params=["sqlite", "mongo"])
def lab(request: pytest.FixtureRequest, tmp_path: Path) -> Lab:
    if request.param == "sqlite":
        return SqliteLab(tmp_path)
    made: Lab = request.getfixturevalue("mongo_lab")
    return made
