"""Which dialects there are, and how a setting mounts them: a seventh is one file and one line here."""

from __future__ import annotations

from importlib import import_module

from flask import Flask

from core import errors
from core.errors import AppError, StartupError
from self_agent.dialects.base import Dialect

_MODULES = ("native", "openai", "poe", "alice", "aichat", "chat_system")
_ALL: list[Dialect] = [import_module(f"{__name__}.{module}").DIALECT for module in _MODULES]
DIALECTS = {dialect.name: dialect for dialect in _ALL}


class Mounts:
    """The dialects that an app serves, and which one a path belongs to."""

    def __init__(self, setting: str) -> None:
        """Read a setting such as `poe,alice=/alice`; "" is all. Raises StartupError on a wrong name or a clash."""
        self._roots: dict[str, Dialect] = {}
        self._prefixes = dict(_parse(setting or ",".join(f"{d.name}={d.prefix}" for d in _ALL)))
        for name, prefix in list(self._prefixes.items()):
            self._prefixes.setdefault(DIALECTS[name].brings or name, prefix)
        for name, prefix in self._prefixes.items():
            for mount in DIALECTS[name].mounts:
                self._claim(prefix + mount, DIALECTS[name])

    def register(self, app: Flask) -> None:
        """Put the views of every dialect into the app."""
        for name, prefix in self._prefixes.items():
            app.register_blueprint(DIALECTS[name].blueprint, url_prefix=prefix or None)

    def keep_free(self, *roots: str) -> None:
        """Raise StartupError when a dialect is below one of `roots`, which belong to the page."""
        for root in roots:
            for taken, dialect in self._roots.items():
                if f"{taken}/".startswith(f"{root}/"):
                    raise StartupError(
                        f"DIALECTS: the prefix of {dialect.name} must not begin with {root}, where the chat page is; "
                        f"choose another, such as /{dialect.name}, or set PAGE=false"
                    )

    def error_body(self, error: AppError, path: str) -> tuple[object, int]:
        """Return the body and status of an error in the envelope of the dialect with the nearest root."""
        roots = [root for root in self._roots if path == root or path.startswith(root + "/")]
        if roots:
            return self._roots[max(roots, key=len)].error_body(error)
        return errors.body(error), error.status

    def _claim(self, root: str, dialect: Dialect) -> None:
        if other := self._roots.get(root):
            raise StartupError(
                f"DIALECTS: {other.name} and {dialect.name} both claim {root}; "
                f"give one of them a prefix, such as {dialect.name}=/{dialect.name}"
            )
        self._roots[root] = dialect


def _parse(setting: str) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    for part in filter(None, (part.strip() for part in setting.split(","))):
        name, _, prefix = (piece.strip() for piece in part.partition("="))
        if name not in DIALECTS:
            raise StartupError(f"DIALECTS: there is no dialect {name!r}; there are {', '.join(DIALECTS)}")
        if prefix and (not prefix.startswith("/") or not prefix.strip("/") or "<" in prefix):
            raise StartupError(f"DIALECTS: the prefix of {name} must look like /{name}, not {prefix!r}")
        if name in dict(pairs):
            raise StartupError(f"DIALECTS names {name} twice")
        pairs.append((name, prefix.rstrip("/")))
    if not pairs:
        raise StartupError("DIALECTS is empty; name at least one dialect")
    return pairs
