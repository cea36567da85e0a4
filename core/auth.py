"""Who asks: one hook before every request, off unless AUTH_ENABLED says otherwise.

Off, every request is the one local user's. On, a request needs `Authorization: Bearer <JWT>`, signed with
JWT_SECRET by JWT_ALGORITHM, not expired, with the user's id in `sub`. A WebSocket may carry the token as
`?token=`, because a browser cannot set headers on it.
"""

from __future__ import annotations

import math
from collections.abc import Collection

import jwt
from flask import Flask, g, request

from core.config import Settings
from core.errors import Unauthorized


def install(
    app: Flask,
    settings: Settings,
    *,
    local_user: str,
    public: Collection[str] = (),
    public_views: Collection[str] = (),
) -> None:
    """Set `g.user_id` before every request; the `public` paths need no token, nor do the views that are named by
    `public_views` (Flask's endpoints). A preflight never has one.

    `g.expires` is until when it is the user's, in seconds since the epoch. `g.auth_enabled` says what the
    `Authorization` header is for: our token, or whatever a dialect reads in it.
    """

    @app.before_request
    def authenticate() -> None:
        g.auth_enabled = settings.auth_enabled
        g.expires = math.inf
        if not settings.auth_enabled:
            g.user_id = local_user
        elif request.method != "OPTIONS" and request.path not in public and request.endpoint not in public_views:
            g.user_id, g.expires = user_of(_token(), settings)


def user_of(token: str, settings: Settings) -> tuple[str, float]:
    """Return the user a token was made for, and when it expires. Raises Unauthorized with the reason."""
    try:
        claims = jwt.decode(
            token, settings.jwt_secret, algorithms=[settings.jwt_algorithm], options={"require": ["exp", "sub"]}
        )
    except jwt.ExpiredSignatureError:
        raise Unauthorized("the token has expired; sign in again") from None
    except jwt.MissingRequiredClaimError as error:
        raise Unauthorized(f"the token lacks the claim {error.claim!r}") from None
    except jwt.PyJWTError:
        raise Unauthorized("the token is not valid") from None
    user = claims["sub"]
    if not user.strip():
        raise Unauthorized("the token's 'sub' names no user")
    return str(user), float(claims["exp"])


def _token() -> str:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    if request.headers.get("Upgrade", "").lower() == "websocket" and request.args.get("token"):
        return request.args["token"]
    raise Unauthorized("a token is required: send it as 'Authorization: Bearer <token>'")
