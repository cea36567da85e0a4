"""What the native dialect answers: the shapes that its views render, of which `/openapi.json` is made."""

from __future__ import annotations

from typing import Annotated, Any, Generic, TypeVar

from pydantic import Field
from typing_extensions import NotRequired, TypedDict

from self_agent.document import OF_STATE, Empty, sample_of
from self_agent.encoders import sse
from self_agent.streams import Stream

T = TypeVar("T")
Time = Annotated[str, Field(examples=["2025-04-30T10:00:00Z"])]
Events = Annotated[Stream, sample_of(sse.numbered())]
Resumed = Annotated[Events, Empty("The last event is known already: there are no more."), OF_STATE]
NO_MORE: Stream = iter(()), 204, {}


class Data(TypedDict, Generic[T]):
    """The envelope of what went well."""

    data: T


class Meta(TypedDict):
    """Which page a list is, and of how many items."""

    page: int
    size: int
    total: int


class Config(TypedDict):
    """The model that answers in a conversation."""

    model: str | None


class Ids(TypedDict):
    """A page of the ids of the conversations."""

    data: list[str]
    meta: Meta


class Shown(TypedDict):
    """A message; `incomplete` is one that was stopped or cut off."""

    role: str
    content: str
    timestamp: Time
    sources: NotRequired[list[Any]]
    incomplete: NotRequired[bool]


class Full(TypedDict):
    """A message with all that is known of it; `siblings` are the messages that it can be leafed through to."""

    id: int
    parent: int | None
    siblings: list[int]
    role: str
    content: str
    timestamp: Time
    model: str | None
    usage: dict[str, Any] | None
    reasoning: str | None
    sources: list[Any] | None
    incomplete: bool
    error: str | None
    edited_at: Time | None


class Heading(TypedDict):
    """What every answer says of a conversation; of an unknown one the times are null."""

    conversation_id: str
    name: str
    summary: str
    created_at: Time | None
    updated_at: Time | None


class Named(TypedDict):
    """A project."""

    id: int
    name: str


class Tagged(TypedDict):
    """A tag of a conversation."""

    id: str
    tag: str


class FullHeading(Heading):
    """All that a list shows of a conversation; `first_line` is what its first user message begins with."""

    title: str | None
    first_line: str
    count: int
    model: str | None
    project: Named | None
    folders: list[str]
    tags: list[Tagged]
    pinned: bool
    archived: bool
    answering: bool


class Rest(TypedDict):
    """How many messages were asked for, how many there are, and whether there are more before these."""

    size: int
    total: int
    has_more: bool


class FullDetail(FullHeading):
    """A conversation and its latest messages, or those before one of them."""

    system_prompt: str | None
    messages: list[Full]
    meta: Rest
    config: Config


class Headings(TypedDict):
    """A page of the conversations."""

    data: list[FullHeading]
    meta: Meta


class Detail(Heading):
    """A conversation and a page of its messages."""

    messages: list[Shown]
    meta: Meta
    config: Config


class Sent(Heading):
    """A reply, and the latest messages."""

    reply: str
    messages: list[Shown]
    model: str | None


class CutOff(Sent):
    """A reply that was stopped."""

    incomplete: bool


class Changed(FullHeading):
    """A conversation, with what can be set."""

    system_prompt: str | None
    config: Config


class Deleted(TypedDict):
    """That it has been deleted."""

    success: bool


class AllDeleted(Deleted):
    """How many have been deleted."""

    deleted: int


class Stopped(TypedDict):
    """Whether there was a reply to stop."""

    success: bool
    stopped: bool
