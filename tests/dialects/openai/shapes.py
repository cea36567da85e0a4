"""The SDK's own models, held against what is answered more strictly than the SDK does."""

from __future__ import annotations

from functools import cache
from typing import Any

import pydantic
from pydantic import TypeAdapter

BEYOND = {"store", "reasoning_content"}  # what OpenAI's server, or others like it, say too, and the models do not have


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def check(kind: Any, data: Any) -> Any:
    """Return data as the SDK's model; no field is missing, none has another type, none is unknown."""
    found = _adapter(kind).validate_python(data, strict=True)
    _check_known(found, type(found).__name__)
    return found


def _check_known(value: Any, where: str) -> None:
    if isinstance(value, pydantic.BaseModel):
        unknown = set(value.model_extra or {}) - BEYOND
        assert not unknown, f"{where} has no {unknown}"
        for name in type(value).model_fields:
            _check_known(getattr(value, name), f"{where}.{name}")
    elif isinstance(value, (list, tuple)):
        for item in value:
            _check_known(item, where)
    elif isinstance(value, dict):
        for name, item in value.items():
            _check_known(item, f"{where}.{name}")
