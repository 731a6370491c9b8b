"""Alembic environment: runs the migrations in one transaction on the connection from `store.migrate`."""

from alembic import context

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=None)
with context.begin_transaction():
    context.run_migrations()
connection.commit()
