"""Turns: replies that outlive whoever asked for them."""

from __future__ import annotations

import os
import select
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from core.errors import AppError, ModelUnavailable, NotFound, StorageFull, TooManyRequests, UpstreamError
from self_agent.events import Chunk, Delta, Done, Event, Failed, Info, Sources, Started
from self_agent.models import Conversation, Message
from self_agent.providers.base import Cancellation, Live
from self_agent.storage.memory import MemoryStore
from self_agent.turns import queues
from self_agent.turns.runner import Turns
from self_agent.turns.turn import Reader, Turn

WAIT = 10.0  # seconds no wait here ever takes


class Model:
    """A model that says a piece each time the test lets it."""

    def __init__(self) -> None:
        self.pieces: list[Chunk | Exception | None] = []
        self.more = threading.Condition()
        self.asked = threading.Event()
        self.closed = threading.Event()
        self.cancelled = threading.Event()

    def say(self, *pieces: Any) -> None:
        with self.more:
            self.pieces += [Delta(piece) if isinstance(piece, str) else piece for piece in pieces]
            self.more.notify()

    def __call__(self, conversation: Conversation, cancel: Cancellation) -> Iterator[Chunk]:
        self.asked.set()
        cancel.on_cancel(self.cancelled.set)
        return self.stream()

    def stream(self) -> Iterator[Chunk]:
        try:
            while True:
                with self.more:
                    assert self.more.wait_for(lambda: self.pieces, WAIT)
                    piece = self.pieces.pop(0)
                if piece is None:
                    return
                if isinstance(piece, Exception):
                    raise piece
                yield piece
        finally:
            self.closed.set()


class LiveModel(Model):
    """The same, but many such can be waited for in one thread."""

    def __init__(self) -> None:
        super().__init__()
        self.fd, self.writer = os.pipe()

    def say(self, *pieces: Any) -> None:
        super().say(*pieces)
        os.write(self.writer, b"!")

    def stream(self) -> Iterator[Chunk]:
        return LiveAnswer(self)  # type: ignore[return-value]


class LiveAnswer(Live[Chunk]):
    silence = WAIT

    def __init__(self, model: LiveModel) -> None:
        self.model = model
        self.is_over = False

    def fileno(self) -> int:
        return self.model.fd

    def receive(self) -> list[Chunk]:
        if select.select([self.model.fd], [], [], 0)[0]:
            os.read(self.model.fd, 100)
        with self.model.more:
            pieces, self.model.pieces = self.model.pieces, []
        taken: list[Chunk] = []
        for place, piece in enumerate(pieces):
            if piece is None or isinstance(piece, AppError):
                self.is_over, self.failure = True, piece
                self.model.pieces = pieces[place + 1 :]
                break
            if isinstance(piece, Exception):
                raise piece
            taken.append(piece)
        return taken

    def give_up(self) -> None:
        self.is_over, self.failure = True, UpstreamError("silent")

    def close(self) -> None:
        self.model.closed.set()


class World:
    """A store with one conversation, its turns, and a model."""

    def __init__(self, model: Model) -> None:
        self.store = MemoryStore()
        self.store.create("c", "local")
        self.turns = Turns(self.store, checkpoint_seconds=0.05)
        self.model = model

    def submit(self, content: str = "hi", model: Callable[..., Any] | None = None) -> Turn:
        return self.turns.submit("local", "c", Message("user", content), model or self.model)

    def talk(self) -> list[tuple[str, str]]:
        return [(message.role, message.content) for message in self.store.messages("c")]


@pytest.fixture(params=[Model, LiveModel])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """Whether the model is waited for in a thread or by the hub is the same to its turns."""
    if request.param is LiveModel and sys.platform == "win32":
        pytest.skip("no hub waits for models on Windows")
    world = World(request.param())
    yield world
    world.model.say(None, None, None)
    world.turns.close()


def events(turn: Turn, start: int = 0) -> list[Event]:
    return [event for batch in turn.follow(start) for event in batch]


