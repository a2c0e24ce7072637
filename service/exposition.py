"""The text format of Prometheus."""

from collections.abc import Iterable

from fastapi import Response
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest


class Exposition(Response):
    media_type = CONTENT_TYPE_PLAIN_0_0_4


def of_registry(registry: CollectorRegistry) -> Exposition:
    return Exposition(generate_latest(registry))


def of_families(families: Iterable[Metric]) -> Exposition:
    """These alone, nothing of the process."""
    registry = CollectorRegistry()
    registry.register(_Families(families))
    return of_registry(registry)


class _Families:
    def __init__(self, families: Iterable[Metric]):
        self._families = families

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterable[Metric]:
        return self._families
