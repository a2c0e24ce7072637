"""What browsers are told about every answer, and what is not taken from them: changes that another's page asks for."""

from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import problems
from service.access.refusals import CrossSite
from service.access.rules import SAFE
from service.web.headers import HEADERS

_OURS = ("same-origin", "none")
"""``Sec-Fetch-Site`` of our own pages, and of what a person typed."""


class BrowserRules:
    """ASGI middleware. Programs send neither ``Sec-Fetch-Site`` nor ``Origin``, and are not concerned."""

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        if scope["method"] not in SAFE and _foreign(Headers(scope=scope)):
            detail = "A page of another site asked for this change. Remedy: ask for it from a page of this address."
            refusal = problems.document(Request(scope), CrossSite(detail))
            await refusal(scope, receive, answer)
            return
        await self._app(scope, receive, answer)


def _foreign(headers: Headers) -> bool:
    if (site := headers.get("sec-fetch-site")) is not None:
        return site not in _OURS
    origin = headers.get("origin")  # of browsers that do not say the other
    return origin is not None and urlsplit(origin).netloc != headers.get("host")
