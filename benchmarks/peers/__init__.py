"""The servers that are measured beside each other, each behind the same few questions; see `base`."""

from benchmarks.peers.base import Peer
from benchmarks.peers.litellm import LiteLLM
from benchmarks.peers.open_webui import OpenWebUI
from benchmarks.peers.ours import SelfAgent

PEERS: tuple[type[Peer], ...] = (SelfAgent, LiteLLM, OpenWebUI)

__all__ = ["PEERS", "Peer"]
