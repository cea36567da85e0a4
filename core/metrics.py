"""What is counted while requests are served, cheaply; Prometheus' own library writes it down when it is asked for.

Every label has few values, and none that a client chooses: each set of them is kept as long as the process lives.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from typing import Any

Labels = tuple[str, ...]

QUICK = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)  # seconds, of the disk
USUAL = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)  # of a request
LONG = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)  # of a model


class Count:
    """How often something happened, by its labels."""

    def __init__(self, name: str, help: str, labels: Labels) -> None:
        self.name, self.help, self.labels = name, help, labels
        self._lock = threading.Lock()
        self._counts: dict[Labels, int] = {}

    def add(self, values: Labels, amount: int = 1) -> None:
        """Count it."""
        with self._lock:
            self._counts[values] = self._counts.get(values, 0) + amount

    def family(self) -> Any:
        """Return what Prometheus' library takes."""
        from prometheus_client.core import CounterMetricFamily

        family = CounterMetricFamily(self.name, self.help, labels=self.labels)
        with self._lock:
            counts = dict(self._counts)
        for values, count in sorted(counts.items()):
            family.add_metric(values, count)
        return family


class Times:
    """How long something took, by its labels: how often up to each of some bounds, and in all."""

    def __init__(self, name: str, help: str, labels: Labels, bounds: tuple[float, ...]) -> None:
        self.name, self.help, self.labels, self.bounds = name, help, labels, bounds
        self._lock = threading.Lock()
        self._seen: dict[Labels, list[float]] = {}  # how often in each bucket; the last of the list is the sum

    def add(self, values: Labels, seconds: float) -> None:
        """Note that it took so long."""
        bucket = bisect_left(self.bounds, seconds)
        with self._lock:
            seen = self._seen.get(values) or self._seen.setdefault(values, [0.0] * (len(self.bounds) + 2))
            seen[bucket] += 1
            seen[-1] += seconds

    def family(self) -> Any:
        """Return what Prometheus' library takes."""
        from prometheus_client.core import HistogramMetricFamily

        family = HistogramMetricFamily(self.name, self.help, labels=self.labels)
        with self._lock:
            seen = {values: list(times) for values, times in self._seen.items()}
        for values, (*counts, total) in sorted(seen.items()):
            sums = [sum(counts[: end + 1]) for end in range(len(counts))]
            names = [*map(str, self.bounds), "+Inf"]
            family.add_metric(values, list(zip(names, sums, strict=True)), total)
        return family


class Now:
    """What is so at the moment, by its labels; looked at when somebody asks."""

    def __init__(self, name: str, help: str, labels: Labels, look: Callable[[], dict[Labels, int]]) -> None:
        self.name, self.help, self.labels, self._look = name, help, labels, look

    def family(self) -> Any:
        """Return what Prometheus' library takes."""
        from prometheus_client.core import GaugeMetricFamily

        family = GaugeMetricFamily(self.name, self.help, labels=self.labels)
        for values, count in self._look().items():
            family.add_metric(values, count)
        return family


class Page:
    """All that is measured, as the text that Prometheus reads."""

    def __init__(self, measured: Iterable[Count | Times | Now]) -> None:
        from prometheus_client import CollectorRegistry, ProcessCollector

        self._measured = tuple(measured)
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)  # it asks for `collect` alone
        ProcessCollector(registry=self._registry)  # memory, processor time, open files; on Linux

    def collect(self) -> Iterator[Any]:
        """Yield the families; called by Prometheus' library."""
        return (one.family() for one in self._measured)

    def text(self) -> bytes:
        """Return the page, in the format 0.0.4."""
        from prometheus_client import generate_latest

        return generate_latest(self._registry)
