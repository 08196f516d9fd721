"""Rows with good defaults. Each factory adds to the test's session and flushes; `commit()` shows them to others."""

from tests.factories.base import add, bind, commit
from tests.factories.images import picture, stored_image
from tests.factories.people import admin, annotator, bearer, operator, user
from tests.factories.rows import checkpoint, group, job, lease, project, round_, task, vote

__all__ = [
    "add", "admin", "annotator", "bearer", "bind", "checkpoint", "commit", "group", "job", "lease", "operator", "picture",
    "project", "round_", "stored_image", "task", "user", "vote",
]  # fmt: skip
