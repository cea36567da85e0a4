"""Requests are validated by the models from which `/openapi.json` is made, so the two cannot differ."""

from __future__ import annotations

import sys
from typing import Any

from flask import Flask
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from core.errors import InvalidRequest
from core.web import ViewResult, json_response

sys.modules["offapi"] = None  # type: ignore[assignment] # spectree would keep its pages, 37 MiB, in every process
from spectree import SpecTree  # noqa: E402
from spectree.plugins.base import Context  # noqa: E402
from spectree.plugins.flask_plugin import FlaskPlugin  # noqa: E402

del sys.modules["offapi"]

MAX_PAGE = 10**9  # page times size must stay an index that Python and JavaScript can hold


class Body(BaseModel):
    """A JSON body: types are not converted, unknown fields are ignored."""

    model_config = ConfigDict(strict=True)


class Query(BaseModel):
    """Query parameters: text that is converted to the declared types."""


class Paging(Query):
    """A page of a list."""

    page: int = Field(1, ge=1, le=MAX_PAGE)
    size: int = Field(20, ge=1, le=100)


def describe(error: ValidationError) -> str:
    """Say in one sentence which field is wrong, and why; the value is not repeated."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    name = ".".join(str(part) for part in first["loc"]) or "body"
    return f"{name}: {first['msg'][0].lower()}{first['msg'][1:]}"


def _refuse(_request: Any, _response: Any, error: Any, _instance: Any, _adapter: Any) -> None:
    if error is not None:
        raise InvalidRequest(describe(error)) from None


class Plugin(FlaskPlugin):
    """Reads of a request what our views declare, a query and a JSON body, and neither headers, cookies nor forms."""

    def request_validation(self, request: Any, query: Any, json: Any, form: Any, headers: Any, cookies: Any) -> None:
        """Put the validated models where spectree looks for them; an empty body is an empty object."""
        validate = self.model_adapter.validate_obj
        request.context = Context(
            validate(query, request.args.to_dict()) if query else None,
            validate(json, request.get_json(silent=True) or {}) if json else None,
            None,
            None,
            None,
        )


class Spec(SpecTree):
    """The validator and the document of whichever app is handling the request."""

    @property
    def spec(self) -> dict[str, Any]:
        """Return the OpenAPI document of the current app, which serves the dialects its settings chose."""
        return self._generate_spec()


spec = Spec(
    backend=Plugin,
    title="self_agent",
    description="A conversation server: five dialects over one store.",
    version="0.1.0",
    before=_refuse,
    validation_error_status=400,
)


def install(app: Flask) -> None:
    """Serve the document at `/openapi.json` and a page to browse it, which needs no network, at `/docs`."""

    @app.get("/openapi.json")
    def openapi_json() -> ViewResult:
        return json_response(spec.spec)

    @app.get("/docs")
    def openapi_docs() -> str:
        from offapi import OpenAPITemplate

        return OpenAPITemplate.SWAGGER.value.format(
            spec_url="/openapi.json", spec_path="", **spec.config.swagger_oauth2_config()
        )
