"""Commands beside the server: `flask --app self_agent COMMAND`; the server must not be running."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import click
from flask import Flask, current_app
from flask.cli import with_appcontext

from self_agent import legacy


def install(app: Flask) -> None:
    """Give the app its commands."""
    app.cli.add_command(import_legacy)


@click.command("import-legacy")
@with_appcontext
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
def import_legacy(folder: Path) -> None:
    """Take in the conversations of an older self_agent backend, whose FOLDER holds <id>.json files."""
    parts = current_app.extensions["self_agent"]
    paths = legacy.files(folder)
    with click.progressbar(paths, label="importing", file=sys.stderr) as bar:
        outcomes = [legacy.take_in(parts.store, path) for path in bar]
    for outcome in outcomes:
        click.echo(f"{outcome.state:8}  {outcome.file}: {outcome.detail}")
    counts = Counter(outcome.state for outcome in outcomes)
    click.echo(f"{counts['imported']} imported, {counts['skipped']} skipped, {counts['failed']} failed")
    parts.store.close()
    if counts["failed"]:
        raise SystemExit(1)
