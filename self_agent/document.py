"""What `/openapi.json` says of answers, read from the views themselves: annotations, framings, docstrings, errors.

Nothing here runs for an ordinary request, and a dialect is described without a word of its own: what its views do not
say has a default.
"""

from __future__ import annotations

import inspect
import re
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, NoReturn, TypeVar, Union, get_args, get_origin, get_type_hints

from flask import Flask
from pydantic import BaseModel, TypeAdapter
from werkzeug.routing import Rule

from core import errors
from core.errors import AppError
from core.web import ErrorBody, Json
from self_agent import keys
from self_agent.encoders.base import Framing
from self_agent.events import Delta, Done, Event, Started
from self_agent.models import Message

T = TypeVar("T")
View = TypeVar("View", bound=Callable[..., Any])
Asks = Annotated[T, "asks the model"]  # what a view returns that does not stream, but can fail as the model does

ID = {"type": "string", "pattern": r"^[A-Za-z0-9_\-][A-Za-z0-9._\-]{0,127}$", "example": "demo"}
NUMBER = {"type": "integer", "minimum": 0, "example": 1}
BEARER = {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
EXAMPLE = "body_example"  # the attribute of a view with the body that it takes
SERVER = ("server", "The server itself.")  # the tag of what belongs to no dialect
GUARDED = ("/metrics",)  # of that, what needs a token all the same
FILLERS: dict[Any, Any] = {str: "Hello", int: 1, bool: False, float: 1.0}  # for a field without an example
RETRY_AFTER = {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds, if the upstream names any."}}
WITH_BODY = {"POST", "PUT", "PATCH"}
REFERENCE = "#/components/schemas/{model}"
KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, AppError)]
OF_ID = (errors.InvalidRequest, errors.NotFound)
OF_BODY = (errors.PayloadTooLarge, errors.UnsupportedMediaType, errors.Conflict)
OF_MODEL = (errors.UpstreamError, errors.ModelUnavailable, errors.TooManyRequests)


@dataclass(frozen=True)
class Sample:
    """What an answer that is no JSON looks like."""

    content_type: str
    text: str


@dataclass(frozen=True)
class Empty:
    """An answer without a body, 204, and what it says."""

    sentence: str


OF_STATE = "depends on what there is"  # what a view returns that only reads, but can be a conflict


def sample_of(framing: Framing) -> Sample:
    """Return a short reply in a framing."""
    message = Message("assistant", "Hello!", id=2, timestamp="2025-04-30T10:00:00.000000Z")
    events: tuple[Event, ...] = (Started("turn", "demo", 1, 2), Delta("Hel"), Delta("lo!"), Done(message))
    return Sample(framing.content_type, b"".join(map(framing.encode, events)).decode())


def complete(document: dict[str, Any], app: Flask, error_body: ErrorBody, *, auth: bool) -> None:
    """Add to a document, which has the requests, all that it does not say of the app's operations."""
    components = document["components"]
    components["responses"] = {}
    components["securitySchemes"] = {"bearer": BEARER}
    tags: dict[str, str] = {}
    answers: dict[str, Any] = {}  # by operation, what it answers with as JSON
    for rule, method, operation in _operations(document, app):
        hints = _hints(app.view_functions[rule.endpoint])
        tag, sentence = _tag(app, rule)
        tags[tag] = sentence
        operation["tags"] = [tag]
        operation["security"] = [{"bearer": []}] if auth and (tag != SERVER[0] or rule.rule in GUARDED) else []
        operation["operationId"] = _name(rule, method, answers)
        _describe_request(operation, hints, getattr(app.view_functions[rule.endpoint], EXAMPLE, None))
        returned = list(_returned(hints.get("return", Any)))
        operation["responses"] = {}
        if content := _content(operation["operationId"], returned, answers):
            operation["responses"]["200"] = {"description": "Success", "content": content}
        for empty in (extra for _, extras in returned for extra in extras if isinstance(extra, Empty)):
            operation["responses"]["204"] = {"description": empty.sentence}
        with app.test_request_context(rule.rule):  # a dialect's errors may differ from path to path
            for status, response in _errors(rule, method, operation, returned, error_body).items():
                name = f"{tag}_{status}"
                is_shared = components["responses"].setdefault(name, response) == response
                operation["responses"][status] = _at("responses", name) if is_shared else response
    document["tags"] = [{"name": name, "description": sentence} for name, sentence in tags.items()]
    _add_schemas(document, answers)


