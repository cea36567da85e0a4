"""Commands beside the server: `flask --app self_agent COMMAND`.

Those that use the store need the server stopped; `backup` and `verify` do not, and nothing is opened for them.
"""

from __future__ import annotations

import os
import re
import sys
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import IO, Any, cast

import click
from flask import Flask, current_app
from flask.cli import with_appcontext
from werkzeug.local import LocalProxy

from core import files
from core.errors import AppError
from self_agent import legacy
from self_agent.models import LOCAL_USER
from self_agent.storage import Store, chosen, postgres
from self_agent.transfer import FORMATS, Outcome
from self_agent.transfer.backup import backup
from self_agent.transfer.repairing import repair
from self_agent.transfer.verifying import count, verify

REMEDY = "; with the server stopped, flask --app self_agent repair puts them right"
_PIECE = 1 << 16  # bytes of a file that are read at once
_CHATS = re.compile(r"(?:.*/)?conversations(?:-\d+)?\.json")  # in ChatGPT's ZIP
_user = click.option("--user", default=LOCAL_USER, help="Whose chats, where the server asks for tokens: their `sub`.")
_folder = click.argument("folder", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path))


def install(app: Flask) -> None:
    """Give the app its commands."""
    commands: tuple[click.Command, ...] = (
        import_legacy, import_files, export, back_up, verify_folder, repair_folder, database,
    )  # fmt: skip
    for command in commands:
        app.cli.add_command(command)


def is_running() -> bool:
    """Say whether the app is made for one of its commands."""
    return os.environ.get("FLASK_RUN_FROM_CLI") == "true"


def later(open_store: Callable[[], Store]) -> Store:
    """Return a store that is opened when it is first used: not every command may take the folder's lock."""
    return cast(Store, LocalProxy(cache(open_store)))


def _parts() -> Any:
    return current_app.extensions["self_agent"]


@click.command("import-legacy")
@with_appcontext
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
def import_legacy(folder: Path) -> None:
    """Take in the conversations of an older self_agent backend, whose FOLDER holds <id>.json files."""
    parts = _parts()
    paths = legacy.files(folder)
    with click.progressbar(paths, label="importing", file=sys.stderr) as bar:
        outcomes = [legacy.take_in(parts.store, path) for path in bar]
    for outcome in outcomes:
        click.echo(f"{outcome.state:8}  {outcome.file}: {outcome.detail}")
    parts.store.close()
    _end(Counter(outcome.state for outcome in outcomes))


