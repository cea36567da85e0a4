"""The store on PostgreSQL beside the contract: its database away, frozen, of another version, another server's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from core.config import Settings
from core.errors import InvalidRequest, StartupError, StorageError, StorageFull, StoreUnavailable
from self_agent import storage
from self_agent.models import Message
from self_agent.storage import Store
from self_agent.storage.base import CUT_OFF
from tests.conftest import MakeApp
from tests.postgres import Server, empty_server, programs
from tests.serving import ROOT
from tests.storage.conftest import opened

pytestmark = pytest.mark.skipif(programs() is None, reason="no PostgreSQL here: pip install -r requirements-dev.txt")


def settings(url: str) -> Settings:
    return Settings(database_url=url)


@pytest.fixture
def own() -> Iterator[Server]:
    """A server that a test may stop, freeze and kill."""
    from self_agent.storage.postgres import schema

    server = Server(fsync="off")
    schema.upgrade(server.url)
    yield server
    server.stop(signal.SIGKILL)
    server.remove()


@pytest.fixture
def store(server: Server, tmp_path: Path) -> Iterator[Store]:
    store = opened("postgres", tmp_path, server.url)
    yield store
    store.close()


def until(is_so: Callable[[], bool], seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def works(store: Store) -> bool:
    try:
        return store.get("c") is not None
    except StoreUnavailable:
        return False


# --- what is loaded, and what the setting may be


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("create_app(Settings(data_dir=Path(sys.argv[1])), provider=Echo()); choices()", ""),
        ("sys.modules['psycopg'] = None; open_store(Settings(database_url='postgresql://h/d'))", "packages"),
        ("sys.modules['psycopg_pool'] = None; open_store(Settings(database_url='postgresql://h/d'))", "packages"),
        ("sys.modules['alembic'] = None; upgrade(Settings(database_url='postgresql://h/d'))", "package"),
    ],
)
def test_packages_are_loaded_when_asked_for(tmp_path: Path, code: str, words: str) -> None:
    """By default nothing of PostgreSQL is imported; what is missing then is said in one line with the remedy."""
    script = f"""
import sys
from pathlib import Path
from core.config import Settings
from core.errors import StartupError
from self_agent import close, create_app
from self_agent.providers.echo import Echo
from self_agent.storage import choices, open_store
from self_agent.storage.postgres import upgrade
try:
    {code}
except StartupError as error:
    print(error.message)
else:
    print({{name.split(".")[0] for name in sys.modules}} & {{"psycopg", "psycopg_pool", "alembic", "sqlalchemy"}} or "")
