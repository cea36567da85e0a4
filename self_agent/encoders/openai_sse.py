"""Server-sent events that end as OpenAI's do: whatever ended well, and nothing else, ends in `[DONE]`."""

from __future__ import annotations

from self_agent.encoders.sse import frame, framing
from self_agent.events import CallDelta, Delta, Done, Event, Failed, Sources, Started

END = b"data: [DONE]\n\n"


def bare(event: Event) -> bytes:
    """Encode for clients that add up the `content` of frames: every frame of the reply has one, if an empty one."""
    if isinstance(event, Delta):
        if not event.text:
            return frame({"content": "", "reasoning": event.reasoning})
        return frame({"content": event.text})
    if isinstance(event, Started):
        return frame(
            {
                "conversation_id": event.conversation_id,
                "session_id": event.turn_id,
                "user_message_id": event.user_message_id,
                "assistant_message_id": event.message_id,
            }
        )
    if isinstance(event, Sources):
        return frame({"content": "", "sources": event.sources})
    if isinstance(event, Done):
        return frame({"content": "", "finish_reason": "stop"}) + END
    if isinstance(event, CallDelta):
        return b""
    assert isinstance(event, Failed)
    return frame({"error": event.error.message})


BARE = framing(bare)
