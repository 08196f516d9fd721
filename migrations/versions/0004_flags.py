"""The words about single images are the project's own"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    default = '["distorted", "unsafe", "off-prompt"]'
    op.add_column("projects", sa.Column("flags", sa.JSON(), server_default=default, nullable=False))


def downgrade() -> None:
    with op.batch_alter_table("projects") as projects:
        projects.drop_column("flags")
