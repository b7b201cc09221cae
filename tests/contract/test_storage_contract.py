"""Every backend, and every wrapper over every backend, keep the contract."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from luminoracore_sdk.testing import StorageContract, StorageFactory
from tests.support.backends import (
    FILES,
    MEMORY,
    MONGODB,
    MONGODB_PYMONGO,
    MONGODB_REPLICA_SET,
    POSTGRES,
    REDIS,
    REDIS_CLUSTER,
    SQLITE,
    Backend,
    encrypted,
    held,
    optimized,
    retrying,
    with_nothing_held,
)

unmeasured = pytest.mark.no_cover
"""Coverage is taken elsewhere: measuring all cases on every server would make the run half as long again."""

of_the_long_run = pytest.mark.skipif(
    "LUMINORA_ALL_WRAPPERS" not in os.environ, reason="of the long run: make contract and make nightly"
)


class BackendContract(StorageContract):
    backend: ClassVar[Backend]
    listing_size = int(os.environ.get("LUMINORA_LISTING_SIZE", "1000"))

    @pytest.fixture
    def storage_factory(self, tmp_path: Path) -> Iterator[StorageFactory]:
        yield self.backend.at(tmp_path / "store")
        self.backend.clear(tmp_path / "store")

    @pytest.fixture
    def other_storage_factory(self, tmp_path: Path) -> Iterator[StorageFactory]:
        yield self.backend.at(tmp_path / "other")
        self.backend.clear(tmp_path / "other")


class TestMemory(BackendContract):
    backend = MEMORY
    persistent = False
    shares_between_instances = False


class TestFiles(BackendContract):
    backend = FILES


class TestSQLite(BackendContract):
    backend = SQLITE


@unmeasured
class TestPostgres(BackendContract):
    backend = POSTGRES


@unmeasured
class TestRedis(BackendContract):
    backend = REDIS


@unmeasured
class TestRedisCluster(BackendContract):
    backend = REDIS_CLUSTER


@unmeasured
class TestMongoDB(BackendContract):
    backend = MONGODB


@unmeasured
class TestMongoDBPyMongo(BackendContract):
    backend = MONGODB_PYMONGO


@of_the_long_run
@unmeasured
class TestMongoDBReplicaSet(BackendContract):
    backend = MONGODB_REPLICA_SET


class TestOptimizedMemory(BackendContract):
    backend = optimized(MEMORY)
    persistent = False
    shares_between_instances = False


@of_the_long_run
@unmeasured
class TestOptimizedFiles(BackendContract):
    backend = optimized(FILES)


@unmeasured
class TestOptimizedSQLite(BackendContract):
    backend = optimized(SQLITE)


@of_the_long_run
@unmeasured
class TestOptimizedPostgres(BackendContract):
    backend = optimized(POSTGRES)


@of_the_long_run
@unmeasured
class TestOptimizedRedis(BackendContract):
    backend = optimized(REDIS)


@of_the_long_run
@unmeasured
class TestOptimizedMongoDB(BackendContract):
    backend = optimized(MONGODB)


class TestEncryptedMemory(BackendContract):
    backend = encrypted(MEMORY)
    persistent = False
    shares_between_instances = False


@of_the_long_run
@unmeasured
class TestEncryptedFiles(BackendContract):
    backend = encrypted(FILES)


class TestEncryptedSQLite(BackendContract):
    backend = encrypted(SQLITE)


@of_the_long_run
@unmeasured
class TestEncryptedPostgres(BackendContract):
    backend = encrypted(POSTGRES)


@of_the_long_run
@unmeasured
class TestEncryptedRedis(BackendContract):
    backend = encrypted(REDIS)


@of_the_long_run
@unmeasured
class TestEncryptedMongoDB(BackendContract):
    backend = encrypted(MONGODB)


@unmeasured
class TestOptimizedEncryptedMemory(BackendContract):
    backend = optimized(encrypted(MEMORY))
    persistent = False
    shares_between_instances = False


@of_the_long_run
@unmeasured
class TestOptimizedEncryptedFiles(BackendContract):
    backend = optimized(encrypted(FILES))


@unmeasured
class TestOptimizedEncryptedSQLite(BackendContract):
    backend = optimized(encrypted(SQLITE))


@of_the_long_run
@unmeasured
class TestOptimizedEncryptedPostgres(BackendContract):
    backend = optimized(encrypted(POSTGRES))


@of_the_long_run
@unmeasured
class TestOptimizedEncryptedRedis(BackendContract):
    backend = optimized(encrypted(REDIS))


@of_the_long_run
@unmeasured
class TestOptimizedEncryptedMongoDB(BackendContract):
    backend = optimized(encrypted(MONGODB))


@unmeasured
class TestRetryingMemory(BackendContract):
    backend = retrying(MEMORY)
    persistent = False
    shares_between_instances = False


@of_the_long_run
@unmeasured
class TestRetryingSQLite(BackendContract):
    backend = retrying(SQLITE)


@of_the_long_run
@unmeasured
class TestRetryingRedis(BackendContract):
    backend = retrying(REDIS)


class TestNothingHeld(BackendContract):
    backend = with_nothing_held(SQLITE)


class TestEverythingHeld(BackendContract):
    backend = held(FILES)
    persistent = False
    shares_between_instances = False
