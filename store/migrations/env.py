"""How alembic runs the migrations here: on the connection `store.migrate` hands over, in one transaction."""

from alembic import context

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=None)
with context.begin_transaction():
    context.run_migrations()
connection.commit()
