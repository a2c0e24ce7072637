"""The token of a browser: links and event streams cannot send a header, so it is kept in a cookie that scripts cannot
read, and that no other site's page makes the browser send."""

from http.cookies import CookieError, SimpleCookie

from starlette.datastructures import Headers
from starlette.responses import Response

NAME = "mudman_token"


def read(headers: Headers) -> str | None:
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(NAME)
    except CookieError:
        return None
    return found.value if found and found.value else None


def write(response: Response, value: str, *, seconds: int, secure: bool) -> None:
    response.set_cookie(NAME, value, max_age=seconds, path="/", httponly=True, samesite="strict", secure=secure)


def clear(response: Response, *, secure: bool) -> None:
    response.delete_cookie(NAME, path="/", httponly=True, samesite="strict", secure=secure)
