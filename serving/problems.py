"""Errors as application/problem+json (RFC 9457), the framework's own among them."""

from http import HTTPStatus
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

DOCUMENTED: dict[int | str, dict[str, Any]] = {
    status: {
        "description": "A problem (RFC 9457).",
        "content": {"application/problem+json": {"schema": {"type": "object"}}},
    }
    for status in ("4XX", "5XX")
}


class Problem(Exception):
    """An answer that is no success: status, a short code, what is wrong, and further members."""

    def __init__(self, status: int, code: str, detail: str, **more: Any) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail, self.more = status, code, detail, more

    def response(self) -> Response:
        """Render the problem."""
        title = HTTPStatus(self.status).phrase
        body = {"type": f"/problems/{self.code}", "title": title, "status": self.status, "code": self.code}
        headers = {"Retry-After": "5"} if self.status in (429, 503) else {}
        return Response(
            orjson.dumps(body | {"detail": self.detail} | self.more),
            self.status,
            headers=headers | self.more.get("headers", {}),
            media_type="application/problem+json",
        )


def install(app: FastAPI) -> None:
    """Make every error of an application a problem."""

    async def problem(request: Request, error: Exception) -> Response:
        assert isinstance(error, Problem)
        return error.response()

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        code = HTTPStatus(error.status_code).name.lower()
        response = Problem(error.status_code, code, f"{request.method} {request.url.path}").response()
        response.headers.update(error.headers or {})
        return response

    async def validation(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return invalid(error.errors()).response()

    async def fault(request: Request, error: Exception) -> Response:
        return Problem(500, "internal_error", "the server failed; the log says more").response()

    app.add_exception_handler(Problem, problem)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(RequestValidationError, validation)
    app.add_exception_handler(Exception, fault)


def invalid(errors: Any) -> Problem:
    """Return pydantic's findings as one 422."""
    found = [{"field": ".".join(map(str, e["loc"])), "problem": e["msg"]} for e in errors]
    first = found[0]
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return Problem(422, "invalid", f"{first['field']}: {first['problem']}{more}", errors=found)
