"""What Alembic runs: the revisions, over the connection that `schema.upgrade` has opened and locked."""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
context.run_migrations()