def _at(kind: str, name: str) -> dict[str, str]:
    return {"$ref": f"#/components/{kind}/{name}"}


def _operations(document: dict[str, Any], app: Flask) -> Iterator[tuple[Rule, str, dict[str, Any]]]:
    """Yield the operations; what belongs to no dialect and does not say what it returns is none, and is taken out."""
    for rule in app.url_map.iter_rules():
        path = re.sub(r"<(?:[^<>]*:)?(\w+)>", r"{\1}", rule.rule)
        if "." not in rule.endpoint and "return" not in _hints(app.view_functions[rule.endpoint]):
            document["paths"].pop(path, None)  # a page for people
        for method in sorted(rule.methods or ()):
            operation = document["paths"].get(path, {}).get(method.lower())
            if operation and not rule.websocket:
                yield rule, method, operation


def _hints(view: Callable[..., Any]) -> dict[str, Any]:
    try:
        return get_type_hints(inspect.unwrap(view), include_extras=True)
    except NameError:  # only the type checker knows this name: the defaults must do
        return {}


def _name(rule: Rule, method: str, taken: dict[str, Any]) -> str:
    name = rule.endpoint.replace(".", "_")
    return f"{name}_{method.lower()}" if name in taken else name


def _tag(app: Flask, rule: Rule) -> tuple[str, str]:
    """Return the name of the dialect that a rule belongs to, and the first sentence of its module."""
    if "." not in rule.endpoint:
        return SERVER
    name = rule.endpoint.partition(".")[0]
    words = sys.modules[app.blueprints[name].import_name].__doc__ or name
    return name, " ".join(words.partition("\n\n")[0].split())


# --- requests


def with_body(example: list[Any]) -> Callable[[View], View]:
    """Describe the body of a view that reads it itself: a list of objects, such as these."""

    def mark(view: View) -> View:
        setattr(view, EXAMPLE, example)
        return view

    return mark


def _describe_request(operation: dict[str, Any], hints: dict[str, Any], example: list[Any] | None) -> None:
    for parameter in operation["parameters"]:
        if parameter["in"] == "path":
            default = int if parameter["schema"]["type"] == "integer" else str
            schema = _path_schema(hints.get(parameter["name"], default))
            parameter["example"] = schema.pop("example")
            parameter["schema"] = schema
            continue
        if "anyOf" in parameter["schema"]:  # with null for none, which a query leaves out instead
            [parameter["schema"]] = [kind for kind in parameter["schema"]["anyOf"] if kind != {"type": "null"}]
        if examples := parameter["schema"].get("examples"):
            parameter["example"] = examples[0]
    if example is not None:
        schema = {"description": "A list of chats, or one chat."}  # what is none is reported, each by itself
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": schema, "example": example}},
        }
    body = hints.get("json")
    if body is not None:
        operation["requestBody"]["content"]["application/json"]["example"] = example_of(body)
        operation["requestBody"]["required"] = "required" in body.model_json_schema()


def _path_schema(hint: Any) -> dict[str, Any]:
    if hint in (str, int):
        return dict(ID if hint is str else NUMBER)
    schema = TypeAdapter(hint).json_schema()
    return {**schema, "example": schema.pop("examples", [FILLERS.get(hint, "demo")])[0]}


def example_of(model: type[BaseModel]) -> dict[str, Any]:
    """Return a body that a view takes: what it requires, and what has an example."""
    found: dict[str, Any] = {}
    for name, info in model.model_fields.items():
        if info.examples or info.is_required():
            found[info.alias or name] = info.examples[0] if info.examples else FILLERS.get(info.annotation, [])
    return found


# --- answers


