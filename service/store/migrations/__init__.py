"""Alembic migrations of the schema ``mudman``."""
