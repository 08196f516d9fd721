"""A vote knows when its slot was taken, a lease since when it is held"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

LONG_AGO = "1970-01-01 00:00:00"


def upgrade() -> None:
    for table, name in (("leases", "taken_at"), ("votes", "slot_taken_at")):
        op.add_column(table, sa.Column(name, sa.DateTime(timezone=True), server_default=LONG_AGO, nullable=False))
    op.execute("UPDATE votes SET slot_taken_at = received_at")


def downgrade() -> None:
    for table, name in (("leases", "taken_at"), ("votes", "slot_taken_at")):
        with op.batch_alter_table(table) as altered:
            altered.drop_column(name)
