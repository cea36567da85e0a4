"""The load: clients that send, stream, rename, edit, shelve and delete through several dialects until the end."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import requests

from self_agent.dialects import DIALECTS
from tests.serving import CONVERSATIONS
from tests.torture.belief import MAYBE, NO, YES, Asked, Belief, Sent, Talk

CLIENTS = 8
SHARED_MESSAGES = 100  # in a conversation that all write to; then they begin another
TALKS = 4  # conversations of its own that a client keeps; then it deletes one
FOLDERS = 3  # of its own that a client makes
WORDS = ["word", "你好", "line\nbreak", '"quoted"', "back\\slash", "é́", "😀", "]}", "{", "\u2028"]
POE = "/v1/chat"
ALICE = "/alice" + CONVERSATIONS
EDITS = "aichat" in DIALECTS  # the one dialect in which a message can be edited


class Client(threading.Thread):
    """One client with its own conversations; it ends when the server does not answer any more, or when told."""

    def __init__(
        self, name: str, url: str, belief: Belief, seed: int, stop: threading.Event, folder: Path | None = None
    ) -> None:
        super().__init__(name=name)
        self.documents = folder  # of the documents, for a client that also edits them by hand
        self.url = url
        self.belief = belief
        self.random = random.Random(seed)
        self.stop = stop
        self.http = requests.Session()

    def run(self) -> None:
        try:
            self.repeat()
            while not self.stop.is_set():
                self.random.choice(_STEPS)(self)
        except requests.RequestException:
            pass  # killed: what was under way may have happened
        finally:
            self.http.close()

    # --- choosing

    def own(self) -> list[Talk]:
        """Return this client's conversations that it knows to be there."""
        with self.belief.lock:
            talks = [talk for talk in self.belief.talks.values() if talk.id.startswith(f"{self.name}-")]
        return [talk for talk in talks if talk.there is YES and talk.deleted is NO]

    def any_talk(self) -> Talk:
        """Return a conversation to send to: a new one, one of one's own, or the one that all share."""
        if self.random.random() < 0.3:
            return self.shared()
        own = self.own()
        if len(own) < TALKS and self.random.random() < 0.5:
            return self.belief.talk(f"{self.name}-{self.random.getrandbits(40):x}")
        return self.random.choice(own) if own else self.shared()

    def shared(self) -> Talk:
        """Return the conversation that all clients write to now."""
        with self.belief.lock:
            number = sum(talk.id.startswith("Shared") for talk in self.belief.talks.values())
        talk = self.belief.talk(f"Shared-{max(1, number)}")
        return talk if len(talk.sent) < SHARED_MESSAGES else self.belief.talk(f"Shared-{number + 1}")

    def settled(self) -> tuple[Talk, Sent] | None:
        """Return a message of one's own that is there, with an id that is known and a reply that is done."""
        found = [
            (talk, sent)
            for talk in self.own()
            for sent in talk.sent.values()
            if sent.there is YES and sent.id and sent.reply is not MAYBE and sent.hidden is NO
        ]
        return self.random.choice(found) if found else None

    def words(self) -> str:
        """Return what to say: mostly little, sometimes so much that the reply takes longer than a checkpoint."""
        length = self.random.choices([4, 60, 500], [85, 10, 5])[0]
        return " ".join(self.random.choices(WORDS, k=length))

    # --- asking

    def post(self, path: str, body: Any, method: str = "POST") -> requests.Response | None:
        """Ask for something; None, and a note, if the server refused it."""
        return self._granted(self.http.request(method, self.url + path, json=body, timeout=60), method, path)

    def _granted(self, answer: requests.Response, method: str, path: str) -> requests.Response | None:
        if answer.status_code == 200:
            return answer
        self.belief.refused.append(f"{method} {path}: {answer.status_code} {answer.text[:200]}")
        return None

    def ask(self, talk: Talk, sent: Sent, path: str, body: dict[str, str], kind: str) -> None:
        """Send a message with a key, now and then twice at once; what gets no answer is to be repeated."""
        asked = Asked(talk.id, sent, path, body, kind, f"{sent.token}{self.random.getrandbits(40):x}")
        twin = threading.Thread(target=self._ask_too, args=(asked,)) if self.random.random() < 0.1 else None
        try:
            if twin:
                twin.start()
            self._ask(talk, asked)
        except requests.RequestException:
            self.belief.unanswered.setdefault(self.name, []).append(asked)
            raise
        finally:
            if twin:
                twin.join()

    def repeat(self) -> None:
        """Send again, with its key, what was not answered before the server was killed."""
        while waiting := self.belief.unanswered.get(self.name):
            asked = waiting[0]
            was_there = asked.sent.there is YES and asked.sent.reply is NO
            self._ask(self.belief.again(asked), asked, may_be_late=was_there)
            waiting.pop(0)
            self.belief.repeated += 1

    def _ask(self, talk: Talk, asked: Asked, *, may_be_late: bool = False) -> None:
        """Send, and believe the answer; a repeat of a question without a reply that is not last any more is refused."""
        sent, headers = asked.sent, {"Idempotency-Key": asked.key}
        answer = self.http.post(self.url + asked.path, json=asked.body, headers=headers, timeout=60, stream=True)
        if may_be_late and answer.status_code == 409 and "gone on" in answer.text:
            sent.reply = NO
        elif not self._granted(answer, "POST", asked.path):
            pass
        elif asked.kind == "events":
            self._follow(answer, talk, sent)
        elif asked.kind == "ids":
            sent.id = answer.json()["user_message_id"]
            self.belief.replied(talk, sent)
        elif answer.content:
            self.belief.replied(talk, sent)

    def _ask_too(self, asked: Asked) -> None:
        """Send the same at the same time, as an impatient person does."""
        with suppress(requests.RequestException):
            headers = {"Idempotency-Key": asked.key}
            answer = requests.post(self.url + asked.path, json=asked.body, headers=headers, timeout=60)
            self._granted(answer, "twice", asked.path)

    def send(self) -> None:
        """Send and wait for the reply."""
        talk = self.any_talk()
        sent = self.belief.begin(talk, self.words())
        self.ask(talk, sent, f"{CONVERSATIONS}/{talk.id}/messages", {"content": sent.asked}, "whole")

    def stream(self) -> None:
        """Send and follow the reply in the native dialect, or in Alice's where the number is known."""
        talk = self.any_talk()
        sent = self.belief.begin(talk, self.words())
        path = f"{ALICE}/{talk.number}" if talk.number else f"{CONVERSATIONS}/{talk.id}"
        self.ask(talk, sent, f"{path}/messages/stream", {"content": sent.asked}, "events")

    def _follow(self, answer: requests.Response, talk: Talk, sent: Sent) -> None:
        """Read a stream: its first event says that the question is stored, its last that the reply is."""
        seen = b""
        for piece in answer.iter_content(chunk_size=None):
            seen += piece
            if b'data: {"type":"start"' in seen:
                self.belief.stored(talk, sent)
        if b'data: {"type":"done"' in seen:
            self.belief.replied(talk, sent)
        else:
            self.belief.refused.append(f"a stream ended with {seen[-200:]!r}")

    def chat(self) -> None:
        """Send and read the reply as bare text, whose orderly end is its acknowledgement."""
        talk = self.any_talk()
        sent = self.belief.begin(talk, self.words())
        self.ask(talk, sent, f"/chat/sessions/{talk.id}/chat", {"message": sent.asked}, "text")

    def send_poe(self) -> None:
        """Send through poe, which tells the ids."""
        own = self.own()
        if not own:
            return
        talk = self.random.choice(own)
        sent = self.belief.begin(talk, self.words())
        self.ask(talk, sent, f"{POE}/conversations/{talk.id}/messages", {"content": sent.asked}, "ids")

    def create_poe(self) -> None:
        """Create a conversation whose id the server chooses."""
        with self.belief.lock:
            self.belief.creations += 1
        answer = self.post(f"{POE}/conversations", {"name": "made by poe"})
        if answer:
            with self.belief.lock:
                self.belief.creations -= 1
            talk = self.belief.talk(answer.json()["conversation_id"])
            talk.there = YES
            self.belief.done()

    def rename(self) -> None:
        """Rename through one of two dialects."""
        own = self.own()
        if not own:
            return
        talk = self.random.choice(own)
        name = f"name {self.random.getrandbits(40):x}"
        if talk.names:
            talk.names.add(name)
        path, method = self.random.choice(
            [(f"{CONVERSATIONS}/{talk.id}", "PATCH"), (f"{POE}/conversations/{talk.id}", "PUT")]
        )
        if self.post(path, {"name": name}, method):
            talk.names = {name}
            self.belief.done()

    def edit(self) -> None:
        """Edit a message."""
        if not EDITS or not (found := self.settled()):
            return
        _, sent = found
        content = f"{sent.token} edited {self.words()}"
        sent.contents.append(content)
        if self.post(f"/api/chat/messages/{sent.id}", {"new_content": content}, "PATCH"):
            sent.contents = [content]
            self.belief.done()

    def edit_by_hand(self) -> None:
        """Change a message with an editor that saves in place, in two steps, between which the server may die."""
        if self.documents is None or not (found := self.settled()):
            return
        talk, sent = found
        path = self.documents / f"{talk.id}.json"
        document = json.loads(path.read_bytes())
        content = f"{sent.token} by hand {self.words()}"
        for row in document["messages"]:
            if row["id"] == sent.id:
                row["content"] = content
        sent.contents.append(content)
        data = json.dumps(document, indent=self.random.choice([None, 2])).encode()
        half = self.random.randrange(len(data))
        with path.open("wb") as editor:
            editor.write(data[:half])
            editor.flush()
            asking = threading.Thread(target=self._look, args=(talk,))
            asking.start()
            self.stop.wait(self.random.uniform(0, 0.1))
            editor.write(data[half:])
        asking.join()
        sent.contents = [content]
        self.belief.done()

    def _look(self, talk: Talk) -> None:
        """Ask for a conversation whose document is being saved: it is refused, or whole."""
        with suppress(requests.RequestException):
            answer = requests.get(f"{self.url}{CONVERSATIONS}/{talk.id}?size=500", timeout=60)
            if answer.status_code not in (200, 503):
                self.belief.refused.append(f"while edited by hand: {answer.status_code} {answer.text[:200]}")

    def hide(self) -> None:
        """Delete a single message."""
        if not (found := self.settled()):
            return
        _, sent = found
        sent.hidden = MAYBE
        if self.post(f"{POE}/messages/delete", {"message_ids": [sent.id]}):
            sent.hidden = YES
            self.belief.done()

    def folder(self) -> str | None:
        """Return the name of a folder that is there: the one that all share, or one of one's own, maybe new."""
        name = self.random.choice(["default", f"{self.name} {self.random.randrange(FOLDERS)}"])
        if name in self.belief.folder_ids:
            return name
        if self.belief.folders.get(name) is not None:  # cut off: the next check says whether it is there
            return None
        self.belief.folders[name] = MAYBE
        answer = self.post("/api/v1/folders/", {"name": name})
        if answer:
            self.belief.folder_ids[name] = answer.json()["data"]["folder_id"]
            self.belief.folders[name] = YES
            self.belief.done()
        return name if answer else None

    def shelve(self) -> None:
        """Put a conversation into a folder, where it may be already, or take it out."""
        own, name = self.own(), self.folder()
        if not own or name is None:
            return
        talk = self.random.choice(own)
        verb, fate = self.random.choice([("add", YES), ("add", YES), ("remove", NO)])
        if talk.folders.get(name, NO) is not fate:
            talk.folders[name] = MAYBE
        if self.post(f"/api/v1/folders/{self.belief.folder_ids[name]}/{verb}", {"conversation_id": talk.id}):
            talk.folders[name] = fate
            self.belief.done()

    def tag(self) -> None:
        """Give a conversation a tag, which it may have already, or take it away."""
        own = self.own()
        if not own:
            return
        talk, text = self.random.choice(own), f"tag {self.random.choice(WORDS[:-1])}"  # white space at an end goes
        if talk.tags.get(text) is YES and self.random.random() < 0.5:
            talk.tags[text] = MAYBE
            if self.post(f"/api/v1/conversation_tags/{talk.tag_ids[text]}", None, "DELETE"):
                talk.tags[text] = NO
                self.belief.done()
            return
        if talk.tags.get(text) is not YES:
            talk.tags[text] = MAYBE
        answer = self.post("/api/v1/conversation_tags/", {"conversation_id": talk.id, "tag": text})
        if answer:
            talk.tags[text], talk.tag_ids[text] = YES, answer.json()["id"]
            self.belief.done()

    def delete(self) -> None:
        """Delete a conversation when there are enough, for good or softly."""
        own = self.own()
        if len(own) < TALKS:
            return
        talk = self.random.choice(own)
        talk.deleted = MAYBE
        talk.is_kept = EDITS and self.random.random() < 0.5
        path = f"/api/chat/sessions/{talk.id}" if talk.is_kept else f"{CONVERSATIONS}/{talk.id}"
        if self.post(path, None, "DELETE"):
            self.belief.gone(talk)
            self.belief.done()


_STEPS: list[Callable[[Client], None]] = [
    *[Client.send] * 4,
    *[Client.stream] * 6,
    *[Client.chat] * 3,
    *[Client.send_poe] * 2,
    *[Client.rename] * 2,
    *[Client.edit] * 2,
    *[Client.shelve] * 3,
    *[Client.tag] * 2,
    Client.edit_by_hand,
    Client.create_poe,
    Client.hide,
    Client.delete,
]