"""
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path], cwd=ROOT, capture_output=True, text=True, check=True
    )
    [line] = done.stdout.splitlines() or [""]
    assert words in line
    assert bool(words) == bool(line)
    assert ("requirements-postgres.txt" in line) == bool(words)


@pytest.mark.parametrize("url", ["mysql://h/d", "h", "postgresql://h:port/d", "postgresql://h/d?nonsense=1"])
def test_wrong_url_is_one_line(url: str) -> None:
    """What is no URL of PostgreSQL stops the start."""
    with pytest.raises(StartupError, match="DATABASE_URL") as refused:
        storage.open_store(settings(url))
    assert "\n" not in refused.value.message


def test_url_chooses_the_store() -> None:
    """A URL is enough; STORE=postgres without one is refused; a password is in no representation of the settings."""
    assert storage.chosen(settings("postgresql://h/d")) == "postgres"
    assert storage.chosen(Settings(database_url="postgresql://h/d", store="memory")) == "memory"
    with pytest.raises(StartupError, match="DATABASE_URL"):
        storage.open_store(Settings(store="postgres"))
    secret = settings("postgresql://u:secret@h/d")
    assert "u:secret" not in repr(secret) + storage.postgres.place(secret)
    assert storage.postgres.place(secret) == "PostgreSQL at h/d"


def test_unknown_database_is_refused(server: Server) -> None:
    """A database that is not there is no reason to wait."""
    with pytest.raises(StartupError, match="does not exist"):
        storage.open_store(settings(server.url + "x"))


# --- the schema


@pytest.fixture
def revision(server: Server) -> Iterator[Callable[[str], None]]:
    """Make the database one of another version."""
    from self_agent.storage.postgres.schema import HEAD

    yield lambda text: server.run(f"UPDATE alembic_version SET version_num = '{text}'") and None
    server.run(f"UPDATE alembic_version SET version_num = '{HEAD}'")


@pytest.mark.parametrize(("found", "words"), [("0000", "database upgrade"), ("9999", "newer self_agent")])
def test_other_schema_is_refused(server: Server, revision: Callable[[str], None], found: str, words: str) -> None:
    """An older database and a newer one are told apart, each with what to do."""
    revision(found)
    with pytest.raises(StartupError, match=words):
        storage.open_store(settings(server.url))
    if found == "9999":
        with pytest.raises(StartupError, match=words):
            storage.postgres.upgrade(settings(server.url))


def test_tables_are_made_once(server: Server) -> None:
    """An empty database is refused with the command that fills it; of several who run that one does."""
    server.run("DROP DATABASE IF EXISTS fresh")
    server.run("CREATE DATABASE fresh")
    fresh = settings(server.url.removesuffix("postgres") + "fresh")
    with pytest.raises(StartupError, match="database upgrade"):
        storage.open_store(fresh)
    found: list[tuple[str, str]] = []
    threads = [threading.Thread(target=lambda: found.append(storage.postgres.upgrade(fresh))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(before for before, _ in found) == ["", "0001", "0001", "0001"]
    store = storage.open_store(fresh)
    assert store.create("c", "u").number == 1
    store.close()
    server.run("DROP DATABASE fresh")


def test_command_makes_tables(server: Server) -> None:
    """`flask database upgrade` says what it did; without a database it says why not."""
    command = [sys.executable, "-m", "flask", "--app", "self_agent", "database", "upgrade"]
    environment = {**os.environ, "PROVIDER": "none"}
    for url, words in (
        (server.url, "already"),
        ("postgresql://127.0.0.1:1/x", "was not changed"),
        ("", "DATABASE_URL must be"),
    ):
        done = subprocess.run(
            command, cwd=ROOT, env={**environment, "DATABASE_URL": url}, capture_output=True, text=True, check=False
        )
        assert words in done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        assert (done.returncode == 0) == (words == "already")


# --- a database that goes away


def test_start_waits_for_the_database(own: Server, caplog: pytest.LogCaptureFixture) -> None:
    """A server that starts before its database says so, refuses at once, and serves as soon as it is there."""
    own.stop()
    store = storage.open_store(settings(own.url))
    assert "waiting for the database" in caplog.text
    began = time.monotonic()
    with pytest.raises(StoreUnavailable, match="reached"):
        store.create("c", "u")
    assert time.monotonic() - began < 2
    assert (store.ready(), store.failure()) == (False, None)
    own.start()
    until(store.ready)
    assert store.create("c", "u").number == 1
    store.close()


def test_killed_database_loses_nothing(own: Server, make_app: MakeApp) -> None:
    """While it is away every request is refused with words, in time; then all that was acknowledged is there."""
    store = storage.open_store(settings(own.url))
    client = make_app(store=store).test_client()
    store.create("c", "local")
    [before] = store.append("c", Message("user", "kept"))
    own.stop(signal.SIGKILL)
    began = time.monotonic()
    with pytest.raises(StoreUnavailable, match="does not answer"):
        store.append("c", Message("user", "lost"))
    answer = client.get("/api/v1/conversations")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert time.monotonic() - began < 12
    own.start()
    until(lambda: works(store))
    assert store.messages("c") == [before]
    store.append("c", Message("user", "more"))


def test_frozen_database_holds_nobody(own: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that neither answers nor hangs up is left in time, by whoever uses it, and used again later."""
    monkeypatch.setattr("self_agent.storage.postgres.database._OVERDUE", 0.5)
    store = storage.open_store(settings(own.url))
    store.create("c", "u")
    pids = [pid for (pid,) in own.run("SELECT pid FROM pg_stat_activity WHERE application_name = 'self_agent'")]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    began = time.monotonic()
    with pytest.raises(StoreUnavailable):
        store.append("c", Message("user", "lost"))
    assert time.monotonic() - began < 5
    for pid in pids:
        os.kill(pid, signal.SIGCONT)
    until(lambda: works(store))
    store.close()


def test_full_disk_and_long_statement(store: Store) -> None:
    """What the database refuses for want of room or time is said as that."""
    raising = "DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '{}'; END $$"
    database = store._database  # type: ignore[attr-defined]
    for code, kind in (("53100", StorageFull), ("57014", StoreUnavailable), ("40P01", StoreUnavailable)):
        with pytest.raises(kind):
            database.all(raising.format(code))


