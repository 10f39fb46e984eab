"""What the API accepts: one pydantic model a call, read from the body by our own hand.

The body is parsed here, not by the framework, so that bad JSON is 400, a body over the limit 413, and
a field that means nothing 422, whatever the Content-Type says.
"""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, TypeVar

import orjson
from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from profiles.schema import AHEAD, EARLIEST
from serving.problems import Problem, invalid

BODY_LIMIT = 1 << 20  # bytes
NOT_YET = ("blend", "filter", "boosts", "pins", "quotas", "diversity", "explore", "as_of")

Id = Annotated[str, Field(min_length=1, max_length=1024)]
Model = TypeVar("Model", bound=BaseModel)


class Event(BaseModel):
    """One thing a user did."""

    model_config = ConfigDict(extra="forbid")

    event_id: Id | None = None
    user_id: Id | None = None
    anonymous_id: Id | None = None
    item_id: Id | None = None
    event_type: Annotated[str, Field(min_length=1, max_length=100)]
    timestamp: datetime | None = None
    value: Annotated[float, Field(allow_inf_nan=False)] | None = None
    text: Annotated[str, Field(max_length=100_000)] | None = None
    session_id: Id | None = None
    recommendation_id: Id | None = None
    properties: dict[str, Any] | None = None

    @field_validator("timestamp")
    @classmethod
    def _plausible(cls, moment: datetime | None) -> datetime | None:
        if moment is None:
            return None
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        if not EARLIEST <= moment <= datetime.now(UTC) + AHEAD:
            raise ValueError(f"{moment:%Y-%m-%d} lies outside 1990 … tomorrow")
        return moment.astimezone(UTC)  # after the check: year 1 in another zone has no UTC

    @field_validator("properties")
    @classmethod
    def _writable(cls, properties: dict[str, Any] | None) -> dict[str, Any] | None:
        try:
            orjson.dumps(properties)
        except orjson.JSONEncodeError as error:  # it reads deeper nesting than it writes
            raise ValueError(str(error)) from None
        return properties

    def who(self) -> str | None:
        """Return the user the log keeps the event under: anonymous ids have a prefix of their own."""
        return (
            f"anonymous:{self.anonymous_id}" if self.user_id is None and self.anonymous_id else self.user_id
        )

    def row(self, event_id: str, user_id: str, now: datetime) -> dict[str, Any]:
        """Return the event as a row of EVENTS."""
        properties = None if self.properties is None else orjson.dumps(self.properties).decode()
        named = self.model_dump(exclude={"anonymous_id", "properties", "event_id", "user_id", "timestamp"})
        own = {"event_id": event_id, "user_id": user_id, "timestamp": self.timestamp or now}
        return {**named, **own, "properties": properties}


class WithUser(BaseModel):
    """A request about someone: a user the log knows, or the events that make one."""

    model_config = ConfigDict(extra="forbid")

    user_id: Id | None = None
    events: Annotated[list[Event], Field(max_length=1000)] | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> "WithUser":
        if (self.user_id is None) == (self.events is None):
            raise ValueError("give either user_id or events")
        return self


class Recommendations(WithUser):
    """POST /v1/recommendations."""

    query_text: Annotated[str, Field(max_length=10_000)] | None = None
    k: Annotated[int, Field(ge=1, le=500)] = 10
    exclude: Annotated[list[Id], Field(max_length=10_000)] = []
    explain: Literal["none", "reasons"] = "none"


class Ranking(WithUser):
    """POST /v1/rank."""

    item_ids: Annotated[list[Id], Field(min_length=1, max_length=1000)]


class Similar(BaseModel):
    """POST /v1/similar."""

    model_config = ConfigDict(extra="forbid")

    item_id: Id
    k: Annotated[int, Field(ge=1, le=500)] = 10


async def parsed(request: Request) -> Any:
    """Return the body as JSON: 413 over the limit, 400 where it is none."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_LIMIT:
            raise Problem(413, "too_large", f"a body is at most {BODY_LIMIT} bytes")
    try:
        return orjson.loads(bytes(body))
    except orjson.JSONDecodeError as error:
        raise Problem(400, "bad_json", f"the body is not JSON: {error}") from None


def body(model: type[Model], not_yet: tuple[str, ...] = ()) -> Callable[[Request], Awaitable[Model]]:
    """Return a dependency that reads the body as `model`; fields of `not_yet` answer 422 not_supported."""

    async def read(request: Request) -> Model:
        value = await parsed(request)
        if not isinstance(value, dict):
            raise Problem(422, "invalid", "the body is a JSON object")
        later = [name for name in not_yet if name in value]
        if value.get("explain") == "full" and "explain" in model.model_fields:
            later.append("explain=full")
        if later:
            detail = f"{', '.join(later)}: part of the contract, not supported by this version"
            raise Problem(422, "not_supported", detail, fields=later)
        try:
            return model.model_validate(value)
        except ValidationError as error:
            raise invalid(error.errors(include_url=False, include_context=False)) from None

    return read


def described(model: type[BaseModel]) -> dict[str, Any]:
    """Return the OpenAPI description of a body that is read by hand."""
    schema = model.model_json_schema()
    schema = _inlined(schema, schema.pop("$defs", {}))
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def _inlined(schema: Any, definitions: dict[str, Any]) -> Any:
    """Put what a schema refers to in the place of the reference: the document has no such component."""
    if isinstance(schema, list):
        return [_inlined(part, definitions) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _inlined(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    return {name: _inlined(part, definitions) for name, part in schema.items()}
