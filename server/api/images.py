"""The images themselves: same-origin, for members only, never changing."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse

from server.api.problems import gives
from server.deps import CurrentUser, DbSession, Files
from server.domain import images
from server.errors import Gone

router = APIRouter(tags=["images"])
FOREVER = "private, max-age=31536000, immutable"


@router.get(
    "/images/{image_id}.webp",
    response_class=FileResponse,
    responses=gives("image/webp", 410) | {304: {"description": "Not changed."}},
)
def show(
    image_id: str,
    request: Request,
    session: DbSession,
    user: CurrentUser,
    storage: Files,
    size: Literal["thumb", "view", "full"] = "full",
) -> Response:
    """`full` is the lossless original, `thumb` at most 256 and `view` at most 1024 pixels wide or high."""
    image = images.open_for(session, user, image_id)
    headers = {"Cache-Control": FOREVER, "ETag": f'"{image.sha256}-{size}"'}
    if request.headers.get("If-None-Match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    path = storage.image(image.sha256, size)
    if not path.is_file():
        raise Gone("The file of this image is no longer in the data folder. Restore it from a backup; its votes are kept.")
    return FileResponse(path, media_type="image/webp", headers=headers)
