"""The JWT hook."""

from __future__ import annotations

import time
from io import BytesIO
from typing import Any

import jwt
import pytest
from flask import Flask, g

from core import auth, web
from core.config import Settings
from core.errors import body

SECRET = "s" * 32
ON = Settings(auth_enabled=True, jwt_secret=SECRET)


def token(secret: str = SECRET, algorithm: str = "HS256", **claims: Any) -> str:
    return jwt.encode({"sub": "ada", "exp": time.time() + 60, **claims}, secret, algorithm=algorithm)


def client(settings: Settings = ON):  # type: ignore[no-untyped-def]
    app = Flask(__name__)
    web.install(app, settings, lambda error, path: (body(error), error.status))
    auth.install(app, settings, local_user="local", public=["/healthz"])
    web.install_body(app)
    app.add_url_rule("/who", "who", methods=["GET", "POST"], view_func=lambda: {"user": g.user_id})
    app.add_url_rule("/healthz", "healthz", view_func=lambda: {"status": "ok"})
    return app.test_client()


def test_off_means_one_user() -> None:
    """Without auth every request is the local user's, token or not."""
    assert client(Settings()).get("/who").json == {"user": "local"}
    assert client(Settings()).get("/who", headers={"Authorization": "Bearer x"}).json == {"user": "local"}


def test_good_token_names_user() -> None:
    """The user's id is the token's `sub`."""
    assert client().get("/who", headers={"Authorization": f"Bearer {token()}"}).json == {"user": "ada"}
    assert client().get("/who", headers={"Authorization": f"bearer  {token()}"}).json == {"user": "ada"}


BAD = {
    "none": "",
    "no bearer": f"Basic {token()}",
    "empty": "Bearer ",
    "garbage": "Bearer abc.def.ghi",
    "alg none": "Bearer " + jwt.encode({"sub": "ada", "exp": time.time() + 60}, None, algorithm="none"),
    "other algorithm": f"Bearer {token(secret='s' * 64, algorithm='HS512')}",
    "other key": f"Bearer {token(secret='x' * 32)}",
    "expired": f"Bearer {token(exp=time.time() - 10)}",
    "no exp": "Bearer " + jwt.encode({"sub": "ada"}, SECRET, algorithm="HS256"),
    "no sub": "Bearer " + jwt.encode({"exp": time.time() + 60}, SECRET, algorithm="HS256"),
    "sub not text": "Bearer " + jwt.encode({"sub": "", "exp": time.time() + 60}, SECRET, algorithm="HS256"),
}


@pytest.mark.parametrize("header", BAD.values(), ids=BAD.keys())
def test_bad_token_is_refused(header: str) -> None:
    """Whatever is wrong with a token, the answer is 401 with a reason, and the token is not repeated."""
    answer = client().get("/who", headers={"Authorization": header} if header else {})
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert answer.json["data"]["error"]
    if len(header) > 20:
        assert header.split()[1] not in answer.text


def test_query_token_only_for_sockets() -> None:
    """A token in the address is taken from a WebSocket and from nothing else."""
    assert client().get(f"/who?token={token()}").status_code == 401
    assert client().get(f"/who?token={token()}", headers={"Upgrade": "websocket"}).json == {"user": "ada"}


def test_public_paths_and_preflights_pass() -> None:
    """Health is anybody's to ask, and a preflight cannot carry a token."""
    assert client().get("/healthz").status_code == 200
    assert client().options("/who", headers={"Origin": "http://localhost:3000"}).status_code == 200


class Unread(BytesIO):
    """A body that nobody should read."""

    def read(self, *_: Any) -> bytes:
        raise AssertionError("the body was read")

    readinto = readline = read  # type: ignore[assignment]


def test_strangers_bodies_are_not_read() -> None:
    """Without a token a body costs nothing: it is refused before it is read."""
    answer = client().post(
        "/who", input_stream=Unread(b"{}"), content_length=4_000_000, content_type="application/json"
    )
    assert answer.status_code == 401
