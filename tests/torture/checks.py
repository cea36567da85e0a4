"""After each restart: what was acknowledged is there once, in order; what is shown agrees however it is asked for."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import requests

from tests.serving import CONVERSATIONS
from tests.torture.belief import MAYBE, NO, YES, Belief, Fate, Sent, Talk
from tests.torture.branches import PREFIX, Forest, check_trees

_TOKEN = re.compile(r"q\d+:")
_REPLY = re.compile(r"reply(?: (\d+):(?: (q\d+:))?)?")  # as much of it as an incomplete one has

Row = dict[str, Any]


class Problem(NamedTuple):
    """Something that must not be: lost, duplicated, unreadable, a branch broken, or wrong in any other way."""

    kind: str
    what: str


def check(url: str, folder: Path, belief: Belief, forest: Forest) -> list[Problem]:
    """Compare a server that was just started with what its clients believe, which then is what was found."""
    listed = lists(url)  # waits until the store is open, and what was torn is mended
    documents, problems = read_documents(folder)
    problems += [Problem("wrong", f"refused: {text}") for text in belief.refused]
    belief.refused.clear()
    problems += [Problem(*problem) for problem in check_trees(url, folder, forest)]
    problems += check_existence(listed, documents, belief)
    for talk in list(belief.talks.values()):
        if talk.id in documents:
            shown = ask(url, f"{CONVERSATIONS}/{talk.id}?size=500")["data"]
            problems += check_talk(talk, shown, documents[talk.id], listed.get(talk.id, []))
    problems += check_shelves(
        ask(url, "/api/v1/folders/")["data"], ask(url, "/api/v1/conversation_tags/all")["tags"], belief
    )
    return problems


def ask(url: str, path: str) -> Any:
    answer = requests.get(url + path, timeout=60)
    assert answer.status_code == 200, (path, answer.status_code, answer.text[:300])
    return answer.json()


def lists(url: str) -> dict[str, list[int]]:
    """Return the ids that the native list, page by page, has, with the counts in the lists of two other dialects."""
    ids: list[str] = []
    page = ask(url, f"{CONVERSATIONS}/?page=1&size=50")
    while page["data"]:
        ids += page["data"]
        page = ask(url, f"{CONVERSATIONS}/?page={page['meta']['page'] + 1}&size=50")
    assert page["meta"]["total"] == len(ids) == len(set(ids)), "the native list does not agree with itself"
    sessions = {row["session_id"]: row["message_count"] for row in ask(url, "/chat/sessions")["data"]}
    alice = [row["message_count"] for row in ask(url, "/alice" + CONVERSATIONS)]
    assert list(sessions) == ids, "two dialects list different conversations"
    assert len(alice) == len(ids), "two dialects list different conversations"
    return {cid: [sessions[cid], count] for cid, count in zip(ids, alice, strict=True)}


def read_documents(folder: Path) -> tuple[dict[str, Row], list[Problem]]:
    """Read all files as any other program would; whatever is in quarantine could not be read by the server."""
    documents: dict[str, Row] = {}
    problems = [Problem("unreadable", str(path)) for path in (folder / "quarantine").iterdir()]
    problems += [Problem("wrong", f"left over: {path}") for path in (folder / "checkpoints").iterdir()]
    for path in [*(folder / "conversations").iterdir(), *(folder / "deleted").iterdir()]:
        try:
            document = json.loads(path.read_bytes())
        except ValueError as error:
            problems.append(Problem("unreadable", f"{path}: {error}"))
            continue
        if path.parent.name == "conversations":
            documents[document["conversation_id"]] = document
    ids = Counter(message["id"] for document in documents.values() for message in document["messages"])
    problems += [Problem("duplicated", f"message id {key}") for key, count in ids.items() if count > 1]
    return documents, problems


def check_existence(listed: dict[str, list[int]], documents: dict[str, Row], belief: Belief) -> Iterator[Problem]:
    """What was made is there, what was deleted is not; the believed fates become what was found."""
    for cid in listed.keys() ^ documents.keys():
        yield Problem("wrong", f"{cid} is either listed or on disk, not both")
    for cid in documents.keys() & belief.deleted.keys():
        yield Problem("wrong", f"{cid} came back after its deletion")
    for cid in documents.keys() - belief.talks.keys() - belief.deleted.keys():
        if cid.startswith(PREFIX):
            continue
        belief.creations -= 1
        belief.talk(cid)
        if belief.creations < 0:
            yield Problem("wrong", f"nobody made {cid}")
    for cid, talk in list(belief.talks.items()):
        if cid in documents:
            talk.there, talk.deleted = YES, NO
        elif talk.deleted is MAYBE:
            belief.gone(talk)
        else:
            del belief.talks[cid]
            if talk.there is YES:
                yield Problem("lost", f"the conversation {cid}")


def check_shelves(folders: list[Row], tags: list[Row], belief: Belief) -> Iterator[Problem]:
    """Each folder and tag that was acknowledged is there once, and holds what is there, once."""
    names = [folder["name"] for folder in folders[1:]]
    marks = [(cid, folder["folder_id"]) for folder in folders for cid in folder["conversation_ids"]]
    marks += [(tag["conversation_id"], f"#{tag['tag']}") for tag in tags]
    ids = [folder["folder_id"] for folder in folders] + [tag["id"] for tag in tags]
    for twice, count in Counter([*names, *marks, *ids]).items():
        if count > 1:
            yield Problem("duplicated", f"on the shelf: {twice}")
    if not folders or folders[0]["folder_id"] != "default":
        yield Problem("lost", "the default folder")
    for cid, mark in marks:
        if cid not in belief.talks:
            yield Problem("wrong", f"{mark} holds {cid}, which is not there")
    yield from settle(belief.folders, set(names), "the shelf")
    belief.folder_ids = {"default": "default"} | {folder["name"]: folder["folder_id"] for folder in folders[1:]}
    for talk in belief.talks.values():
        inside = {"default" if f["is_default"] else f["name"] for f in folders if talk.id in f["conversation_ids"]}
        yield from settle(talk.folders, inside, f"the folders of {talk.id}")
        talk.tag_ids = {tag["tag"]: tag["id"] for tag in tags if tag["conversation_id"] == talk.id}
        yield from settle(talk.tags, set(talk.tag_ids), f"the tags of {talk.id}")


def settle(fates: dict[str, Fate], found: set[str], what: str) -> Iterator[Problem]:
    """Judge what is there of some names, and believe what was found from now on."""
    for name in fates.keys() | found:
        fate = fates.get(name, NO)
        if name in found and fate is NO:
            yield Problem("wrong", f"{name!r} is among {what}")
        if name not in found and fate is YES:
            yield Problem("lost", f"{name!r} of {what}")
    fates.clear()
    fates.update(dict.fromkeys(found, YES))


def check_talk(talk: Talk, shown: Row, document: Row, counts: list[int]) -> Iterator[Problem]:
    """Compare one conversation, as it is shown and as it is on disk, with what is believed of it."""
    on_disk = [message for message in document["messages"] if not message.get("is_deleted")]
    if [essence(message) for message in on_disk] != [essence(message) for message in shown["messages"]]:
        yield Problem("wrong", f"{talk.id}: what is shown is not what is on disk")
    if {*counts, shown["meta"]["total"]} != {len(on_disk)}:
        yield Problem("wrong", f"{talk.id}: counts {counts}, {shown['meta']['total']}, {len(on_disk)} do not agree")
    if talk.names and shown["name"] not in talk.names:
        yield Problem("lost", f"{talk.id}: the name is {shown['name']!r}, not {talk.names}")
    if talk.names:
        talk.names = {shown["name"]}
    talk.number = document["number"]
    yield from check_questions(talk, [message for message in on_disk if message["role"] == "user"])
    yield from check_replies(talk, on_disk)


def essence(message: Row) -> tuple[str, str, bool]:
    return message["role"], message["content"], bool(message.get("incomplete"))


def check_questions(talk: Talk, rows: list[Row]) -> Iterator[Problem]:
    """Each acknowledged message is there once, as it was sent or edited, after those acknowledged before it."""
    found: dict[str, Row] = {}
    newest = -1
    for row in rows:
        token = token_of(row["content"])
        sent = talk.sent.get(token)
        if sent is None or row["content"] not in sent.contents:
            yield Problem("wrong", f"{talk.id}: nobody said {row['content'][:80]!r}")
            continue
        if token in found:
            yield Problem("duplicated", f"{talk.id}: {token}")
        if sent.ended is not None and sent.ended < newest:
            yield Problem("wrong", f"{talk.id}: {token} stands after what was sent later")
        newest = max(newest, sent.began)
        found[token] = row
    for sent in list(talk.sent.values()):
        yield from settle_question(talk, sent, found.get(sent.token))


def token_of(content: str) -> str:
    match = _TOKEN.match(content)
    return match[0] if match else ""


def settle_question(talk: Talk, sent: Sent, row: Row | None) -> Iterator[Problem]:
    """Judge one message, and believe what was found from now on."""
    if row is None:
        if sent.there is YES and sent.hidden is NO:
            yield Problem("lost", f"{talk.id}: {sent.token}")
        if sent.there is not YES or sent.hidden is NO:
            del talk.sent[sent.token]
        sent.hidden = YES
        return
    if sent.hidden is YES:
        yield Problem("wrong", f"{talk.id}: {sent.token} came back after its deletion")
    sent.there, sent.hidden = YES, NO
    sent.id, sent.contents = row["id"], [row["content"]]


def check_replies(talk: Talk, rows: list[Row]) -> Iterator[Problem]:
    """Each acknowledged reply is there once and whole, after its question; one that is not whole says so."""
    replies: dict[str, Row] = {}
    known = {sent.reply_id: sent.token for sent in talk.sent.values()}
    for before, row in zip([None, *rows], rows, strict=False):
        if row["role"] != "assistant":
            continue
        said = (_REPLY.match(row["content"]) or [""] * 3)[2]
        token = said or known.get(row["id"]) or token_of(before["content"] if before else "")
        sent = talk.sent.get(token)
        if sent is None or not answers(row, sent):
            # One cut off before it says to what it replies cannot be told from others when its question is hidden.
            if said or not row.get("incomplete") or not any(sent.hidden is not NO for sent in talk.sent.values()):
                yield Problem("wrong", f"{talk.id}: nobody was answered by {row}, which stands behind {before}")
            continue
        if token in replies:
            yield Problem("duplicated", f"{talk.id}: the reply to {token}")
        if sent.hidden is NO and (before is None or token_of(before["content"]) != token):
            yield Problem("wrong", f"{talk.id}: the reply to {token} does not stand behind it")
        replies[token] = row
    for sent in talk.sent.values():
        yield from settle_reply(talk, sent, replies.get(sent.token))


def answers(row: Row, sent: Sent) -> bool:
    """Say whether a reply is the one to this question: whole, or marked as incomplete and its beginning."""
    match = re.match(r"reply \d+: ", row["content"])
    rest = row["content"][match.end() :] if match else ""
    if not row.get("incomplete"):
        return match is not None and rest == sent.asked
    return sent.asked.startswith(rest) and _REPLY.match(row["content"]) is not None


def settle_reply(talk: Talk, sent: Sent, row: Row | None) -> Iterator[Problem]:
    """Judge one reply, and believe what was found from now on."""
    if row is None:
        if sent.reply is YES:
            yield Problem("lost", f"{talk.id}: the reply to {sent.token}")
        sent.reply = NO
        return
    if sent.reply is NO:
        yield Problem("wrong", f"{talk.id}: the reply to {sent.token} came later")
    if sent.reply is YES and sent.reply_seen is None and row.get("incomplete"):
        yield Problem("lost", f"{talk.id}: a part of the reply to {sent.token}")
    if sent.reply_seen not in (None, row["content"]):
        yield Problem("wrong", f"{talk.id}: the reply to {sent.token} has changed")
    sent.reply, sent.reply_seen, sent.reply_id = YES, row["content"], row["id"]
