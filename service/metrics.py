"""Prometheus: the numbers of the database, read when they are asked for, and those of this process."""

from collections.abc import Iterable, Iterator
from decimal import Decimal
from http import HTTPMethod

from prometheus_client import CollectorRegistry, Counter, GCCollector, Histogram, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from mudman.results import Outcome
from service.store import gauges
from service.store.database import Database, DatabaseNotMigrated, DatabaseUnavailable
from service.store.gauges import Gauges, Held, Usage
from service.store.migrate import is_current

NO_ROUTE = "none"
"""Of addresses that lead nowhere there is no end."""
_METHODS = frozenset(HTTPMethod)
_BUCKETS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)


class Metrics:
    """Of one process of the API."""

    def __init__(self, database: Database, dispatcher_lives: float):
        """``dispatcher_lives``: seconds after which a dispatcher that was not seen counts as gone."""
        self.registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self.registry)
        self._requests = Histogram(
            "mudman_http_request_duration_seconds",
            "Seconds from a request to the end of its answer",
            ("method", "route", "status"),
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self._exceptions = Counter(
            "mudman_http_exceptions", "Requests that ended in an unexpected error", ("route",), registry=self.registry
        )
        self.registry.register(_OfTheDatabase(database, dispatcher_lives))

    def expect(self, routes: Iterable[str]) -> None:
        """Where nothing has gone wrong yet: a rate needs a beginning, or the first error is none."""
        for route in (*routes, NO_ROUTE):
            self._exceptions.labels(route)

    def observe(self, method: str, route: str, status: int, seconds: float, raised: BaseException | None) -> None:
        method = method if method in _METHODS else "other"  # of those that clients make up there is no end
        self._requests.labels(method, route, str(status)).observe(seconds)
        if isinstance(raised, Exception):
            self._exceptions.labels(route).inc()


class _OfTheDatabase:
    """While the database is away, or not this version's, nothing of it is said but that."""

    def __init__(self, database: Database, dispatcher_lives: float):
        self._database, self._dispatcher_lives = database, dispatcher_lives

    def describe(self) -> list[Metric]:
        """Nothing, so that registering asks no database."""
        return []

    def collect(self) -> Iterator[Metric]:
        try:
            with self._database.begin() as session:
                if not is_current(session):
                    raise DatabaseNotMigrated("The database does not have this version's tables.")
                read = gauges.read(session, self._dispatcher_lives)
        except DatabaseUnavailable as error:
            yield from condition(error)
            return
        yield from condition()
        yield from families(read)


def condition(error: DatabaseUnavailable | None = None) -> Iterator[Metric]:
    """Of the database. ``error``: what asking it has ended in."""
    current = error is None
    up = current or isinstance(error, DatabaseNotMigrated)
    yield _one("mudman_database_up", "Whether the database answers", up)
    if up:
        yield _one("mudman_database_current", "Whether the database has this version's tables", current)


def families(read: Gauges) -> Iterator[Metric]:
    leases, nodes = read.leases, read.nodes
    yield _by("mudman_studies", "Studies", "state", read.studies)
    yield _one("mudman_queue_length", "Studies that wait for their first runner", read.studies["queued"])
    yield _one("mudman_queue_oldest_wait_seconds", "How long the first of them has waited", read.queue.oldest_wait)
    by_lease = {
        "held": leases.held,
        "expired": leases.expired,
        "unclaimed": leases.unclaimed,
        "resting": leases.resting,
    }
    yield _by("mudman_groups", "Groups with unfinished studies, by the state of their lease", "lease", by_lease)
    yield _one(
        "mudman_groups_without_share", "Groups that no trial may run of: others come first", leases.without_share
    )
    if leases.least_remaining is not None:
        yield _one(
            "mudman_lease_least_remaining_seconds",
            "Seconds until the next lease expires; below 0 since it has",
            leases.least_remaining,
        )
    yield _one("mudman_trials_live", "Attempts that run or wait for a place", read.live_trials)
    yield from _counters(read.usage, read.owners)
    yield from _holdings(read.held, read.owners)
    by_node = {"alive": nodes.alive - nodes.quarantined, "quarantined": nodes.quarantined, "gone": nodes.gone}
    yield _by("mudman_nodes", "Nodes that can run trials, as they were seen last", "state", by_node)
    yield _by(
        "mudman_node_resources", "What the nodes that are alive have", "kind", {"cpu": nodes.cpus, "gpu": nodes.gpus}
    )
    yield _one("mudman_dispatchers", "Dispatchers that are alive", read.dispatchers)
    if read.dispatcher_age is not None:
        yield _one("mudman_dispatcher_last_seen_seconds", "Since any dispatcher was seen", read.dispatcher_age)


def _counters(usage: list[Usage], owners: Iterable[str]) -> Iterator[Metric]:
    trials = _sums("outcome", usage, "attempts", Outcome)
    seconds = _sums("outcome", usage, "seconds", Outcome)
    cores, gpus = _sums("owner", usage, "core_seconds", owners), _sums("owner", usage, "gpu_seconds", owners)
    yield _counter("mudman_trials", "Attempts that have ended", "outcome", trials)
    yield _counter("mudman_trial_seconds", "Seconds that they took", "outcome", seconds)
    yield _counter("mudman_core_seconds", "Cores held by attempts that have ended, times seconds", "owner", cores)
    yield _counter("mudman_gpu_seconds", "GPUs held by attempts that have ended, times seconds", "owner", gpus)


def _holdings(held: list[Held], owners: Iterable[str]) -> Iterator[Metric]:
    cores, gpus = _sums("owner", held, "cores", owners), _sums("owner", held, "gpus", owners)
    yield _by("mudman_cores_held", "Cores held by attempts that run", "owner", cores)
    yield _by("mudman_gpus_held", "GPUs held by attempts that run", "owner", gpus)


def _sums(by: str, rows: Iterable[Usage | Held], of: str, every: Iterable[str]) -> dict[str, Decimal | float]:
    """Also where nothing occurred: a rate needs a beginning."""
    sums: dict[str, Decimal | float] = dict.fromkeys(every, 0)
    for row in rows:
        key = getattr(row, by)
        sums[key] = sums.get(key, 0) + getattr(row, of)
    return sums


def _counter(name: str, words: str, label: str, values: dict[str, Decimal | float]) -> Metric:
    family = CounterMetricFamily(name, words, labels=(label,))
    for key, value in sorted(values.items()):
        family.add_metric((str(key),), value)
    return family


def _one(name: str, words: str, value: float) -> Metric:
    return GaugeMetricFamily(name, words, value)


def _by(name: str, words: str, label: str, values: dict[str, float]) -> Metric:
    family = GaugeMetricFamily(name, words, labels=(label,))
    for key, value in values.items():
        family.add_metric((key,), value)
    return family
