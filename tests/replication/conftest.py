"""Postgres databases and connections, for the tests that don't make their own."""

from postgres_connections import connect, database, destination, other

__all__ = ["connect", "database", "destination", "other"]
