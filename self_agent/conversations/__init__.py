"""Every use case once: what can be done with conversations, who may, and what the model is asked.

Dialects call these and render what they return. `user_id` is who asks; a conversation of somebody else
raises NotYours, one that does not exist NotFound.
"""

from __future__ import annotations

from self_agent.conversations.changing import Changing
from self_agent.conversations.finding import EmptyContent
from self_agent.conversations.projects import Projects
from self_agent.conversations.responding import Answered, Responding

__all__ = ["Answered", "Conversations", "EmptyContent"]


class Conversations(Changing, Projects, Responding):
    """The use cases, over one store, its turns and one provider."""