def _returned(hint: Any, *extras: Any) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    """Yield each kind of answer in what a view returns, with what the annotation says beside it."""
    if get_origin(hint) in (Union, types.UnionType):
        for part in get_args(hint):
            yield from _returned(part, *extras)
    elif get_origin(hint) is Annotated:
        yield from _returned(hint.__origin__, *extras, *hint.__metadata__)
    else:
        yield hint, extras


def _content(name: str, returned: list[tuple[Any, tuple[Any, ...]]], answers: dict[str, Any]) -> dict[str, Any]:
    """Describe the kinds of an answer; the JSON one's type is kept in `answers`."""
    found: dict[str, Any] = {}
    answers[name] = Any
    for hint, extras in returned:
        samples = [extra if isinstance(extra, Sample) else sample_of(extra) for extra in extras if _is_sample(extra)]
        for sample in samples:
            found[sample.content_type] = {"example": sample.text}
        if get_origin(hint) is Json:
            [answers[name]] = get_args(hint)
        if not samples and hint is not NoReturn:
            found["application/json"] = {"schema": {}}
    return found


def _is_sample(extra: Any) -> bool:
    return isinstance(extra, (Sample, Framing))


def _add_schemas(document: dict[str, Any], answers: dict[str, Any]) -> None:
    wanted = [(name, "serialization", TypeAdapter(hint)) for name, hint in answers.items()]
    schemas, definitions = TypeAdapter.json_schemas(wanted, ref_template=REFERENCE)  # type: ignore[arg-type]
    document["components"]["schemas"].update(definitions.get("$defs", {}))
    for path in document["paths"].values():
        for operation in path.values():
            content = operation["responses"].get("200", {}).get("content", {})
            if "application/json" in content:
                content["application/json"]["schema"] = schemas[operation["operationId"], "serialization"]


# --- errors


def _errors(
    rule: Rule, method: str, operation: dict[str, Any], returned: list[Any], error_body: ErrorBody
) -> dict[str, Any]:
    """Describe what can go wrong, by status, each with the body that the path's dialect gives it."""
    found: dict[str, Any] = {}
    for kind in KINDS:
        if _can_occur(kind, method, operation, returned):
            sentence = " ".join((kind.__doc__ or "").partition(".")[0].removeprefix("Raised when ").split())
            body, status = error_body(kind(sentence), rule.rule)
            if str(status) in found:
                found[str(status)]["description"] += f"; or {sentence}"
            else:
                content = {"application/json": {"schema": schema_of(body), "example": body}}
                headers = {"headers": RETRY_AFTER} if status == 429 else {}
                words = sentence[0].upper() + sentence[1:]
                found[str(status)] = {"description": words, **headers, "content": content}
    return dict(sorted(found.items()))


def _can_occur(kind: type[AppError], method: str, operation: dict[str, Any], returned: list[Any]) -> bool:
    """Say whether an operation can fail so, as far as its shape tells; one that does not say what it returns can."""
    if issubclass(kind, OF_MODEL):
        return any(extras or (get_origin(hint) is not Json and hint is not NoReturn) for hint, extras in returned)
    if issubclass(kind, errors.KeyReused):
        return any(parameter["name"] == keys.HEADER for parameter in operation["parameters"])
    if issubclass(kind, errors.Conflict) and any(OF_STATE in extras for _, extras in returned):
        return True
    if issubclass(kind, OF_BODY):
        return method in WITH_BODY
    if issubclass(kind, OF_ID):
        return method in WITH_BODY or bool(operation["parameters"]) or "200" not in operation["responses"]
    if issubclass(kind, errors.Unauthorized):
        return bool(operation["security"])
    return kind is not errors.MethodNotAllowed


def schema_of(value: Any) -> dict[str, Any]:
    """Return the JSON schema of values shaped as this one."""
    if isinstance(value, dict):
        properties = {name: schema_of(inner) for name, inner in value.items()}
        return {"type": "object", "properties": properties, "required": list(value)}
    names: dict[type, str] = {str: "string", bool: "boolean", int: "integer", list: "array"}
    return {"type": ["string", "null"] if value is None else names[type(value)]}  # what has no value may have a word
