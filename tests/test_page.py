"""What is sent at `/`, `/c/<id>` and below `/web/`, without a browser: see tests/page for what one makes of it."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import threading
from base64 import b64encode
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from core.config import Settings
from core.errors import StartupError
from self_agent import create_app, page, parts_of, start
from self_agent.assets import Assets
from self_agent.libraries import LOCK, WEB, FetchFailed, Package, locked
from self_agent.page import Page
from tests.conftest import MakeApp

KATEX = next(package for package in locked() if package.name == "katex")


@pytest.fixture
def web(tmp_path: Path) -> Path:
    """A page of its own, with libraries that have the right names and next to nothing in them."""
    web = tmp_path / "web"
    shutil.copytree(WEB, web, ignore=shutil.ignore_patterns("libraries"))
    for package in locked():
        for file in package.files:
            path = web / "libraries" / package.folder / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"export default 1; /* of %s */" % package.name.encode() * 9)
    return web


@pytest.fixture
def app(web: Path, make_app: MakeApp, monkeypatch: pytest.MonkeyPatch) -> Flask:
    """An app that serves that page."""
    monkeypatch.setattr(page, "Page", Page)
    monkeypatch.setattr("self_agent.Page", lambda registry: Page(registry, web))
    return make_app()


def test_shell_has_map_and_policy(app: Flask) -> None:
    """Both addresses answer with the shell, whose import map is the one that its policy lets run."""
    client = app.test_client()
    for path in ("/", "/c/some-chat", "/c/no%20such%20chat"):
        answer = client.get(path)
        assert answer.status_code == 200
        [text] = re.findall(r'<script type="importmap">(.*?)</script>', answer.text)
        policy = answer.headers["Content-Security-Policy"]
        assert f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'" in policy
        for words in ("default-src 'none'", "frame-ancestors 'none'", "require-trusted-types-for 'script'"):
            assert words in policy
        assert "unsafe" not in policy
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert json.loads(text)["imports"]["preact"] == "/web/libraries/preact-11.2.0/dist/preact.mjs"


def test_everything_the_shell_names_is_there(app: Flask) -> None:
    """Each address in the shell and in the import map has an answer."""
    client = app.test_client()
    html = client.get("/").text
    named = set(re.findall(r'(?:href|src)="(/[^"]+)"|"(/web/[^"]+[^/])"', html))
    assert len(named) > 10
    for pair in named:
        assert client.get("".join(pair)).status_code == 200, pair


def test_files_have_types_and_lives(app: Flask) -> None:
    """A script is a script, a font a font; a library is kept for good, the page's own files are asked for each time."""
    client = app.test_client()
    for path, kind, cache in (
        ("app.js", "text/javascript; charset=utf-8", "no-cache"),
        ("libraries/preact-11.2.0/dist/preact.mjs", "text/javascript; charset=utf-8", "immutable"),
        (f"libraries/{KATEX.folder}/dist/katex.min.css", "text/css; charset=utf-8", "immutable"),
        (f"libraries/{KATEX.folder}/dist/fonts/KaTeX_Main-Regular.woff2", "font/woff2", "immutable"),
    ):
        answer = client.get(f"/web/{path}")
        assert answer.headers["Content-Type"] == kind
        assert cache in answer.headers["Cache-Control"]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"


def test_text_is_packed_for_who_takes_it(app: Flask, web: Path) -> None:
    """gzip comes only to those who accept it, under an ETag of its own, and is never larger than the file."""
    client = app.test_client()
    name = "libraries/marked-18.2.1/lib/marked.esm.js"
    plain, packed = (client.get(f"/web/{name}", headers={"Accept-Encoding": how}) for how in ("gzip;q=0", "br, gzip"))
    assert plain.data == (web / name).read_bytes() == gzip.decompress(packed.data)
    assert "Content-Encoding" not in plain.headers
    assert packed.headers["Content-Encoding"] == "gzip"
    assert plain.headers["ETag"] != packed.headers["ETag"]
    assert plain.headers["Vary"] == packed.headers["Vary"] == "Accept-Encoding"
    font = client.get(f"/web/libraries/{KATEX.folder}/dist/fonts/KaTeX_Main-Regular.woff2", headers=GZIP)
    assert "Content-Encoding" not in font.headers


