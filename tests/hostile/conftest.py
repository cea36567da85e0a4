"""How long the search for trouble takes: a few seconds and the same every time, unless somebody asks for more.

`pytest tests/hostile --hypothesis-profile=hunt` searches at random, and a hundred times as long.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from core import clock, files

QUIET = list(HealthCheck)  # inputs are large on purpose, and fixtures that all examples share are meant to be shared

settings.register_profile("hunt", max_examples=20_000, deadline=None, suppress_health_check=QUIET)


def examples(count: int) -> Callable[[Any], Any]:
    """Run a property with so many examples, the same in every run; the `hunt` profile decides for itself."""

    def decorate(test: Any) -> Any:
        if settings.get_current_profile_name() == "hunt":
            return settings()(test)
        return settings(max_examples=count, derandomize=True, deadline=None, suppress_health_check=QUIET)(test)

    return decorate


def within(seconds: float, call: Callable[[], Any]) -> Any:
    """Return what `call` returns; one that hangs is a failure and not a test run that never ends."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append((call(), None))
        except BaseException as error:
            outcome.append((None, error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    assert outcome, f"no end after {seconds} s"
    value, error = outcome[0]
    if error is not None:
        raise error
    return value


class Unsynced(files.Operations):
    """A disk that does not make us wait: nobody cuts its power here."""

    def sync(self, fd: int) -> None:
        pass

    def sync_folder(self, fd: int) -> None:
        pass


@pytest.fixture(autouse=True, scope="module")
def without_traces() -> Iterator[None]:
    """Use a fast disk, and keep files from the future from setting the clock of other tests."""
    operations, last = files.operations, clock._last
    files.operations = Unsynced()
    yield
    files.operations, clock._last = operations, last