def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_reply_is_streamed_and_stored(world: World) -> None:
    """Readers see start, pieces and end; the store has question and reply."""
    world.model.say("Hel", "lo", Info(model="m", usage={"n": 1}), None)
    turn = world.submit()
    done = turn.wait().message
    assert done is not None
    assert [type(event) for event in events(turn)] == [Started, Delta, Delta, Done]
    assert (done.content, done.model, done.usage, done.incomplete) == ("Hello", "m", {"n": 1}, False)
    assert world.talk() == [("user", "hi"), ("assistant", "Hello")]
    assert events(turn)[0] == Started(turn.id, "c", turn.question.id, done.id)


def test_nobody_listening_changes_nothing(world: World) -> None:
    """A reader that goes away in the middle does not stop the reply."""
    turn = world.submit()
    world.model.say("a")
    reader = turn.follow()
    next(reader)
    reader.close()
    world.model.say("b", None)
    turn.wait()
    assert world.talk()[1] == ("assistant", "ab")


def test_late_readers_see_all(world: World) -> None:
    """Any number of readers, from any point, see the same events in the same order."""
    turn = world.submit()
    seen: list[list[Event]] = [[] for _ in range(5)]
    readers = [threading.Thread(target=lambda n=n: seen[n].extend(events(turn))) for n in range(5)]
    for n, reader in enumerate(readers):
        reader.start()
        world.model.say(str(n))
    world.model.say(None)
    for reader in readers:
        reader.join(WAIT)
    assert all(row == seen[0] for row in seen)
    assert len(seen[0]) == 7
    assert events(turn, 5) == seen[0][5:]


def test_silence_is_told(world: World) -> None:
    """A reader that wants to know is told that nothing came."""
    turn = world.submit()
    turn.wait_started()
    reader = turn.follow(1, first_silence=0.01, silence=0.01)
    assert [next(reader), next(reader)] == [[], []]
    world.model.say("x", None)
    assert next(event for batch in reader for event in batch) == Delta("x")


def test_question_is_stored_before_asking(world: World) -> None:
    """When the model is asked, the question is on disk."""
    seen: list[Any] = []

    def ask(conversation: Conversation, cancel: Cancellation) -> Iterator[Chunk]:
        seen.extend(world.talk())
        return iter([Delta("x")])

    world.submit(model=ask).wait()
    assert seen == [("user", "hi")]


def test_stop_keeps_what_there_is(world: World) -> None:
    """A stop ends the turn at once, stores the pieces as incomplete, and closes the upstream."""
    turn = world.submit()
    world.model.say("half")
    until(lambda: len(turn.text()[0]) == 4)
    assert world.turns.stop(turn)
    assert turn.wait().message == world.store.messages("c")[1]
    assert world.store.messages("c")[1].incomplete
    assert world.model.cancelled.wait(WAIT)
    world.model.say("more")
    assert world.model.closed.wait(WAIT)
    assert world.talk()[1] == ("assistant", "half")
    assert not world.turns.stop(turn)


def test_stop_before_first_piece_stores_nothing(world: World) -> None:
    """An empty reply is never stored; readers still see a start and an end."""
    turn = world.submit()
    turn.wait_started()
    world.turns.stop(turn)
    assert [type(event) for event in events(turn)] == [Started, Done]
    assert turn.wait().message is None
    assert world.talk() == [("user", "hi")]


def test_stop_does_not_wait_for_deaf_model(world: World) -> None:
    """A model that hangs before it accepts the question cannot hold up a stop, nor the next send."""
    hang = threading.Event()

    def deaf(conversation: Conversation, cancel: Cancellation) -> Iterator[Chunk]:
        hang.wait(WAIT)
        return iter([Delta("late")])

    turn = world.submit(model=deaf)
    turn.wait_stored()
    world.turns.stop(turn)
    assert [type(event) for event in events(turn)] == [Started, Done]
    world.model.say("next", None)
    world.submit("again").wait()
    hang.set()
    assert world.talk() == [("user", "hi"), ("user", "again"), ("assistant", "next")]


