"""SQLAlchemy tables, one noun a file."""

from server.models.audit import Audit
from server.models.base import Base, new_id, now
from server.models.checkpoint import Checkpoint
from server.models.group import Group, Image, Score
from server.models.person import Credential, Membership, User, name_key
from server.models.project import FLAGS, OWN_PROMPTS, Project
from server.models.round import Job, Metric, Round, RoundVote, State
from server.models.vote import Lease, Outcome, Task, Vote

__all__ = [
    "FLAGS", "OWN_PROMPTS", "Audit", "Base", "Checkpoint", "Credential", "Group", "Image", "Job", "Lease", "Membership", "Metric",
    "Outcome", "Project", "Round", "RoundVote", "Score", "State", "Task", "User", "Vote", "name_key", "new_id", "now",
]  # fmt: skip