GZIP = {"Accept-Encoding": "gzip"}


@pytest.mark.parametrize("path", ["/", "/web/app.js"])
def test_what_is_known_is_not_sent_again(app: Flask, path: str) -> None:
    """A client that has the file is told so, in a packed answer too; HEAD has the same headers, and no body."""
    client = app.test_client()
    whole = client.get(path, headers=GZIP)
    tag = whole.headers["ETag"]
    for known in (tag, f"W/{tag}", f'"other", {tag}'):
        again = client.get(path, headers={**GZIP, "If-None-Match": known})
        assert (again.status_code, again.data) == (304, b"")
        assert again.headers["ETag"] == tag
    assert client.get(path, headers={**GZIP, "If-None-Match": '"other"'}).status_code == 200
    head = client.head(path, headers=GZIP)
    assert (head.status_code, head.data) == (200, b"")
    assert head.headers["Content-Length"] == str(len(whole.data))


def test_edited_file_is_sent_anew(app: Flask, web: Path) -> None:
    """Whoever works on the page need only reload; a file that was removed is 404 and no failure."""
    client = app.test_client()
    before = client.get("/web/app.js").headers["ETag"]
    (web / "app.js").write_text("// another")
    after = client.get("/web/app.js")
    assert after.text == "// another"
    assert after.headers["ETag"] != before
    (web / "app.js").unlink()
    assert client.get("/web/app.js").status_code == 404
    (web / "index.html").unlink()
    assert "A conversation server runs here" in client.get("/").text


@pytest.mark.parametrize(
    "name",
    [
        "../__init__.py", "%2e%2e/__init__.py", "..%2f__init__.py", "libraries/../../__init__.py", "/etc/passwd",
        "//etc/passwd", "..\\__init__.py", "libraries.lock.json", "index.html", "", ".", "app.js/", "APP.JS",
        "app.js%00.css", "libraries/.lock", "libraries/preact-11.2.0/LICENSE", "libraries/preact-11.2.0",
    ],
)  # fmt: skip
def test_nothing_else_is_sent(app: Flask, name: str) -> None:
    """No path leads out of the table, nor to what is no file of the page."""
    answer = app.test_client().get(f"/web/{name}")
    assert answer.status_code in (400, 404), answer.text
    assert set(answer.json["data"]) == {"success", "error"} if answer.json else None


def test_first_modules_are_preloaded(web: Path) -> None:
    """What must be there before anything shows is named in the shell, through all levels; what is for later is not."""
    (web / "view").mkdir(exist_ok=True)
    (web / "app.js").write_text('import { h } from "preact";\nimport "./view/a.js";\nexport * from"./b.js";\n')
    (web / "view" / "a.js").write_text('import {b} from "../b.js"; const later = () => import("./c.js");')
    (web / "b.js").write_text('import x from "htm"; import y from "unknown"; import z from "../../run.py";')
    (web / "view" / "c.js").write_text("")
    packages = [package for package in locked() if not package.tests]
    first = Assets(web, packages).first()
    libraries = ["libraries/preact-11.2.0/dist/preact.mjs", "libraries/htm-3.1.1/dist/htm.mjs"]
    assert sorted(first) == sorted(["app.js", "view/a.js", "b.js", *libraries])
    assert first[0] == "app.js"


def test_nothing_for_tests_is_served(app: Flask) -> None:
    """What only the tests need is not part of the page."""
    assert app.test_client().get("/web/libraries/axe-core-4.14.1/axe.min.js").status_code == 404


# --- without libraries


def test_plain_page_until_libraries_come(app: Flask, web: Path) -> None:
    """Without libraries there is a plain page that says what to do; when they come, there is the page, unasked."""
    (web / "libraries").rename(web / "later")
    client = app.test_client()
    for path in ("/", "/c/some-chat"):
        answer = client.get(path)
        assert "A conversation server runs here" in answer.text
        assert "python -m self_agent.libraries" in answer.text
        assert answer.headers["Cache-Control"] == "no-store"
    assert client.get("/web/app.js").status_code == 404
    (web / "later").rename(web / "libraries")
    assert 'type="importmap"' in client.get("/").text


