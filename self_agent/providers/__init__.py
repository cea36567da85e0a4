"""Where replies come from: one contract, an implementation for each way to reach a model."""

from core.config import Settings
from self_agent.providers.base import Provider

__all__ = ["Provider", "from_settings"]


def from_settings(settings: Settings) -> Provider:
    """Return the provider that the settings ask for; `auto` is an upstream if one is set, else the embedded model."""
    kind = settings.provider
    if kind == "auto":
        kind = "openai" if settings.openai_base_url or settings.openai_api_key else "local"
    if kind == "local" and settings.local_model == "none" and not settings.local_model_path:
        kind = "none"
    return _KINDS[kind](settings)


def _openai(settings: Settings) -> Provider:
    from self_agent.providers.openai.provider import OpenAICompatible

    return OpenAICompatible(
        settings.openai_base_url or "https://api.openai.com/v1",
        api_key=settings.openai_api_key,
        takes_callers_keys=settings.caller_keys,
        model=settings.openai_model,
        connect_timeout=settings.connect_timeout,
        read_timeout=settings.read_timeout,
        retries=settings.retries,
    )


def _local(settings: Settings) -> Provider:
    from self_agent.providers.local.provider import local_model

    return local_model(settings)


def _echo(settings: Settings) -> Provider:
    from self_agent.providers.echo import Echo

    return Echo()


def _none(settings: Settings) -> Provider:
    from self_agent.providers.none import NoModel

    return NoModel()


_KINDS = {"openai": _openai, "local": _local, "echo": _echo, "none": _none}
