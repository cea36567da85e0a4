"""What the HTTP routes answer, around the sessions and messages of `functions`; `/openapi.json` is made of it."""

from __future__ import annotations

from typing import Generic, TypeVar

from typing_extensions import TypedDict

from self_agent.dialects.aichat.functions import ChatMessage, ChatSession

T = TypeVar("T")


class Success(TypedDict, Generic[T]):
    """The envelope of what went well."""

    code: int
    message: str
    data: T


class Pagination(TypedDict):
    """Which page a list is, and of how many."""

    total: int
    pageSize: int
    pageNum: int
    totalPages: int


class Sessions(TypedDict):
    """A page of the sessions."""

    list: list[ChatSession]
    pagination: Pagination


class SessionWithMessages(ChatSession):
    """A session with its latest messages."""

    messages: list[ChatMessage]


class SessionsShown(TypedDict):
    """A page of the sessions, with messages."""

    list: list[SessionWithMessages]
    pagination: Pagination


class Messages(TypedDict):
    """A page of a session's messages."""

    items: list[ChatMessage]
    total: int
    page: int
    page_size: int
