"""The first page that a person opens where there is no chat page."""

from __future__ import annotations

from self_agent.providers.none import NoModel
from tests.conftest import MakeApp


def test_page_says_what_runs(make_app: MakeApp) -> None:
    """The address that the server prints shows which model answers, and where the requests are described."""
    answer = make_app(page=False).test_client().get("/", headers={"Accept": "text/html"})
    assert answer.status_code == 200
    assert answer.mimetype == "text/html"
    assert "echo (says back" in answer.text
    assert 'href="/docs"' in answer.text
    assert "refresh" not in answer.text
    assert "http://localhost/api/v1/conversations/demo/messages" in answer.text
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


def test_page_needs_no_token(make_app: MakeApp) -> None:
    """With auth on the page is shown all the same: it tells nothing of anybody."""
    app = make_app(auth_enabled=True, jwt_secret="s" * 32, page=False, provider=NoModel())
    answer = app.test_client().get("/")
    assert answer.status_code == 200
    assert "none" in answer.text


def test_page_repeats_no_markup(make_app: MakeApp) -> None:
    """What a client sends as its host is text here."""
    client = make_app(allowed_hosts="*", page=False).test_client()
    answer = client.get("/", headers={"Host": "a<script>alert(1)</script>"})
    assert "<script>" not in answer.text