def test_second_server_is_refused(server: Server, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two servers on one database would end each other's replies: the second does not start, until the first ends."""
    monkeypatch.setattr("self_agent.storage.postgres.owner.PATIENCE", 0.1)
    with pytest.raises(StartupError, match="another self_agent server"):
        storage.open_store(settings(server.url))
    store.close()
    storage.open_store(settings(server.url)).close()


def test_lost_lock_is_taken_again(server: Server, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a restart of the database the server has it still; one that another took over meanwhile refuses."""
    owner = store._owner  # type: ignore[attr-defined]
    monkeypatch.setattr("self_agent.storage.postgres.owner.PATIENCE", 0.5)
    server.hang_up()
    owner.keep()
    with pytest.raises(StartupError):
        storage.open_store(settings(server.url))
    server.hang_up()
    other = storage.open_store(settings(server.url))
    with pytest.raises(StartupError, match="another"):
        owner.keep()
    other.close()


# --- what it keeps


def test_numbers_come_in_blocks(tmp_path: Path) -> None:
    """A server takes many numbers at once; those that it did not use are nobody's."""
    url = empty_server().url
    numbers = []
    for name in "ab":
        store = opened("postgres", tmp_path, url)
        numbers += [store.create(f"{name}{n}", "u").number for n in range(3)]
        store.close()
    assert numbers == [1, 2, 3, 1001, 1002, 1003]


def test_texts_with_nul_are_kept(store: Store) -> None:
    """PostgreSQL's texts hold no NUL: fields and messages keep it all the same, a user's id that has one is refused."""
    store.create("c", "u", title="a\0b", system_prompt="\0", model="m")
    [stored] = store.append("c", Message("user", "x\0y", key="k\0" * 16))
    found = store.get("c")
    assert found
    assert (found.title, found.system_prompt, found.first) == ("a\0b", "\0", "x\N{REPLACEMENT CHARACTER}y")
    assert store.messages("c") == [stored]
    assert store.create_project("u", "a\0").name == "a\N{REPLACEMENT CHARACTER}"
    for user_id in ("a\0b", "\ud800"):
        with pytest.raises(InvalidRequest, match="character"):
            store.create("d", user_id)
    with pytest.raises(InvalidRequest):
        store.get("\0")


def test_text_with_a_hole_is_not_stored(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A piece of a reply that could not be kept ends what is stored of it after a kill."""
    store = opened("postgres", tmp_path, server.url)
    begun = store.begin("u", "c", Message("user", "q"), new={})
    reply = Message("assistant", "", id=begun.reply_id)
    store.checkpoint("c", reply, "one ")
    with monkeypatch.context() as patch:
        patch.setattr(type(store), "_database", property(lambda self: (_ for _ in ()).throw(StorageError("away"))))
        with pytest.raises(StorageError):
            store.checkpoint("c", reply, "two ")
    store.checkpoint("c", reply, "three")
    server.hang_up()
    again = opened("postgres", tmp_path, server.url)
    [_, found] = again.messages("c")
    assert (found.content, found.error) == ("one ", CUT_OFF)
    assert server.run("SELECT * FROM checkpoint") == []
    store.close()
    again.close()


def test_unknown_fields_survive_an_edit(server: Server, store: Store) -> None:
    """What only a later version knows of a message stays when it is edited."""
    store.create("c", "u")
    [stored] = store.append("c", Message("user", "x"))
    server.run("""UPDATE message SET body = '{"role":"user","content":"x","later":5}'""")
    store.edit(stored.id, lambda message: replace(message, content="y"))
    [(body,)] = server.run("SELECT body FROM message")
    assert body == {"role": "user", "content": "y", "later": 5}


def test_counts_follow_every_change(server: Server, store: Store) -> None:
    """How long lists are is kept beside them, and is what counting would give, whatever happened."""
    for n in range(6):
        store.create(f"c{n}", "u", archived=n == 0, is_draft=n == 1)
    store.append("c1", Message("user", "x"))
    store.update("c2", archived=True)
    store.delete("c3", keep=True)
    store.delete("c4")
    store.delete("c0", keep=True)
    store.restore("u", "c3")
    store.update("c3", is_draft=True)
    counted = server.run("SELECT count(*) FILTER (WHERE NOT archived), count(*) FILTER (WHERE archived)"
                         " FROM conversation WHERE listed")  # fmt: skip
    assert server.run("SELECT listed, archived FROM account") == counted == [(2, 1)]


def test_page_is_a_range_of_an_index(server: Server, store: Store) -> None:
    """A page of a plain conversation reads the rows that it shows, and no others."""
    from self_agent.storage.postgres import reading

    store.create("c", "u")
    store.append("c", *(Message("user", f"{n}") for n in range(3000)))
    server.run("ANALYZE message")
    values = {"u": "u", "n": 1, "start": 20, "stop": 40}
    for sql in (reading._PAGE, reading._TAIL):
        rows = store._database.all(f"EXPLAIN (ANALYZE, COSTS OFF) {sql}", values)  # type: ignore[attr-defined]
        plan = "\n".join(line for (line,) in rows)
        assert "message_user_id_number_seq_key" in plan
        assert "rows=3000" not in plan
        assert "Removed" not in plan
