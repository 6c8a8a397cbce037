"""What the service counts, for Prometheus. No label holds a name, a file or a patient."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Measures:
    """The counts of one server."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()

        def counter(name: str, words: str, *labels: str) -> Counter:
            return Counter(f"fetalflow_serve_{name}", words, labels, registry=registry)

        def gauge(name: str, words: str, *labels: str) -> Gauge:
            return Gauge(f"fetalflow_serve_{name}", words, labels, registry=registry)

        self.requests = counter("requests", "Requests that were read, by verb and status.", "verb", "status")
        self.refused = counter("refused", "Requests refused before they were read whole, by status.", "status")
        self.unfamiliar = counter("unfamiliar", "Answers to inputs unlike the training data.", "task")
        self.workers_replaced = counter("workers_replaced", "Workers that died or took too long.")
        self.swaps = counter("swaps", "Times that other versions took over.")
        self.failed_swaps = counter("failed_swaps", "Times that a new version could not be loaded.")
        self.failed_looks = counter("failed_looks", "Times that the registry could not be read.")
        self.shadowed = counter("shadowed", "Answers of a challenger in shadow, by what became of them.", "outcome")
        self.unrecorded = counter("unrecorded", "Answers that the log could not take.")
        self.waiting = gauge("admitted", "Requests that are admitted and not yet answered.")
        self.streams = gauge("streams", "Open streams.")
        self.model = gauge("model", "1 for every version that answers.", "task", "name", "version", "alias", "role")
        self.seconds = Histogram(
            "fetalflow_serve_seconds", "Seconds from the request to its answer.", ["verb"], buckets=SECONDS,
            registry=registry,
        )  # fmt: skip

    def text(self) -> bytes:
        """The page for Prometheus."""
        return generate_latest(self._registry)
