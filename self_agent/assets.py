"""The page's files as they are sent: from a fixed table, packed once, with the import map that finds the libraries.

No path of a request reaches the file system: a name is looked up in the table, and that is all. A file is read again
when it has changed, so that whoever edits one need only reload; a new file needs a restart.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import posixpath
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from self_agent.libraries import Package

ROOT = "/web/"  # what the URLs of all files begin with
SHELL = "index.html"  # not below ROOT, but at "/"
MARK = "<!-- libraries -->"  # in the shell, where the import map comes
FIRST = "app.js"  # the module that the shell starts
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".webmanifest": "application/manifest+json",
    ".png": "image/png",
    ".woff2": "font/woff2",
}
COMPRESSED = frozenset({".png", ".woff2"})
FOREVER = "public, max-age=31536000, immutable"  # for a library: its version is in its path
ASK = "no-cache"  # keep it, and ask each time whether it is still the right one
IMPORT = re.compile(r"""\b(?:from|import)\s*["']([^"']+)["']""")  # a static one: `import("…")` is for later
POLICY = (
    "default-src 'none'; script-src 'self' 'sha256-{}'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types dompurify"
)


@dataclass(frozen=True)
class Asset:
    """One file, ready to be sent."""

    content_type: str
    cache_control: str
    etag: str  # of the plain bytes, without quotes
    plain: bytes
    packed: bytes  # by gzip; the plain bytes where that gains nothing


class Assets:
    """All files of the page."""

    def __init__(self, web: Path, packages: Iterable[Package]) -> None:
        """`web` has the page's own files, and in `libraries` those of `packages`, all of them."""
        self._libraries: dict[str, Path] = {}
        imports: dict[str, str] = {}
        for package in packages:
            at = f"libraries/{package.folder}"
            imports.update({specifier: f"{ROOT}{at}/{file}" for specifier, file in package.imports.items()})
            self._libraries.update({f"{at}/{file}": web / at / file for file in package.files if _type(file)})
        own = (path for path in web.rglob("*") if _type(path.name) and path.is_file())
        names = ((path.relative_to(web).as_posix(), path) for path in own)
        self._own = {name: path for name, path in names if not name.startswith("libraries/")}
        self._imports = imports
        self._map = json.dumps({"imports": imports}, separators=(",", ":"))
        self._kept: dict[str, tuple[tuple[int, int], Asset]] = {}
        digest = hashlib.sha256(self._map.encode()).digest()
        self.policy = POLICY.format(base64.b64encode(digest).decode())  # the shell's Content-Security-Policy

    def get(self, name: str) -> Asset | None:
        """Return the file that is at `ROOT` + `name`, or None."""
        return None if name == SHELL else self._read(name)

    def shell(self) -> Asset | None:
        """Return the document at "/"; None when its file is gone."""
        return self._read(SHELL)

    def first(self) -> list[str]:
        """Return the names of all modules that must be there before the page shows anything, the first one first."""
        names = [FIRST]
        for name in names:  # which grows
            asset = self.get(name)
            for specifier in IMPORT.findall(asset.plain.decode(errors="replace")) if asset else ():
                target = self._resolve(specifier, name)
                if self._path(target) and target not in names:
                    names.append(target)
        return [name for name in names if self._path(name)]

    def _resolve(self, specifier: str, importer: str) -> str:
        url = self._imports.get(specifier) or posixpath.join(ROOT, posixpath.dirname(importer), specifier)
        return posixpath.normpath(url).removeprefix(ROOT)

    def _path(self, name: str) -> Path | None:
        return self._own.get(name) or self._libraries.get(name)

    def _read(self, name: str) -> Asset | None:
        path = self._path(name)
        if path is None:
            return None
        try:
            found = path.stat()
            stamp = (found.st_mtime_ns, found.st_size)
            kept = self._kept.get(name)
            if kept is None or kept[0] != stamp:
                kept = self._kept[name] = (stamp, self._made(name, path.read_bytes()))
        except OSError:  # it was removed while we run
            return None
        return kept[1]

    def _made(self, name: str, content: bytes) -> Asset:
        if name == SHELL:
            content = content.replace(MARK.encode(), self._head().encode())
        packed = content if Path(name).suffix in COMPRESSED else gzip.compress(content, mtime=0)
        return Asset(
            content_type=_type(name),
            cache_control=FOREVER if name in self._libraries else ASK,
            etag=hashlib.sha256(content).hexdigest()[:32],
            plain=content,
            packed=min(packed, content, key=len),
        )

    def _head(self) -> str:
        """Return the import map, which must come first, and what the browser shall fetch at once."""
        links = (f'<link rel="modulepreload" href="{ROOT}{name}">' for name in self.first())
        return "\n".join([f'<script type="importmap">{self._map}</script>', *links])


def _type(name: str) -> str:
    """Return the content type of a file, "" when it is none that is sent."""
    return TYPES.get(Path(name).suffix, "")
