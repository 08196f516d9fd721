"""Machine annotators: what they score by, their scores, votes that rate images with numbers, and rounds that launch rounds"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("users", sa.Column("reward", sa.JSON(), nullable=True))
    op.add_column("votes", sa.Column("ratings", sa.JSON(), server_default="{}", nullable=False))
    with op.batch_alter_table("rounds") as rounds:
        rounds.add_column(sa.Column("auto_id", sa.String(length=32), nullable=True))
        rounds.create_foreign_key(op.f("fk_rounds_auto_id"), "rounds", ["auto_id"], ["id"])
        rounds.create_index(op.f("ix_rounds_auto_id"), ["auto_id"])
    op.create_table(
        "scores",
        sa.Column("image_id", sa.String(length=32), nullable=False),
        sa.Column("reward", sa.String(length=300), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["image_id"], ["images.id"], name=op.f("fk_scores_image_id")),
        sa.PrimaryKeyConstraint("image_id", "reward", name=op.f("pk_scores")),
    )


def downgrade() -> None:
    op.drop_table("scores")
    with op.batch_alter_table("rounds") as rounds:
        rounds.drop_index(op.f("ix_rounds_auto_id"))
        rounds.drop_constraint(op.f("fk_rounds_auto_id"), type_="foreignkey")
        rounds.drop_column("auto_id")
    op.drop_column("votes", "ratings")
    op.drop_column("users", "reward")
