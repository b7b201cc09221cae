"""Real servers for tests: shared ones, and ones that a test owns and may kill."""

from tests.support.servers.shared import (
    mongodb_replica_set_url,
    mongodb_url,
    postgres_url,
    redis_cluster_url,
    redis_url,
)

__all__ = ["mongodb_replica_set_url", "mongodb_url", "postgres_url", "redis_cluster_url", "redis_url"]
