"""Start the server: `python run.py`; every option is also a setting, see .env.example."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from core import config
from core.errors import StartupError


def main() -> int:
    parser = argparse.ArgumentParser(description="self_agent, a conversation server")
    parser.add_argument("--host", help="address to listen on (127.0.0.1)")
    parser.add_argument("--port", type=int, help="port to listen on (5000)")
    parser.add_argument("--data-dir", type=Path, help="folder of the conversations (data)")
    parser.add_argument("--debug", action="store_true", default=None, help="development server, reloads on changes")
    try:
        settings = config.load(vars(parser.parse_args()))
        from self_agent import server

        return server.run(settings)
    except StartupError as error:
        print(f"self_agent: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0


if __name__ == "__main__":
    sys.exit(main())