def test_start_fetches_in_the_background(app: Flask, web: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While libraries are fetched the plain page says so and looks again; then the page is there."""
    (web / "libraries").rename(web / "later")
    may, done = threading.Event(), threading.Event()

    def fetch(packages: list[Package], registry: str, folder: Path) -> None:
        assert folder == web / "libraries"
        may.wait(10)
        (web / "later").rename(folder)
        done.set()

    monkeypatch.setattr(page, "obtain", fetch)
    start(app)
    answer = app.test_client().get("/")
    assert "being fetched" in answer.text
    assert 'http-equiv="refresh"' in answer.text
    may.set()
    assert done.wait(10)
    assert 'type="importmap"' in app.test_client().get("/").text


def test_failed_fetch_says_why(app: Flask, web: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server without a network serves all the same, and its page says what is missing and what to do."""
    shutil.rmtree(web / "libraries")
    failed = threading.Event()

    def fetch(*_: Any) -> None:
        failed.set()
        raise FetchFailed("<no> network; get one")

    monkeypatch.setattr(page, "obtain", fetch)
    start(app)
    assert failed.wait(10)
    for thread in threading.enumerate():
        if thread.name == "page":
            thread.join()
    text = app.test_client().get("/").text
    assert "not here: &lt;no&gt; network; get one" in text
    assert "refresh" in text  # somebody may do what it says
    assert app.test_client().get("/healthz").status_code == 200


# --- who may, and where


def test_page_needs_no_token(app: Flask, web: Path, make_app: MakeApp) -> None:
    """The page is public, for it asks for the token itself; what it calls is not."""
    client = make_app(auth_enabled=True, jwt_secret="s" * 32).test_client()
    for path in ("/", "/c/some-chat", "/web/app.js"):
        assert client.get(path).status_code == 200
    assert client.get("/api/v1/conversations/").status_code == 401
    assert client.get("/c/some/chat").status_code == 401


def test_gates_hold_for_the_page(app: Flask) -> None:
    """A foreign name and a foreign page get nothing of it."""
    client = app.test_client()
    for path in ("/", "/c/x", "/web/app.js"):
        assert client.get(path, headers={"Host": "evil.example"}).status_code == 403
        assert client.get(path, headers={"Origin": "https://evil.example"}).status_code == 403


def test_page_can_be_turned_off(make_app: MakeApp) -> None:
    """Without the page there is the plain one at `/`, nothing else, and nothing is fetched."""
    app = make_app(page=False)
    assert parts_of(app).page is None
    start(app)
    client = app.test_client()
    assert "A conversation server runs here" in client.get("/").text
    assert client.get("/c/x").status_code == client.get("/web/app.js").status_code == 404


@pytest.mark.parametrize("prefix", ["/c", "/web", "/web/poe"])
def test_no_dialect_below_the_page(prefix: str, tmp_path: Path, make_app: MakeApp) -> None:
    """A dialect that would be where the page is is told so at the start; without the page it may, with its token."""
    settings = {"dialects": f"poe={prefix}", "data_dir": tmp_path / "data", "log_dir": tmp_path / "logs"}
    with pytest.raises(StartupError, match="PAGE=false"):
        create_app(Settings(**settings))
    app = make_app(**{**settings, "page": False, "auth_enabled": True, "jwt_secret": "s" * 32})
    assert app.test_client().get(f"{prefix}/v1/models").status_code == 401


def test_package_carries_the_page() -> None:
    """A package that is built takes along whatever lies in `web/`, libraries too."""
    root = Path(__file__).parent.parent
    [pattern] = re.findall(r'^self_agent = \["(web/.*)"\] # with', (root / "pyproject.toml").read_text(), re.MULTILINE)
    taken = set((root / "self_agent").glob(pattern))
    assert {LOCK, WEB / "index.html", WEB / "app.js"} <= taken
    assert taken >= set(WEB.glob("libraries/**/LICENSE"))
