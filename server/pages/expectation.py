"""What a training round on so many groups can be expected to change, said before it and after it.

The numbers are the embedded model's (docs/log.md); for other models nothing is claimed.
"""

from __future__ import annotations

from server.domain import projects
from server.models import Project

# As many groups as make a round worth its time.
ENOUGH_GROUPS = 40
MEASURED = "with 40, a round wins about 67 % of comparisons; with 64, about 80 %. Measured on this model, every image ranked."


def expectation(project: Project, groups: int) -> str:
    """A sentence or two; empty where nothing was measured, or nothing is there to learn from."""
    if not groups or not projects.is_embedded(project.base_model):
        return ""
    told = f"{groups} group{'' if groups == 1 else 's'}"
    if groups < ENOUGH_GROUPS // 2:
        return f"{told} will hardly change a picture: {MEASURED}"
    if groups < ENOUGH_GROUPS:
        return f"{told} will change pictures a little: {MEASURED}"
    return f"{told} make a difference that people see: {MEASURED}"
