"""Start the server: `python run.py`; every option is also a setting, see .env.example."""

# No annotations and no imports of ours up here: an old Python must get as far as to say that it is one.
import argparse
import contextlib
import sys
from pathlib import Path

REMEDY = "start it with `make run`, or install what it needs: pip install -r requirements.txt"


def main():
    if sys.version_info < (3, 10):  # noqa: UP036 - it is what we tell about
        version = ".".join(map(str, sys.version_info[:2]))
        return fail(f"this is Python {version}, and it needs 3.10 or later: try python3.12 run.py")
    parser = argparse.ArgumentParser(description="self_agent, a conversation server")
    parser.add_argument("--host", help="address to listen on (127.0.0.1)")
    parser.add_argument("--port", type=int, help="port to listen on (5000)")
    parser.add_argument("--data-dir", type=Path, help="folder of the conversations (data)")
    parser.add_argument("--debug", action="store_true", default=None, help="development server, reloads on changes")
    options = vars(parser.parse_args())
    try:
        from core import config
        from core.errors import StartupError
        from self_agent import server
    except ImportError as error:
        return fail(f"a package is missing or broken ({error}); {REMEDY}")
    try:
        return server.run(config.load(options))
    except StartupError as error:
        return fail(error)
    except KeyboardInterrupt:
        return 0


def fail(reason):
    """Say why it does not start, if there is somebody to read it."""
    with contextlib.suppress(OSError):
        print(f"self_agent: {reason}", file=sys.stderr, flush=True)
    return 1


if __name__ == "__main__":
    sys.exit(main())
