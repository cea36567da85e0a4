"""The environment is read here and nowhere else, once, into a frozen `Settings`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from dotenv import dotenv_values

from core.errors import StartupError

TRUE = frozenset({"1", "true", "yes", "on"})
FALSE = frozenset({"0", "false", "no", "off", ""})


def _setting(default: Any, doc: str) -> Any:
    return field(default=default, metadata={"doc": doc})


@dataclass(frozen=True)
class Settings:
    """Everything that can be set from outside; the environment variable is the field's name in capitals."""

    host: str = _setting("127.0.0.1", "address to listen on; anything but loopback is reachable by others")
    port: int = _setting(5000, "port to listen on")
    data_dir: Path = _setting(Path("data"), "folder of the conversations; one server owns it at a time")
    store: str = _setting("json_files", "json_files; or memory, which forgets everything when the server stops")
    database_url: str = _setting("", "postgresql://user:password@host/name: keep everything there, not in files")
    keep_deleted_days: int = _setting(30, "how long what is deleted can be restored; 0: it is gone at once")
    log_dir: Path = _setting(Path("logs"), "folder of the log files")
    log_level: str = _setting("INFO", "DEBUG, INFO, WARNING or ERROR")
    log_format: str = _setting("text", "text; or json: an object a line, for programs that collect logs")
    metrics: bool = _setting(True, "serve /metrics for Prometheus, to this computer or with a token")
    debug: bool = _setting(False, "use the development server and reload on changes")
    threads: int = _setting(4096, "requests, streams and sockets that can be open at the same time")
    grace_seconds: float = _setting(10.0, "how long running replies may go on after SIGTERM or Ctrl-C")
    drain_seconds: float = _setting(0.0, "how long all is still served after SIGTERM while /readyz says 503")
    max_body_bytes: int = _setting(4_000_000, "largest request body; a larger one gets 413")
    max_import_bytes: int = _setting(2_000_000_000, "largest file that is taken in by POST /api/v1/import")
    max_reply_bytes: int = _setting(4_000_000, "longest reply; a longer one is stopped there, and kept as incomplete")
    dialects: str = _setting("", "which dialects are served, each with an optional prefix; empty is all of them")
    page: bool = _setting(True, "serve the chat page at /; false is a plain page there")
    libraries_registry: str = _setting(
        "", "registry of npm packages to fetch the page's libraries from; empty is https://registry.npmjs.org"
    )
    cors_origins: str = _setting("", "further origins that may call, comma-separated; local ones always may")
    allowed_hosts: str = _setting("", "further names this server is reached by, comma-separated; local ones always are")
    auth_enabled: bool = _setting(False, "require a JWT in every request")
    jwt_secret: str = _setting("", "key of the tokens, at least 32 bytes")
    jwt_algorithm: str = _setting("HS256", "HS256, HS384 or HS512")
    provider: str = _setting(
        "auto", "auto, openai, local, echo or none; auto is openai when one of its settings is set, else local"
    )
    openai_base_url: str = _setting("", "an OpenAI-compatible API, such as https://api.poe.com/v1")
    openai_api_key: str = _setting("", "the key for it")
    caller_keys: bool = _setting(
        False, "pass every caller's key on; otherwise only poe-sk-… keys replace the server's own, if it has one"
    )
    openai_model: str = _setting("", "the model to ask for when a request names none")
    connect_timeout: float = _setting(10.0, "seconds to wait for a connection to the model's server")
    read_timeout: float = _setting(120.0, "seconds of silence from the model's server before giving up")
    retries: int = _setting(2, "how often a 429, a 5xx or a refused connection is tried again before the first token")
    context_tokens: int = _setting(0, "tokens that history and reply may take together; 0 is the provider's own")
    system_prompt: str = _setting("", "instructions for every conversation that has none of its own")
    auto_title: bool = _setting(False, "have the model name each chat after its first reply, unless it has a name")
    local_model: str = _setting("qwen2.5-coder-1.5b", "the embedded model: qwen2.5-coder-1.5b, smollm2-135m or none")
    local_model_path: str = _setting("", "a GGUF file to use as the embedded model instead")

    def __post_init__(self) -> None:
        for name, low, high in _RANGES:
            if not low <= getattr(self, name) <= high:
                raise StartupError(f"{name.upper()} must be between {low:g} and {high:g}, not {getattr(self, name)!r}")
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise StartupError(f"{name.upper()} must be one of {', '.join(choices)}, not {getattr(self, name)!r}")
        if self.auth_enabled and len(self.jwt_secret.encode()) < 32:
            raise StartupError(
                "AUTH_ENABLED needs a JWT_SECRET of at least 32 bytes; "
                'make one with: python -c "import secrets; print(secrets.token_hex(32))"'
            )

    def __repr__(self) -> str:
        """Show the settings without the secrets, so that a log line or traceback cannot leak them."""
        shown = (
            f"{f.name}={'***' if f.name in SECRETS and getattr(self, f.name) else repr(getattr(self, f.name))}"
            for f in fields(self)
        )
        return f"Settings({', '.join(shown)})"

    def listed(self, name: str) -> list[str]:
        """Split a comma-separated setting."""
        return [part.strip() for part in getattr(self, name).split(",") if part.strip()]


SECRETS = frozenset({"jwt_secret", "openai_api_key", "libraries_registry", "database_url"})  # a URL may have a password
_RANGES = (
    ("port", 0, 65535),
    ("threads", 4, 65536),
    ("grace_seconds", 0, 3600),
    ("drain_seconds", 0, 3600),
    ("max_body_bytes", 1000, 1_000_000_000),
    ("max_import_bytes", 1000, 1_000_000_000_000),
    ("max_reply_bytes", 1000, 1_000_000_000),
    ("keep_deleted_days", 0, 36_500),
    ("connect_timeout", 0.1, 3600),
    ("read_timeout", 0.1, 86400),
    ("retries", 0, 10),
    ("context_tokens", 0, 10_000_000),
)
_CHOICES = {
    "log_level": ("DEBUG", "INFO", "WARNING", "ERROR"),
    "log_format": ("text", "json"),
    "jwt_algorithm": ("HS256", "HS384", "HS512"),
    "provider": ("auto", "openai", "local", "echo", "none"),
}


def load(overrides: Mapping[str, Any] | None = None, *, env_file: Path | None = Path(".env")) -> Settings:
    """Read the settings: `overrides` before the environment before `env_file` before the defaults.

    Raises StartupError that names the variable when a value cannot be read.
    """
    texts: dict[str, str] = {}
    if env_file is not None and env_file.is_file():
        texts.update({key: value for key, value in dotenv_values(env_file).items() if value is not None})
    texts.update(os.environ)
    values: dict[str, Any] = {}
    for item in fields(Settings):
        text = texts.get(item.name.upper())
        if text is not None and text.strip() != "":
            values[item.name] = _parse(item.name.upper(), text.strip(), item.default)
    values.update({key: value for key, value in (overrides or {}).items() if value is not None})
    return Settings(**values)


def _parse(name: str, text: str, default: Any) -> Any:
    if isinstance(default, bool):
        if text.lower() not in TRUE | FALSE:
            raise StartupError(f"{name} must be true or false, not {text!r}")
        return text.lower() in TRUE
    if isinstance(default, (int, float)):
        try:
            return type(default)(text)
        except ValueError:
            raise StartupError(f"{name} must be a number, not {text!r}") from None
    return Path(text).expanduser() if isinstance(default, Path) else text
