"""Everything that a store keeps."""

from self_agent.storage.postgres.schema import run_file

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the tables and the functions."""
    run_file(__file__)
