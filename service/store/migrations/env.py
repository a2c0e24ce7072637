"""Alembic's environment: always online, on the connection that ``service.store.migrate`` holds the lock with."""

from alembic import context

from service.store import access_tables, cluster_tables  # noqa: F401 - so that the metadata has them
from service.store.migrate import VERSION_TABLE
from service.store.tables import SCHEMA, Table

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Table.metadata,
    version_table=VERSION_TABLE,
    version_table_schema=SCHEMA,
    include_schemas=True,
    include_name=lambda name, kind, parents: name == SCHEMA if kind == "schema" else True,
)
with context.begin_transaction():
    context.run_migrations()