def test_failure_keeps_question(world: World) -> None:
    """A model that fails leaves the question, and the next send works."""
    world.model.say(UpstreamError("gone"))
    turn = world.submit()
    with pytest.raises(UpstreamError, match="gone"):
        turn.wait()
    world.model.say("ok", None)
    world.submit("again").wait()
    assert world.talk() == [("user", "hi"), ("user", "again"), ("assistant", "ok")]


def test_failure_keeps_pieces(world: World) -> None:
    """A reply that is cut off is kept as far as it came, marked, with the reason."""
    world.model.say("half", Sources([{"url": "u"}]), UpstreamError("cut off"))
    turn = world.submit()
    turn.wait_started()
    with pytest.raises(UpstreamError):
        turn.wait()
    reply = world.store.messages("c")[1]
    assert (reply.content, reply.incomplete, reply.error, reply.sources) == ("half", True, "cut off", [{"url": "u"}])


def test_refusal_has_no_start(world: World) -> None:
    """What fails before the model accepts can still be answered with a status."""

    def refuse(conversation: Conversation, cancel: Cancellation) -> Iterator[Chunk]:
        raise UpstreamError("no")

    turn = world.submit(model=refuse)
    with pytest.raises(UpstreamError):
        turn.wait_started()
    assert [type(event) for event in events(turn)] == [Failed]
    assert turn.wait_stored().content == "hi"


def test_empty_answer_is_failure(world: World) -> None:
    """A model that says nothing has failed; nobody is shown a blank message."""
    world.model.say("  ", None)
    with pytest.raises(UpstreamError, match="empty"):
        world.submit().wait()
    assert world.talk() == [("user", "hi")]


