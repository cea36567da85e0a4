"""The plain page at `/`, where there is no chat page: what runs here, which model answers, and where to read on."""

from __future__ import annotations

from html import escape
from string import Template
from typing import Any

from flask import Response

PAGE = Template("""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>self_agent</title>$again
<style>
  :root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
  body { max-width: 40rem; margin: 10vh auto; padding: 0 1rem }
  code, pre { font-family: ui-monospace, monospace } pre { overflow: auto }
  dt { opacity: .7 } dd { margin: 0 0 .6rem }
</style>
<h1>self_agent</h1>
<p>A conversation server runs here, the backend behind AI chat frontends. Point your frontend at this address, or ask
from a terminal:</p>
<pre>curl $url/api/v1/conversations/demo/messages \\
  -H 'Content-Type: application/json' -d '{"content": "Hi"}'</pre>
<dl>
  <dt>Model</dt><dd>$model <small>($state)</small></dd>
  <dt>Requests to try</dt><dd><a href="/docs">/docs</a>, <a href="/openapi.json">/openapi.json</a></dd>
  <dt>Health</dt><dd><a href="/healthz">/healthz</a></dd>
</dl>
<p>$why_not</p>
</html>
""")
AGAIN = '\n<meta http-equiv="refresh" content="3">'
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",  # the chat page comes in its place
}


def page(url: str, model: dict[str, Any], why_not: str = "") -> Response:
    """Return the page; `url` is where the server was reached, `model` what the provider says of itself.

    `why_not` says why there is no chat page yet: then the browser looks for one every few seconds.
    """
    state = model.get("error") or model["state"]
    if model["state"] == "downloading":
        state = f"being fetched, {100 * model.get('progress', 0):.0f} %"
    texts = {"url": url.rstrip("/"), "model": model["name"], "state": state, "why_not": why_not}
    escaped = {name: escape(str(text)) for name, text in texts.items()}
    html = PAGE.substitute(escaped, again=AGAIN if why_not else "")
    return Response(html, headers=HEADERS, content_type="text/html; charset=utf-8")
