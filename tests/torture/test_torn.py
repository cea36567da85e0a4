"""Wherever a write is cut off, what was acknowledged is there, and what was being written is there whole or not."""

from __future__ import annotations

import itertools
import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from self_agent.models import LOCAL_USER, Message
from self_agent.storage.json_files import JsonFileStore
from tests.torture.branches import read
from tests.torture.disk import Cut, Image, Moment, Recorder, Write, key_of, restore
from tests.torture.stories import STORIES, Careless, Story, through, view

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no call that syncs a folder")

AFTER_RESTART = [
    "edit", "rename", "create", "begin anew", "delete", "delete softly", "restore", "sweep", "shelve", "repair",
    "take in old", "branch", "choose",
]  # fmt: skip
FRESH = 3  # the highest number that a Session gave: it must not be given again


@pytest.fixture
def folders(tmp_path: Path) -> Iterator[Path]:
    """New folders, without end."""
    return (tmp_path / str(n) for n in itertools.count())


@pytest.mark.parametrize("name", STORIES)
def test_power_fails_between_calls(folders: Iterator[Path], name: str) -> None:
    """After each call, what was not synced is there or not, in parts, in any order: nothing acknowledged goes."""
    story = Story(next(folders), name)
    for end in range(story.begin, len(story.log) + 1):
        moment = Moment(story.log[:end])
        for image in [moment.killed(), *moment.power_cuts(seed=end)]:
            check(story, image, next(folders), acknowledged=end == len(story.log))


@pytest.mark.parametrize("name", STORIES)
def test_power_fails_at_each_byte(folders: Iterator[Path], name: str) -> None:
    """A write is cut off after each of its bytes, with and without the size that it was to give the file."""
    story = Story(next(folders), name)
    for end in range(story.begin, len(story.log)):
        event = story.log[end]
        if not isinstance(event, Write):
            continue
        size = event.offset + len(event.data)
        for count in range(1, len(event.data), 1 if event.offset and len(event.data) < 300 else 23):
            part = Write(event.file, event.offset, event.data[:count])
            for rest in ([part], [part, Cut(event.file, size)]):
                check(story, Moment([*story.log[:end], *rest]).killed(), next(folders), acknowledged=False)


@pytest.mark.parametrize("name", AFTER_RESTART)
def test_power_fails_after_restart(folders: Iterator[Path], name: str) -> None:
    """Killed, started again, and then the power fails: what was acknowledged after the restart is there."""
    story = Story(next(folders), name)
    for end in range(story.begin, len(story.log) + 1):
        folder = next(folders)
        restore(Moment(story.log[:end]).killed(), folder)
        recorder = Recorder(folder, story.log[:end])
        with through(recorder):
            store = JsonFileStore(folder)
            shown = view(store)
            for cid in shown:
                store.append(cid, Message("user", "after the restart"))
            log = list(recorder.log)
            expected = view(store)
            store.close()
        for image in {key_of(image): image for image in Moment(log).power_cuts(seed=end)}.values():
            found = look(image, next(folders))
            assert {cid: found.get(cid) for cid in expected} == expected


def check(story: Story, image: Image, folder: Path, *, acknowledged: bool) -> None:
    """Start on what the failure left, and find it as it must be; then go on."""
    key = (key_of(image), acknowledged)
    if key in story.seen:
        return
    story.seen.add(key)
    found = look(image, folder)
    assert story.allows(found, acknowledged=acknowledged), (found, image)


def look(image: Image, folder: Path) -> dict[str, object]:
    """Return what a store shows that is started on what a failure left, and can still do."""
    restore(image, folder)
    with through(Careless()):
        store = JsonFileStore(folder)
        found = view(store)
        ids = [message[0] for _, messages in found.values() for message in messages]
        for path in (folder / "conversations").iterdir():
            json.loads(path.read_bytes())
        documents = [*folder.glob("conversations/*.json"), *folder.glob("deleted/*.json")]
        places = Counter(json.loads(path.read_bytes())["number"] for path in documents)
        assert set(places.values()) <= {1}, f"in two places: {places}"
        for cid, (_, messages) in found.items():
            [next_one] = store.append(cid, Message("user", "next"))
            assert next_one.id > max([0, *(message[0] for message in messages)])
            rows, branch = read(folder / "conversations" / f"{cid}.json")
            shown = [message_id for message_id in branch if not rows[message_id].get("is_deleted")]
            assert shown == [*(m[0] for m in messages), next_one.id]
        assert store.create("fresh", LOCAL_USER).number > FRESH
        assert len(set(ids)) == len(ids)
        store.close()
    return found
