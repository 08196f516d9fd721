"""The domain's verbs as JSON under /api/v1. Every error is {"error", "detail"}."""

from fastapi import APIRouter, Depends

from server.api import checkpoints, curves, estimates, events, images, invitations, projects, rounds, studies, tasks
from server.api.problems import problems
from server.deps import bearer, cookie

router = APIRouter(responses=problems(401, 403, 404, 422, 503), dependencies=[Depends(bearer), Depends(cookie)])
for module in (projects, rounds, studies, curves, estimates, events, tasks, checkpoints, images, invitations):
    router.include_router(module.router)
