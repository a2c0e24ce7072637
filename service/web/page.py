"""A route of a page: a problem is a page too."""

import json

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.responses import Response

from mudman.faults import MudmanError
from service import problems
from service.web.rendering import render


class Page(APIRoute):
    def get_route_handler(self):
        answer = super().get_route_handler()

        async def page(request: Request) -> Response:
            try:
                return await answer(request)
            except (MudmanError, RequestValidationError) as error:
                document = problems.document(request, error)
                if document.status_code >= 500 and document.status_code != 503:
                    raise
                said = json.loads(document.body)
                return render("problem.html", document.status_code, problem=said)

        return page
