"""``/tokens``: made, listed and revoked by admins."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from service import access_examples as examples
from service import access_views as views
from service.bodies import NewToken, RequestBody, parse_action
from service.declared_problems import problems
from service.routes import Store, Text
from service.store import tokens

router = APIRouter(prefix="/tokens", tags=["access"])


@router.post(
    "",
    status_code=201,
    response_model=views.NewTokenView,
    summary="Make a token",
    responses={
        201: {"description": "Made", "content": {"application/json": {"example": examples.NEW_TOKEN}}},
        **problems(413, 415, 422, 503),
    },
    openapi_extra={"requestBody": examples.CREATION},
)
def create(body: RequestBody, store: Store, response: Response):
    """Its text is in the answer and nowhere else: only a hash of it is kept. It acts for the owner it is made for, in
    studies as in quotas."""
    wanted = parse_action(body, NewToken)
    value = tokens.new_text()
    with store.begin() as session:
        made = tokens.create(session, value=value, **wanted.model_dump())
    response.headers["Cache-Control"] = "no-store"
    return views.new_token_view(made, value)


@router.get(
    "",
    response_model=views.TokenList,
    summary="List tokens",
    responses={
        200: {"content": {"application/json": {"example": {"items": [examples.TOKEN]}}}},
        **problems(422, 503),
    },
)
def list_tokens(store: Store, owner: Annotated[Text | None, Query(description="Only those that act for it.")] = None):
    """Newest first, those that are revoked or have expired too."""
    with store.begin() as session:
        return views.TokenList(items=[views.token_view(token) for token in tokens.every(session, owner)])


@router.delete(
    "/{token_id}",
    response_model=views.TokenView,
    summary="Revoke a token",
    responses={
        200: {"content": {"application/json": {"example": examples.TOKEN | {"revoked_at": "2026-11-28T08:00:00Z"}}}},
        **problems(404, 422, 503),
    },
)
def revoke(token_id: str, store: Store):
    """For good, and at once: no process keeps it in mind. Event streams that were begun with it end within seconds."""
    with store.begin() as session:
        return views.token_view(tokens.revoke(session, token_id))