def test_bug_in_model_is_reported(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever a provider raises, the turn ends, and the log has the traceback."""
    world.model.say(ZeroDivisionError("x"))
    with pytest.raises(AppError, match="the log says why"):
        world.submit().wait()
    assert "ZeroDivisionError" in caplog.text
    assert world.turns.running() == 0


def test_sends_take_turns(world: World) -> None:
    """Two sends at once: one after the other, in order, nothing lost."""
    first = world.submit("one")
    second = world.submit("two")
    assert world.turns.current("c") is first
    world.model.say("1", None)
    first.wait()
    world.model.say("2", None)
    second.wait()
    assert [content for _, content in world.talk()] == ["one", "1", "two", "2"]
    assert world.turns.current("c") is None


def test_conversations_run_in_parallel(world: World) -> None:
    """A slow reply in one conversation does not hold up another."""
    world.submit()
    world.store.create("d", "local")
    other = world.turns.submit("local", "d", Message("user", "x"), lambda conversation, cancel: iter([Delta("y")]))
    assert other.wait().message is not None


def test_turn_is_found_by_id(world: World) -> None:
    """A stop may name the turn instead of its conversation."""
    turn = world.submit()
    assert world.turns.find(turn.id) is turn
    assert world.turns.find("other") is None


def test_listeners_hear_of_turns(world: World) -> None:
    """Who listens to a conversation gets every turn, whoever began it, until he stops listening."""
    heard: list[Turn] = []
    unlisten = world.turns.listen("local", "c", heard.append)
    world.model.say("1", None)
    turn = world.submit()
    turn.wait()
    unlisten()
    world.model.say("2", None)
    world.submit().wait()
    assert heard == [turn]


def test_text_is_checkpointed(world: World) -> None:
    """A second's worth of text is all that a crash can cost; at the end the checkpoint is gone."""
    kept: list[str] = []
    forgotten = threading.Event()
    world.store.checkpoint = lambda cid, reply, text: kept.append(text)  # type: ignore[method-assign]
    world.store.discard_checkpoint = lambda cid: forgotten.set()  # type: ignore[method-assign]
    turn = world.submit()
    world.model.say("one ")
    until(lambda: kept == ["one "])
    world.model.say("two")
    until(lambda: kept == ["one ", "two"])
    world.model.say(None)
    turn.wait()
    assert forgotten.is_set()


def test_failed_checkpoint_is_no_failure(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """A disk that is full for a checkpoint does not end the reply."""

    def full(*args: Any) -> None:
        raise StorageFull("full")

    world.store.checkpoint = full  # type: ignore[method-assign]
    turn = world.submit()
    world.model.say("one")
    until(lambda: "not checkpointed" in caplog.text)
    world.model.say(None)
    assert turn.wait().message


def test_reply_that_cannot_be_stored(world: World) -> None:
    """A full disk at the end is reported to whoever listens, and the conversation goes on."""
    append = world.store.append

    def full(conversation_id: str, *messages: Message) -> list[Message]:
        if messages[0].role == "assistant":
            raise StorageFull("full")
        return append(conversation_id, *messages)

    world.store.append = full  # type: ignore[method-assign]
    world.model.say("lost", None)
    with pytest.raises(StorageFull):
        world.submit().wait()
    world.store.append = append  # type: ignore[method-assign]
    world.model.say("kept", None)
    world.submit().wait()
    assert [content for _, content in world.talk()] == ["hi", "hi", "kept"]


def test_question_that_cannot_be_stored(world: World) -> None:
    """A question that is not on disk is not acknowledged, and the model is not asked."""
    world.store.delete("c")
    turn = world.submit()
    with pytest.raises(NotFound):
        turn.wait_stored()
    assert not world.model.asked.is_set()


def test_turn_without_thread_fails(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the system gives no thread, the send is refused and the conversation is not stuck."""

    class NoThread(threading.Thread):
        def start(self) -> None:
            raise RuntimeError("can't start new thread")

    monkeypatch.setattr("self_agent.turns.runner.threading.Thread", NoThread)
    world.turns._checkpoints.start = lambda: None  # type: ignore[method-assign]
    with pytest.raises(ModelUnavailable, match="busy"):
        world.submit().wait_started()
    monkeypatch.undo()
    world.model.say("ok", None)
    assert world.submit().wait().message


def test_listener_gets_waiting_turns(world: World) -> None:
    """Who comes in the middle gets the running and the waiting turns first, in order."""
    turns = [world.submit("one"), world.submit("two")]
    heard: list[Turn] = []
    world.turns.listen("local", "c", heard.append)
    assert heard == turns


def test_closing_stores_what_there_is(world: World) -> None:
    """At the end of the grace running replies are stored as they are, and waiting sends are refused."""
    turn, waiting = world.submit("one"), world.submit("two")
    world.model.say("half")
    until(lambda: turn.text()[0] == "half")
    world.turns.close(grace=0.1)
    assert world.talk() == [("user", "one"), ("assistant", "half")]
    assert "server was stopped" in (world.store.messages("c")[1].error or "")
    with pytest.raises(ModelUnavailable):
        waiting.wait()
    with pytest.raises(ModelUnavailable):
        world.submit()


def test_closing_gives_grace(world: World) -> None:
    """A reply that ends within the grace is complete."""
    turn = world.submit()
    threading.Timer(0.1, world.model.say, ["whole", None]).start()
    world.turns.close(grace=WAIT)
    message = turn.wait().message
    assert message is not None
    assert (message.content, message.incomplete) == ("whole", False)


def test_upstream_that_cannot_be_let_go_harms_nobody(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """What breaks while the upstream is closed is for the log; the reply is whole."""

    class Chunks:
        def __iter__(self) -> Iterator[Chunk]:
            return iter([Delta("a")])

        def close(self) -> None:
            raise OSError("broken")

    turn = world.submit(model=lambda conversation, cancel: Chunks())
    assert turn.wait().message
    until(lambda: "could not be let go" in caplog.text)
    assert world.talk() == [("user", "hi"), ("assistant", "a")]


class Broken(Reader):
    """A reader with a bug."""

    taken = 0

    def take(self, events: Any) -> bool:
        self.taken += 1
        raise ZeroDivisionError


def test_broken_reader_harms_nobody(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """A reader that fails is logged and gets no more; the reply and the other readers notice nothing."""
    turn = world.submit()
    turn.wait_started()
    broken = Broken()
    turn.attach(broken, 1)
    world.model.say("one ")
    until(lambda: broken.taken)
    world.model.say("two", None)
    assert turn.wait().message
    assert "".join(event.text for event in events(turn) if isinstance(event, Delta)) == "one two"
    assert world.store.messages("c")[1].incomplete is False
    assert broken.taken == 1
    assert "ZeroDivisionError" in caplog.text


def test_waiting_thread_does_the_work(world: World) -> None:
    """A request that waits for its turn begins it itself when the one before has ended: no thread is made for it."""
    first = world.submit("one")
    names: list[str] = []

    def ask(conversation: Conversation, cancel: Cancellation) -> Iterator[Chunk]:
        names.append(threading.current_thread().name)
        return iter([Delta("2")])

    second = world.turns.submit("local", "c", Message("user", "two"), ask, attend=True)
    waiting = threading.Thread(target=second.wait, name="a request")
    waiting.start()
    until(lambda: second._helpers)
    world.model.say("1", None)
    waiting.join(WAIT)
    assert names == ["a request"]
    assert first.is_over
    assert [content for _, content in world.talk()] == ["one", "1", "two", "2"]


def test_attended_turn_begins_at_once(world: World) -> None:
    """With `attend` the question is stored and the model asked when `submit` returns."""
    turn = world.turns.submit("local", "c", Message("user", "hi"), world.model, attend=True)
    assert world.model.asked.is_set()
    assert world.talk() == [("user", "hi")]
    world.model.say("x", None)
    assert turn.wait().message


def test_listeners_hear_their_own_users_turns(world: World) -> None:
    """Who listens at an id that becomes another user's hears nothing of it."""
    heard: list[Turn] = []
    world.turns.listen("eve", "c", heard.append)
    world.model.say("1", None)
    world.submit().wait()
    assert heard == []


def test_queue_has_a_limit(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Turns that wait hold no thread, and only so many may; the next is told to come later, and not kept."""
    monkeypatch.setattr(queues, "WAITING", 5)
    turns = [world.submit(str(n)) for n in range(6)]
    with pytest.raises(TooManyRequests) as caught:
        world.submit("one too many")
    assert caught.value.retry_after
    names = {f"turn-{turn.id}" for turn in turns}
    assert len([thread for thread in threading.enumerate() if thread.name in names]) <= 1
    for turn in turns:
        world.model.say(".", None)
        turn.wait()
    assert [content for role, content in world.talk() if role == "user"] == list("012345")


def test_reply_has_a_limit(world: World) -> None:
    """A model that floods is stopped: what it said so far is kept, marked, and the model is let go of."""
    world.turns._most = 10
    turn = world.submit()
    world.model.say("12345", "你好", "more", "and more")
    done = turn.wait().message
    assert done is not None
    assert done.incomplete
    assert "MAX_REPLY_BYTES" in (done.error or "")
    assert done.content.startswith("12345你好")
    assert world.model.closed.wait(WAIT)
    assert [content for _, content in world.talk()] == ["hi", done.content]


def test_turn_whose_thread_died_ends(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that dies before it could run anything, as a tracer's bug makes it, leaves no turn behind."""

    class Stillborn(threading.Thread):
        def run(self) -> None:
            if not self.name.startswith("turn-"):
                super().run()

    monkeypatch.setattr("self_agent.turns.runner.threading.Thread", Stillborn)
    turn = world.submit()
    with pytest.raises(AppError, match="send it again"):
        turn.wait()
    monkeypatch.undo()
    world.model.say("ok", None)
    assert world.submit().wait().message
