"""What `POST /v1/responses` asks for: checked, and told apart into what is kept and what the model's server is told.

Nothing is dropped in silence: what this server cannot do is refused by the parameter's name.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field
from typing_extensions import TypedDict

from self_agent.dialects.openai.errors import Refused, missing, unsupported
from self_agent.dialects.openai.items import checked_metadata
from self_agent.dialects.openai.listing import check_include
from self_agent.openapi import Body

UNSUPPORTED = (
    "access_programs",
    "background_options",
    "context_management",
    "image",
    "moderation",
    "prompt",
    "prompt_cache_options",
)
HINTS = ("safety_identifier", "prompt_cache_key", "prompt_cache_retention", "user")  # to OpenAI: nothing to do here
KEPT = (
    "instructions",
    "max_output_tokens",
    "max_tool_calls",
    "parallel_tool_calls",
    "previous_response_id",
    "temperature",
    "top_p",
    "truncation",
    "background",
    *HINTS,
)
OPTIONS = {"temperature": "temperature", "top_p": "top_p", "max_output_tokens": "max_tokens"}  # in a chat completion
REASONING = ("effort", "summary", "generate_summary")
SCHEMA = ("name", "schema", "strict", "description")
FUNCTION = ("type", "name", "description", "parameters", "strict")


class ConversationParam(TypedDict):
    """A conversation by its id."""

    id: str


class ResponseBody(Body):
    """What is to be answered, and how."""

    model_config = ConfigDict(strict=True, extra="allow")

    input: str | list[Any] | None = Field(None, examples=["Hello"])
    model: str | None = None
    instructions: str | None = None
    conversation: str | ConversationParam | None = None
    previous_response_id: str | None = None
    keep: bool | None = Field(None, alias="store")
    stream: bool | None = None
    background: bool | None = None
    metadata: dict[str, str] | None = None
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, ge=0, le=1)
    max_output_tokens: int | None = Field(None, ge=1, le=1 << 31)
    reasoning: dict[str, Any] | None = None
    text: dict[str, Any] | None = None
    tools: list[Any] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    include: list[str] | None = None
    truncation: Literal["auto", "disabled"] | None = None
    service_tier: str | None = None
    top_logprobs: int | None = None
    max_tool_calls: int | None = Field(None, ge=0, le=1 << 31)
    stream_options: dict[str, Any] | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: Literal["in_memory", "24h"] | None = None
    user: str | None = None


def check(json: ResponseBody) -> None:
    """Raise Refused for what cannot be done."""
    for name, value in (json.model_extra or {}).items():
        if value is not None:
            if name in UNSUPPORTED:
                raise unsupported(name)
            raise Refused(f"Unknown parameter: '{name}'.", name, "unknown_parameter")
    if json.input is None or json.input == []:
        raise missing("input")
    if json.conversation is not None and json.previous_response_id is not None:
        words = "Mutually exclusive parameters: 'conversation' and 'previous_response_id' cannot be used together."
        raise Refused(words, "previous_response_id", "mutually_exclusive_parameters")
    if json.background and json.keep is False:
        raise Refused("Background responses are stored: 'store' cannot be false.", "background")
    if json.top_logprobs:
        raise unsupported("top_logprobs")
    if json.service_tier not in (None, "auto", "default"):
        raise Refused(f"The service tier '{json.service_tier}' is not supported by this server.", "service_tier")
    for name, value in (json.stream_options or {}).items():
        if value:
            raise unsupported(f"stream_options.{name}")
    check_include(json.include or [])
    checked_metadata(json.metadata)


def kept(json: ResponseBody) -> dict[str, Any]:
    """Return what a response repeats of its request, where that was said."""
    fields: dict[str, Any] = {name: value for name in KEPT if (value := getattr(json, name)) is not None}
    if json.metadata:
        fields["metadata"] = json.metadata
    if json.keep is False:
        fields["store"] = False
    if json.reasoning:
        fields["reasoning"] = {"effort": None, "summary": None, **_reasoning(json.reasoning)}
    if json.text:
        fields["text"] = {"format": {"type": "text"}, **json.text}
    if json.tools:
        fields["tools"] = [{"parameters": None, "strict": None, **tool} for tool in json.tools]
    if json.tool_choice is not None:
        fields["tool_choice"] = json.tool_choice
    return fields


def options(json: ResponseBody) -> dict[str, Any]:
    """Return the fields of a chat completion request that say the same. Raises Refused."""
    found = {name: value for own, name in OPTIONS.items() if (value := getattr(json, own)) is not None}
    if effort := _reasoning(json.reasoning or {}).get("effort"):
        found["reasoning_effort"] = effort
    found.update(_text_options(json.text or {}))
    if json.tools:
        found["tools"] = [_tool(tool, f"tools[{place}]") for place, tool in enumerate(json.tools)]
        if json.parallel_tool_calls is not None:
            found["parallel_tool_calls"] = json.parallel_tool_calls
    if json.tool_choice is not None:
        found.update(_choice(json.tool_choice, json.tools or []))
    return found


def _reasoning(reasoning: dict[str, Any]) -> dict[str, Any]:
    for name, value in reasoning.items():
        if value is not None and name not in REASONING:
            raise unsupported(f"reasoning.{name}")
        if value is not None and not isinstance(value, str):
            raise Refused(f"Invalid type for 'reasoning.{name}'.", f"reasoning.{name}", "invalid_type")
    return {name: value for name, value in reasoning.items() if value is not None}


def _text_options(text: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in text.items():
        if name not in ("format", "verbosity"):
            raise unsupported(f"text.{name}")
        if name == "verbosity" and value is not None:
            if value not in ("low", "medium", "high"):
                raise Refused("Invalid value for 'text.verbosity'.", "text.verbosity")
            found["verbosity"] = value
    form = text.get("format") or {"type": "text"}
    kind = form.get("type") if isinstance(form, dict) else None
    if kind == "json_schema":
        schema = {name: form[name] for name in SCHEMA if form.get(name) is not None}
        if not isinstance(schema.get("name"), str):
            raise missing("text.format.name")
        if not isinstance(schema.get("schema"), dict):
            raise missing("text.format.schema")
        return {**found, "response_format": {"type": kind, kind: schema}}
    if kind == "json_object":
        return {**found, "response_format": {"type": kind}}
    if kind != "text":
        raise Refused(f"Formats of type {kind!r} are not supported by this server.", "text.format.type")
    return found


def _tool(tool: Any, param: str) -> dict[str, Any]:
    if not isinstance(tool, dict):
        raise Refused(f"Invalid type for '{param}': expected an object.", param, "invalid_type")
    if (kind := tool.get("type")) != "function":
        words = f"Tools of type {kind!r} are not supported by this server: only functions are."
        raise Refused(words, f"{param}.type", "unsupported_value")
    for name, value in tool.items():
        if name not in FUNCTION and value:
            raise unsupported(f"{param}.{name}")
    if not isinstance(tool.get("name"), str):
        raise missing(f"{param}.name")
    if not isinstance(tool.get("parameters") or {}, dict) or not isinstance(tool.get("strict") or False, bool):
        raise Refused(f"Invalid type for a field of '{param}'.", param, "invalid_type")
    if not isinstance(tool.get("description") or "", str):
        raise Refused(f"Invalid type for '{param}.description'.", f"{param}.description", "invalid_type")
    fields = {name: tool[name] for name in FUNCTION[1:] if tool.get(name) is not None}
    return {"type": "function", "function": fields}


def _choice(choice: str | dict[str, Any], tools: list[Any]) -> dict[str, Any]:
    if isinstance(choice, str):
        if choice not in ("none", "auto", "required"):
            raise Refused(f"Invalid value: '{choice}'.", "tool_choice")
        return {"tool_choice": choice} if tools else {}
    if choice.get("type") != "function" or not isinstance(choice.get("name"), str):
        raise Refused("Only a function can be chosen, by its name.", "tool_choice", "unsupported_value")
    if not any(isinstance(tool, dict) and tool.get("name") == choice["name"] for tool in tools):
        raise Refused(f"Tool choice '{choice['name']}' not found in 'tools' parameter.", "tool_choice")
    return {"tool_choice": {"type": "function", "function": {"name": choice["name"]}}}
