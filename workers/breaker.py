"""A node on which everything fails: pure bookkeeping over the ends of attempts, without Ray or clock."""

from collections import Counter
from collections.abc import Hashable, Iterable, Set
from dataclasses import dataclass, field

from mudman.results import Outcome

STREAK = 5
"""Attempts in a row on one node, none of which counts, after which it is held for broken."""
_AT_FAULT = frozenset({Outcome.ERROR, Outcome.LOST, Outcome.OUT_OF_MEMORY})


@dataclass
class Breaker:
    _streaks: dict[str, dict[Hashable, str]] = field(default_factory=dict)
    """By node: attempts that failed there since the last one that counted, and how."""

    def told(self, node: str, attempt: Hashable, outcome: Outcome, words: str = "") -> None:
        """An attempt has ended on the node. One that was cancelled says nothing of it."""
        if outcome.counts:
            self._streaks.pop(node, None)
        elif outcome in _AT_FAULT:
            self._streaks.setdefault(node, {})[attempt] = f"{outcome} ({words})" if words else str(outcome)

    @property
    def suspects(self) -> list[str]:
        return [node for node, streak in self._streaks.items() if len(streak) >= STREAK]

    def blame(self, possible: Set[str]) -> dict[str, str]:
        """Nodes that are to be left alone, and why; each is told once, and starts afresh.

        ``possible``: nodes that could run such a trial. Without another one that is not failing as well, it is not the
        node that is at fault: the study's own cap ends it then.
        """
        blamed = {}
        for node in self.suspects:
            if any(other not in self._streaks for other in possible - {node}):
                streak = self._streaks.pop(node)
                blamed[node] = f"{len(streak)} trials in a row ended there without counting: {_tally(streak.values())}"
        return blamed


def _tally(words: Iterable[str]) -> str:
    return ", ".join(f"{count} {word}" for word, count in Counter(words).most_common())
