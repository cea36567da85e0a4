"""Requests are validated by the models from which `/openapi.json` is made, so the two cannot differ.

What it says of answers is in `document`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from typing import Any

from flask import Flask, request
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from core.errors import InvalidRequest
from core.web import ErrorBody, Json, json_response
from self_agent import document

sys.modules["offapi"] = None  # type: ignore[assignment] # spectree would keep its pages, 37 MiB, in every process
from spectree import SpecTree  # noqa: E402
from spectree.plugins.flask_plugin import FlaskPlugin  # noqa: E402

del sys.modules["offapi"]

MAX_PAGE = 10**9  # page times size must stay an index that Python and JavaScript can hold


class Body(BaseModel):
    """A JSON body: types are not converted, unknown fields are ignored."""

    model_config = ConfigDict(strict=True)


class Query(BaseModel):
    """Query parameters: text that is converted to the declared types."""


class Headers(BaseModel):
    """Request headers, each by its name as an alias."""


class Paging(Query):
    """A page of a list."""

    page: int = Field(1, ge=1, le=MAX_PAGE)
    size: int = Field(20, ge=1, le=100)


def describe(error: ValidationError) -> str:
    """Say in one sentence which field is wrong, and why; the value is not repeated."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    return f"{field_of(error)}: {first['msg'][0].lower()}{first['msg'][1:]}"


def field_of(error: ValidationError) -> str:
    """Return which field is wrong, or `body`."""
    return ".".join(str(part) for part in error.errors(include_url=False, include_input=False)[0]["loc"]) or "body"


class Plugin(FlaskPlugin):
    """Calls a view with what it declares, a query, headers and a JSON body; what it returns is left to Flask."""

    def validate(self, func: Callable[..., Any], query: Any, json: Any, *settings: Any, **arguments: Any) -> Any:
        """Validate a request, in which an empty body is an empty object. Raises InvalidRequest."""
        _form, headers, *_ = settings
        try:
            if query:
                arguments["query"] = query.model_validate(request.args.to_dict())
            if headers:
                names = [field.alias for field in headers.model_fields.values()]
                found = {name: request.headers[name] for name in names if name in request.headers}
                arguments["headers"] = headers.model_validate(found)
            if json:
                arguments["json"] = json.model_validate(request.get_json(silent=True) or {})
        except ValidationError as error:
            raise InvalidRequest(describe(error), param=field_of(error)) from None
        return func(**arguments)


class Spec(SpecTree):
    """The validator and the document of whichever app is handling the request."""

    @property
    def spec(self) -> dict[str, Any]:
        """Return what the current app's routes and requests are, for the dialects that its settings chose."""
        return self._generate_spec()


def name_of(model: type[BaseModel]) -> str:
    """Return a name for a model that says which dialect's it is."""
    return f"{model.__module__.removeprefix('self_agent.dialects.')}.{model.__name__}"


spec = Spec(
    backend=Plugin,
    naming_strategy=name_of,
    title="self_agent",
    description="A conversation server: six dialects over one store.",
    version="0.1.0",
    validation_error_status=400,
)


def install(app: Flask, error_body: ErrorBody, *, auth: bool) -> None:
    """Serve the document at `/openapi.json` and a page to browse it, which needs no network, at `/docs`."""

    @cache
    def described() -> dict[str, Any]:
        found = spec.spec
        document.complete(found, app, error_body, auth=auth)
        return found

    @app.get("/openapi.json")
    def openapi_json() -> Json[dict[str, Any]]:
        return json_response(described())

    @app.get("/docs")
    def openapi_docs() -> str:
        from offapi import OpenAPITemplate

        return OpenAPITemplate.SWAGGER.value.format(
            spec_url="/openapi.json", spec_path="", **spec.config.swagger_oauth2_config()
        )
