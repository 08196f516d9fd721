"""A project has training settings of its own: what was measured for the embedded model, else the defaults"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

EMBEDDED = {
    "lora_targets": [
        f"up_blocks.1.attentions.{i}.transformer_blocks.0.attn{a}.{projection}"
        for i in (0, 1)
        for a in (1, 2)
        for projection in ("to_q", "to_k", "to_v", "to_out.0")
    ],
    "lora_rank": 64,
    "adam_epsilon": 1e-4,
    "learning_rate": 1e-3,
    "timestep_fraction": 0.7,
    "step_weighting": "uniform",
    "timesteps_per_update": 2,
    "max_kl": 4e-3,
}


def upgrade() -> None:
    op.add_column("projects", sa.Column("training", sa.JSON(), server_default="{}", nullable=False))
    projects = sa.table("projects", sa.column("base_model", sa.String()), sa.column("training", sa.JSON()))
    op.execute(projects.update().where(projects.c.base_model == "demo").values(training=EMBEDDED))


def downgrade() -> None:
    with op.batch_alter_table("projects") as projects:
        projects.drop_column("training")
