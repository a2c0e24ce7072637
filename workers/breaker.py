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
    """A study whose trials have counted nowhere is as likely at fault as the node: it keeps away from the node itself,
    and says nothing against it to others."""

    _streaks: dict[str, dict[Hashable, tuple[str, str]]] = field(default_factory=dict)
    """By node: attempts that failed there since the last one that counted; of which study, and how."""
    _worked: dict[str, set[str]] = field(default_factory=dict)
    """By study: nodes on which one of its attempts has counted."""

    def told(self, node: str, study_id: str, attempt: Hashable, outcome: Outcome, words: str = "") -> None:
        """An attempt has ended on the node. One that was cancelled says nothing of it."""
        if outcome.counts:
            self._streaks.pop(node, None)
            self._worked.setdefault(study_id, set()).add(node)
        elif outcome in _AT_FAULT:
            how = f"{outcome} ({words})" if words else str(outcome)
            self._streaks.setdefault(node, {})[attempt] = (study_id, how)

    @property
    def suspects(self) -> list[str]:
        return [node for node, streak in self._streaks.items() if len(streak) >= STREAK]

    def shunned(self, study_id: str, possible: Set[str]) -> frozenset[str]:
        """Nodes on which a streak of the study's own attempts has failed, as long as there is a ``possible`` one on
        which none has."""
        failed = Counter({n: sum(of == study_id for of, _ in streak.values()) for n, streak in self._streaks.items()})
        bad = frozenset(node for node, times in failed.items() if times >= STREAK)
        return bad if any(not failed[other] for other in possible) else frozenset()

    def blame(self, possible: Set[str]) -> dict[str, str]:
        """Nodes that everybody is to leave alone, and why; each is told once, and starts afresh.

        ``possible``: nodes that could run such a trial. Only attempts of studies that have counted on another one speak
        against a node, and not while that one is failing as well: then it is the study, or what all nodes share. The
        study's own cap ends it in that case.
        """
        blamed, working = {}, possible - self._streaks.keys()
        for node in self.suspects:
            streak = [how for of, how in self._streaks[node].values() if working & self._worked.get(of, set())]
            if len(streak) >= STREAK:
                del self._streaks[node]
                blamed[node] = f"{len(streak)} trials in a row ended there without counting: {_tally(streak)}"
        return blamed


def _tally(words: Iterable[str]) -> str:
    return ", ".join(f"{count} {word}" for word, count in Counter(words).most_common())
