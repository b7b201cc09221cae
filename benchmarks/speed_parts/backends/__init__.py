"""The backends that are measured; each module holds one, with its floor."""

from benchmarks.speed_parts.backends.base import Backend
from benchmarks.speed_parts.backends.files import Files
from benchmarks.speed_parts.backends.mongodb import MongoDB, MongoDBWithMotor
from benchmarks.speed_parts.backends.postgres import Postgres
from benchmarks.speed_parts.backends.redis import Redis
from benchmarks.speed_parts.backends.sqlite import SQLite

__all__ = ["BACKENDS", "Backend"]

BACKENDS: dict[str, type[Backend]] = {
    backend.name: backend for backend in (Postgres, Redis, MongoDB, MongoDBWithMotor, SQLite, Files)
}
"""By name, in the order of the tables."""
