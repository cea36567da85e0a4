"""`python -m self_agent.libraries` fetches what is missing of the page's libraries; see the package."""

from __future__ import annotations

import argparse
import sys

from core import config
from core.errors import StartupError
from self_agent.libraries import FOLDER, FetchFailed, locked, obtain


def main(arguments: list[str] | None = None) -> int:
    """Fetch what is missing; return the exit code."""
    parser = argparse.ArgumentParser(description="Fetch the libraries of the chat page.")
    parser.add_argument("--tests", action="store_true", help="and what only the tests need")
    options = parser.parse_args(arguments)
    try:
        settings = config.load()
        packages = [package for package in locked() if options.tests or not package.tests]
        if settings.page and not all(package.is_in(FOLDER) for package in packages):
            print("fetching the libraries of the chat page, 3 MB, once", flush=True)
            obtain(packages, settings.libraries_registry)
    except (FetchFailed, StartupError) as error:
        print(f"self_agent: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
