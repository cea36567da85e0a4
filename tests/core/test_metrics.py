"""What is counted comes out in the text that Prometheus reads."""

from __future__ import annotations

import threading

from prometheus_client.parser import text_string_to_metric_families

from core.metrics import Count, Now, Page, Times


def samples(page: Page) -> dict[tuple[str, ...], float]:
    """Return the values by name and labels, as Prometheus' own reader finds them."""
    families = text_string_to_metric_families(page.text().decode())
    return {(s.name, *s.labels.values()): s.value for family in families for s in family.samples}


def test_counts() -> None:
    """How often, by label, any text in these."""
    count = Count("n", "Help.", ("kind",))
    count.add(("a",))
    count.add(("a",), 41)
    count.add(('odd "\n\\ 你',))
    found = samples(Page([count]))
    assert found["n_total", "a"] == 42
    assert found["n_total", 'odd "\n\\ 你'] == 1


def test_times() -> None:
    """Each is in the buckets from its own on, a bound included; sum and count are of all."""
    times = Times("t", "Help.", ("kind",), (0.1, 1.0))
    for seconds in (0.05, 0.1, 0.5, 7.0):
        times.add(("a",), seconds)
    found = samples(Page([times]))
    assert [found["t_bucket", "a", bound] for bound in ("0.1", "1.0", "+Inf")] == [2, 3, 4]
    assert found["t_count", "a"] == 4
    assert round(found["t_sum", "a"], 6) == 7.65


def test_now() -> None:
    """What is so now is looked at each time."""
    values = iter([1, 2])
    page = Page([Now("g", "Help.", (), lambda: {(): next(values)})])
    assert samples(page)["g",] == 1
    assert samples(page)["g",] == 2


def test_nothing_counted_is_a_page() -> None:
    """Before the first event the page can be read."""
    assert b"# TYPE n_total counter" in Page([Count("n", "Help.", ("kind",)), Times("t", "Help.", (), (1.0,))]).text()


def test_none_is_lost_between_threads() -> None:
    """Threads that count at once lose nothing."""
    count, times = Count("n", "Help.", ()), Times("t", "Help.", (), (1.0,))

    def work() -> None:
        for _ in range(2000):
            count.add(())
            times.add((), 0.5)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = samples(Page([count, times]))
    assert found["n_total",] == found["t_count",] == found["t_sum",] * 2 == 8000
