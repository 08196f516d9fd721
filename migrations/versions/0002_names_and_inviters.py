"""People's names are told apart as a reader does; an invitation knows who made it

Both statements that add a column are plain SQL: SQLite takes a column with a reference, and no constraint on its own.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from server.models import name_key

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE users ADD COLUMN name_key VARCHAR(240) DEFAULT '' NOT NULL")
    op.execute(
        "ALTER TABLE credentials ADD COLUMN created_by VARCHAR(32) CONSTRAINT fk_credentials_created_by REFERENCES users (id)"
    )
    _fill_keys()
    op.create_index("ix_users_name_key", "users", ["name_key"], unique=True)


def _fill_keys() -> None:
    """Of several who look alike, the first keeps the plain key; the others sign in by link and can be told from it."""
    users = sa.table("users", sa.column("id"), sa.column("name"), sa.column("name_key"))
    taken: set[str] = set()
    for user in op.get_bind().execute(sa.select(users.c.id, users.c.name).order_by(users.c.id)).all():
        key = name_key(user.name)[:200]
        key = f"{key} {user.id}" if key in taken else key
        taken.add(key)
        op.execute(users.update().where(users.c.id == user.id).values(name_key=key))


def downgrade() -> None:
    op.drop_index("ix_users_name_key", "users")
    with op.batch_alter_table("users") as users:
        users.drop_column("name_key")
    with op.batch_alter_table("credentials") as credentials:
        credentials.drop_column("created_by")
