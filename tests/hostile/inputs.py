"""What is thrown at the routes: lists of known trouble, and strategies that mix it with what is right."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote, quote_from_bytes

from hypothesis import strategies as st

from self_agent.openapi import Body, Query
from tests.dialects.ways import all_ways

KNOWN = "known"  # a conversation that is there

IDS = [
    "..", ".", "../../secret.txt", "..%2f..%2fsecret.txt", "%2e%2e%2fsecret.txt", "..%5c..%5csecret.txt",
    "%2Fetc%2Fpasswd", "//etc/passwd", "C:%5Csecret.txt", "%00", "known%00.json", "known%0a", "%0d%0aX-Evil:%201",
    "a" * 128, "a" * 129, "a" * 300, "9" * 100, "9" * 5000, "CON", "nul.json", "com1", "aux.", "LPT9", "-", "_", "...",
    "known.json", "KNOWN", "known ", "%20", "%E4%BD%A0", "%F0%9F%98%80", "%D9%A1", "%C2%B2", "%ED%A0%80", "%FF%FE",
    "-1", "0", "00", "1", "1.5", "1e5", "0x10", "+1", "18446744073709551616", "NaN", "null", "true", "{}", "*",
    "%25%32%65", "~", "known~1", "+con", "known%3Fpage=1", "%23", ";", "known;x=1", "<script>", "'%20OR%201=1--", "%",
]  # fmt: skip
NUMBERS = [
    "-1", "0", "1", "abc", "", "%20", "1%20", "1.0", "1.5", "1e3", "NaN", "inf", "true", "null", "[1]", "{}", "1_0",
    str(10**30), str(-(10**30)), "9" * 5000, "%D9%A1", "%EF%BC%91", "%C2%B2", "%00", "%FF", "0x1", "+1",
]  # fmt: skip
TEXTS = ["", " ", "\0", "x", "你好", "😀", "\u202e", "../..", "null", "a\r\nb", "%s%n{0}", "\ufeff", "\ud800"]
HEADERS = [
    *({"Content-Type": value} for value in [
        "", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "/",
        "application/json; charset=utf-16", "application/json; charset=nonsense", "application/JSON",
        "\xff\xfe", "application/vnd.api+json", "multipart/form-data; boundary=", ";", "application/json, text/plain",
    ]),
    *({"Authorization": value} for value in [
        "", "Bearer", "Bearer ", "Bearer \xff\xfe", "Basic !!!", "Basic Og==", "Digest a=", "Bearer " + "x" * 8000,
        "bearer a.b.c", "\xe4\xbd\xa0", "Bearer ../../etc/passwd", "Basic \xff", "Negotiate =", "Digest \x00=\x01",
    ]),
    *({"Origin": value} for value in [
        "", "null", "http://", "http://[", "http://[::1", "http://]", "//", "http://localhost:abc", "http://localhost\xff",
        "http://localhost:99999999", "file://", "http://[v1.x]", "http://\u2100.example".encode().decode("latin-1"),
    ]),
    *({"Host": value} for value in [
        "", "[", "[::1", "[::1]:x", "localhost:abc", "localhost:99999999", "localhost, evil.example", "\xff", "a" * 300,
        "localhost/../x", "user@localhost", "127.1", "localhost..", ".localhost", "xn--", "local host", "localhost#",
    ]),
    *({"Content-Length": value} for value in ["", "-1", "abc", "0", "3", "1000", "9" * 30, "1e3", "5, 5", "\xb2"]),
    *({"Accept": value} for value in ["", "*", "text/html;q=x", "a/b;q=" + "9" * 400, ",,,", "\xff"]),
    *({"X-Request-Id": value} for value in ["", "x\ny", "\xff", "a" * 9000]),
    {"Transfer-Encoding": "chunked"}, {"Transfer-Encoding": "gzip"}, {"Content-Encoding": "gzip"},
    {"Upgrade": "websocket", "Connection": "Upgrade"}, {"Upgrade": "websocket", "Connection": "\xff"},
    {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Key": "x", "Sec-WebSocket-Version": "x"},
    {"Cookie": "\xff=;;;=" * 100}, {"Range": "bytes=-1"}, {"If-None-Match": "\xff"}, {"Expect": "100-continue"},
    {"X-Forwarded-Host": "evil.example"}, {"X-HTTP-Method-Override": "DELETE"}, {"Last-Event-Id": "\xff"},
    {"Access-Control-Request-Method": "\xff", "Origin": "http://localhost"},
    {"Access-Control-Request-Headers": "(((" * 2000, "Origin": "http://localhost"},
]  # fmt: skip


def _subclasses(kind: type) -> list[type]:
    return [kind, *(found for child in kind.__subclasses__() for found in _subclasses(child))]


def names_in(model: Any) -> list[str]:
    """Return every name that a field of a model goes by."""
    found: list[str] = []
    for name, info in model.model_fields.items():
        alias = info.validation_alias
        found += [name, *getattr(alias, "choices", [alias] if isinstance(alias, str) else [])]
    return found


def _names(kind: type) -> list[str]:
    """Return every name that a field of these models goes by, so that the fields of new routes are here too."""
    return sorted({name for model in _subclasses(kind) for name in names_in(model)})


FIELDS = _names(Body)
PARAMETERS = _names(Query)


def right(known: dict[str, Any]) -> dict[str, Any]:
    """Return a body that every route takes; a KeyError here is a new field, whose value a dialect's `WAY` says."""
    texts = dict.fromkeys(["content", "message", "name", "title", "new_title", "new_content"], "hello")
    more = {"role": "user", "messages": [{"role": "user", "content": "x"}], "stream": False, "user_id": "local"}
    pages = dict.fromkeys(["page", "page_size", "pageSize"], 1)
    own = {name: value for way in all_ways().values() for name, value in way.fields.items()}
    values = {**texts, **more, **pages, "model": "m", "system_prompt": "s", **own, **known}
    return {name: values[name] for name in FIELDS}


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