@click.command("import")
@with_appcontext
@_user
@click.argument("paths", metavar="FILE…", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
def import_files(paths: tuple[Path, ...], user: str) -> None:
    """Take in chats: this server's exports, ChatGPT's conversations.json or its ZIP, Open WebUI's export.

    What is here already is left as it is, so the same FILE can be imported again. The server must be stopped; one that
    runs takes in a file by POST /api/v1/import.
    """
    parts = _parts()
    outcomes: list[Outcome] = []
    parts.store.ready()  # or it says now why it cannot be opened
    try:
        with click.progressbar(length=sum(map(_size, paths)), label="importing", file=sys.stderr) as bar:
            for path in paths:
                try:
                    for source in _sources(path):
                        outcomes += parts.transfer.take_in(user, _chunks(source, bar.update))
                except (OSError, zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError) as error:
                    outcomes.append(Outcome(path.name, "failed", f"it cannot be read: {error}"))
    finally:
        for outcome in outcomes:
            click.echo(_printable(f"{outcome.state:8}  {outcome.chat}: {outcome.detail}"))
        parts.store.close()
    _end(Counter(outcome.state for outcome in outcomes))


def _printable(text: str) -> str:
    """Keep a title from doing anything to a terminal, and from failing where it cannot show a letter."""
    text = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return text.encode(encoding, "replace").decode(encoding)


def _end(counts: Counter[str]) -> None:
    click.echo(f"{counts['imported']} imported, {counts['skipped']} skipped, {counts['failed']} failed")
    if counts["failed"]:
        raise SystemExit(1)


def _members(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    return sorted((info for info in archive.infolist() if _CHATS.fullmatch(info.filename)), key=lambda i: i.filename)


def _size(path: Path) -> int:
    """Return how many bytes will be read of a file."""
    if not zipfile.is_zipfile(path):
        return path.stat().st_size if path.is_file() else 0
    with zipfile.ZipFile(path) as archive:
        return sum(info.file_size for info in _members(archive))


def _sources(path: Path) -> Iterator[IO[bytes]]:
    """Yield the file, or the files with chats in a ZIP. Raises ValueError for a ZIP without one."""
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            yield file
        return
    with zipfile.ZipFile(path) as archive:
        members = _members(archive)
        if not members:
            raise ValueError("there is no conversations.json in this ZIP")
        for member in members:
            with archive.open(member) as inside:
                yield inside


def _chunks(file: IO[bytes], step: Callable[[int], object]) -> Iterator[bytes]:
    while chunk := file.read(_PIECE):
        yield chunk
        step(len(chunk))


@click.command("export")
@with_appcontext
@_user
@click.option("--format", "form", type=click.Choice(FORMATS), default=FORMATS[0], help="json has all branches.")
@click.option("--conversation", metavar="ID", help="Only this one.")
@click.argument("target", required=False, type=click.Path(dir_okay=False, path_type=Path))
def export(user: str, form: str, conversation: str | None, target: Path | None) -> None:
    """Write all chats, or one, to TARGET, or to standard output. The server must be stopped, or be asked itself."""
    parts = _parts()
    parts.store.ready()  # or it says now why it cannot be opened
    try:
        found = parts.transfer.export(user, form, conversation)
        if target is None:
            for piece in found.pieces:
                sys.stdout.buffer.write(piece)
        else:
            files.replace_file(target.absolute(), found.pieces)
    except AppError as error:
        raise click.ClickException(error.message) from None
    finally:
        parts.store.close()


@click.command("backup")
@with_appcontext
@click.argument("target", type=click.Path(path_type=Path))
def back_up(target: Path) -> None:
    """Copy the data folder to TARGET, also while a server uses it; a TARGET that is there is brought up to date."""
    settings = _parts().settings
    if (store := chosen(settings)) != "json_files":
        what = "is copied by pg_dump" if store == "postgres" else "keeps nothing that could be copied"
        raise click.ClickException(f"STORE={store} {what}")
    try:
        with click.progressbar(length=_documents(settings.data_dir), label="copying", file=sys.stderr) as bar:
            report = backup(settings.data_dir, target, lambda: bar.update(1))
    except AppError as error:
        raise click.ClickException(error.message) from None
    except OSError as error:
        raise click.ClickException(f"the copy was not made: {error.strerror or error}") from None
    click.echo(f"{report.files} files, {report.copied} of them copied anew")


def _documents(folder: Path) -> int:
    return count(folder) if (folder / "conversations").is_dir() else 0


@click.command("verify")
@with_appcontext
@_folder
def verify_folder(folder: Path | None) -> None:
    """Read everything in the data folder, or in FOLDER, and say what is wrong; a server may be using it."""
    folder = folder or _parts().settings.data_dir
    length = _documents(folder)
    with click.progressbar(length=length, label="reading", file=sys.stderr) as bar:
        wrong = list(verify(folder, lambda: bar.update(1)))
    for each in wrong:
        click.echo(_printable(f"{_name(each.path, folder)}: {each.reason}"))
    click.echo(f"{length} files, {len(wrong)} of them wrong{REMEDY if wrong else ''}")
    if wrong:
        raise SystemExit(1)


@click.command("repair")
@with_appcontext
@_folder
def repair_folder(folder: Path | None) -> None:
    """Put right what is wrong in the data folder, or in FOLDER; the server must be stopped."""
    folder = folder or _parts().settings.data_dir
    if not (folder / "conversations").is_dir():
        raise click.ClickException(f"{folder} is no data folder: it has no conversations/")
    try:
        done = list(repair(folder))
    except AppError as error:
        raise click.ClickException(error.message) from None
    for each in done:
        click.echo(_printable(f"{_name(each.path, folder)}: {each.reason}; {each.done}"))
    failed = sum(not each.is_done for each in done)
    click.echo(f"{len(done) - failed} mended, {failed} still wrong" if done else "nothing is wrong")
    if failed:
        raise SystemExit(1)


@click.group("database")
def database() -> None:
    """The tables in the database that DATABASE_URL names."""


@database.command("upgrade")
@with_appcontext
def upgrade() -> None:
    """Make the tables, or bring those of an older version up to this one; stop the server first."""
    before, after = postgres.upgrade(_parts().settings)
    click.echo(f"the database is at {after} already" if before == after else f"{before or 'nothing'} -> {after}")


def _name(path: Path, folder: Path) -> str:
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)
