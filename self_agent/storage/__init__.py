"""Where conversations are kept: one contract, several implementations, one test suite over all."""

from self_agent.storage.base import Store

__all__ = ["Store"]