def raw_bodies(good: dict[str, Any]) -> list[bytes]:
    """Return what is no body at all, or one only to some readers."""
    text = json.dumps(good, ensure_ascii=False).encode()
    fields = [b'"%b"' % name.encode() for name in FIELDS]
    deep = [b"{%b}" % b",".join(b"%b:%b" % (name, nested(depth)) for name in fields) for depth in (200, 900, 100_000)]
    odd = [b"1e400", b"-1e400", b"NaN", b"Infinity", b"9" * 400, b'"\\ud800"', b'"\\udc00\\ud800"', b'"\xff"', b'"\0"']
    return [
        b"", b"{}", b"[]", b"null", b"0", b'"x"', b"{", b"}", b"{}{}", b"\0", b"\xff\xfe{\0}\0", text[:-1], text + b"x",
        b"\xef\xbb\xbf" + text, text.decode().encode("utf-16"), b" " * 10_000 + text, nested(100_000),
        b"{%b}" % b",".join(b'%b:"x"' % name for name in fields * 2), b"{%b,%b" % (text[1:-1], text[1:]), *deep,
        b'{"a":' * 50_000, *(b"{%b}" % b",".join(b"%b:%b" % (name, value) for name in fields) for value in odd),
        b"{%b}" % b",".join(b'"k%d":1' % n for n in range(20_000)), b'{"content":"%b"}' % (b"x" * 5_000_000),
    ]  # fmt: skip


# --- for the search


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from([2**53, 2**63, -(2**63) - 1, 2**64, 10**30, -1, 0, 5e-324, 1.0])
    | st.sampled_from(TEXTS)
    | st.text(st.characters(), max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=4),
    max_leaves=12,
)


def segments(right: Any) -> st.SearchStrategy[str]:
    """Return what may stand in a path in the place of an id: mostly the right one."""
    return (
        st.just(quote(str(right)))
        | st.sampled_from(IDS)
        | st.integers().map(str)
        | st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40).map(
            lambda text: quote(text, safe="")
        )
        | st.binary(min_size=1, max_size=20).map(lambda data: quote_from_bytes(data, safe=""))
    )


def queries() -> st.SearchStrategy[str]:
    names = st.sampled_from([*PARAMETERS, "session_id", "token", "", "page%00", "%FF"])
    pair = st.tuples(names, st.sampled_from(NUMBERS + IDS)).map("=".join)
    return st.lists(pair | st.sampled_from(["&", "=", "page", "%", "?"]), max_size=4).map("&".join)


def headers() -> st.SearchStrategy[dict[str, str]]:
    one = st.sampled_from(HEADERS)
    return st.just({}) | st.lists(one, max_size=2).map(lambda found: {k: v for each in found for k, v in each.items()})


def bodies(good: dict[str, Any]) -> st.SearchStrategy[bytes]:
    """Return bodies: right but for some fields, anything at all, and bytes that are no JSON."""
    changes = st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=3)
    changed = st.tuples(changes, st.sets(st.sampled_from(FIELDS), max_size=2)).map(
        lambda drawn: {name: value for name, value in {**good, **drawn[0]}.items() if name not in drawn[1]}
    )
    objects = changed.map(lambda value: json.dumps(value).encode())
    return objects | objects | JSON.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=60)
