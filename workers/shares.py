"""How many trials each group of studies may run at once: one pure function of what is known at a moment.

Places are given one trial at a time. Strictly by priority first; among the owners of one priority to the one that has
least for its weight, counting by how much it is ahead and what it was given now; among that owner's studies in turn,
the one that waited longest first, so that the variants of a comparison interleave whatever groups they are in. A trial
has to fit on one node, and what it takes there is gone. Whoever fits nowhere, or has all its owner's quota allows, is
passed over, and the next one takes what is left: nothing stays free that somebody could use.

Nobody is stopped for fairness. A group that runs more than its share runs down to it, trial by trial.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from workers.capacity import Node, Packing, Place, Resources, amount


@dataclass(frozen=True)
class Quota:
    """Most that an owner's trials hold at once."""

    cpus: float = math.inf
    gpus: float = math.inf
    trials: float = math.inf

    def refuses(self, held: Resources, trials: int, more: Resources) -> str | None:
        """Which part leaves no room for a trial of ``more`` beside what is ``held``."""
        for kind, limit, would in (
            ("trial", self.trials, trials + 1),
            ("CPU", self.cpus, held.cpus + more.cpus),
            ("GPU", self.gpus, held.gpus + more.gpus),
        ):
            if would > limit + 1e-9:
                return f"{limit:g} {kind}" if limit == 1 else f"{limit:g} {kind}s"
        return None


@dataclass(frozen=True)
class Owner:
    weight: float = 1.0
    lead: float = 0.0
    """Seconds of the whole cluster, for a weight of 1, that it has had beyond whoever has had least."""
    quota: Quota = Quota()


@dataclass(frozen=True)
class Work:
    """A group that has unfinished studies."""

    id: str
    owner: str
    resources: Resources
    """Of one trial."""
    demand: int
    """Trials that could run now if there were room for all."""
    turns: tuple[float, ...]
    """Of each study at work: when it had a place last (seconds of any clock); before its first, when it was queued."""
    priority: int = 0
    live: int = 0
    """Trials that run now, or were sent to run."""
    running: tuple[Place, ...] = ()
    """Where those of them are that have a place."""
    pause: str | None = None
    """Why it may not run now whatever is free."""
    unready: bool = False
    """A study of it has not been prepared yet: its runner is to see whether the cluster can hold its trials at all."""


@dataclass(frozen=True)
class Share:
    max_live: int | None
    """None: not decided."""
    waiting: str | None = None
    """Why it has fewer places than it could use."""


HOLD = 5.0
"""Seconds of the whole cluster by which an owner may be ahead before places that it holds go to another: with each that
does, a process ends and another starts."""
EVEN = 300.0
"""Seconds in which a lead is to be made up: an owner who is ahead by a tenth of the cluster for so long gets a tenth
less."""


@dataclass
class _Account:
    """What an owner has been given so far."""

    owner: Owner
    live: int
    """Its trials that run now."""
    held: Resources = field(default_factory=Resources)
    trials: int = 0
    share: float = 0.0

    @property
    def standing(self) -> float:
        held = HOLD if self.trials < self.live else 0.0
        return self.owner.lead + (self.share * EVEN - held) / self.owner.weight


@dataclass
class _Line:
    """A group while places are given out."""

    work: Work
    given: int = 0
    obstacle: str | None = None
    turns: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.turns = sorted(self.work.turns) or [0.0]

    @property
    def turn(self) -> tuple:
        """Its next study's: each study of the owner has one place before any has two."""
        lap, study = divmod(self.given, len(self.turns))
        return lap, self.turns[study], self.work.id


def plan(
    nodes: Sequence[Node],
    groups: Iterable[Work],
    owners: Mapping[str, Owner],
    runners: float = math.inf,
    away: Sequence[Node] = (),
) -> dict[str, Share]:
    """A share for each group. ``runners``: groups that can have a process of their own at once. ``away``: nodes that
    may come back."""
    lines = sorted((_Line(work) for work in groups), key=lambda line: line.work.id)
    packing = Packing(node for node in nodes if node.usable)
    live: dict[str, int] = {}
    for line in lines:
        live[line.work.owner] = live.get(line.work.owner, 0) + line.work.live
    accounts = {name: _Account(owners.get(name, Owner()), running) for name, running in live.items()}
    for priority in sorted({line.work.priority for line in lines}, reverse=True):
        level = [line for line in lines if line.work.priority == priority]
        runners -= _share_out(level, packing, accounts, runners)
    _keep_quotas(lines, accounts)
    held = _Held.of(nodes, lines)
    return {line.work.id: _share(line, nodes, away, held) for line in lines}


def wants(nodes: Sequence[Node], groups: Iterable[Work], quota: Quota = Quota()) -> bool:
    """Whether an owner with these groups would run more if others ran less."""
    groups = list(groups)
    held = sum((work.resources * len(work.running) for work in groups), Resources())
    trials = sum(len(work.running) for work in groups)
    return any(
        work.demand > len(work.running)
        and not work.pause
        and quota.refuses(held, trials, work.resources) is None
        and any(node.usable and node.could_hold(work.resources) for node in nodes)
        for work in groups
    )


def undecided(groups: Iterable[Work], reason: str) -> dict[str, Share]:
    """No node is known yet: whoever comes may start."""
    return {work.id: Share(None, work.pause or reason) for work in groups}


def _share_out(level: list[_Line], packing: Packing, accounts: dict[str, _Account], runners: float) -> int:
    """Places of one priority; how many groups got any."""
    hungry: dict[str, list[_Line]] = {}
    for line in level:
        if line.work.pause:
            line.obstacle = line.work.pause
        elif line.work.demand:
            hungry.setdefault(line.work.owner, []).append(line)
    began = 0
    while hungry:
        owner = min(hungry, key=lambda name: (accounts[name].standing, name))
        line = min(hungry[owner], key=lambda line: line.turn)
        line.obstacle = _obstacle(line, packing, accounts[owner], runners - began)
        if line.obstacle is None:
            began += line.given == 0
            line.given += 1
            account, trial = accounts[owner], line.work.resources
            account.held, account.trials = account.held + trial, account.trials + 1
            account.share += packing.share(trial)
        if line.obstacle or line.given == line.work.demand:
            # What is free, and what is left of a quota, only ever shrinks: it need not be asked again.
            hungry[owner].remove(line)
            if not hungry[owner]:
                del hungry[owner]
    return began


def _obstacle(line: _Line, packing: Packing, account: _Account, runners: float) -> str | None:
    """Why the group gets no other place; None where it was given one."""
    if line.given == 0 and runners < 1:
        return "every runner process that the dispatchers may keep is in use"
    trial, quota = line.work.resources, account.owner.quota
    if limit := quota.refuses(Resources(), 0, trial):
        remedy = "raise it (owner_quotas), or ask for less"
        return f"a trial with {amount(trial)} exceeds the quota of {line.work.owner} ({limit} at once): {remedy}"
    if limit := quota.refuses(account.held, account.trials, trial):
        return f"the quota of {line.work.owner} ({limit} at once) is used up"
    return None if packing.place(trial) else "full"


def _keep_quotas(lines: list[_Line], accounts: dict[str, _Account]) -> None:
    """A quota holds at every moment: what a group still runs beyond its share is missing from what the owner's other
    groups may start now."""
    for name, account in accounts.items():
        if account.owner.quota == Quota():
            continue
        own = [line for line in lines if line.work.owner == name]
        held = sum((line.work.resources * line.work.live for line in own), Resources())
        trials = sum(line.work.live for line in own)
        for line in own:
            for have in range(line.work.live, line.given):
                if limit := account.owner.quota.refuses(held, trials, line.work.resources):
                    line.given = have
                    line.obstacle = f"the quota of {name} ({limit} at once) is used up until a trial ends"
                    break
                held, trials = held + line.work.resources, trials + 1


@dataclass(frozen=True)
class _Held:
    """What is in use now, whatever is planned."""

    free: Packing
    holders: str
    """Who holds what, the largest first, and to whom the next places go."""
    over: tuple[str, ...]
    """Owners of groups that run more than their shares."""

    @classmethod
    def of(cls, nodes: Sequence[Node], lines: Sequence[_Line]) -> "_Held":
        free, held = in_use(nodes, [line.work for line in lines]), {}
        for line in lines:
            trials, resources = held.get(line.work.owner, (0, Resources()))
            count = len(line.work.running)
            held[line.work.owner] = trials + count, resources + line.work.resources * count
        largest = sorted((-trials, name) for name, (trials, _) in held.items() if trials)[:3]
        told = [", ".join(f"{name} {amount(held[name][1])} in {_trials(-trials)}" for trials, name in largest)]
        over = sorted({line.work.owner for line in lines if len(line.work.running) > line.given})
        heirs = sorted({line.work.owner for line in lines if len(line.work.running) < line.given})
        if heirs:
            told.append(f"the next places go to {_some(heirs)}")
        return cls(free, "; ".join(part for part in told if part), tuple(over))


def in_use(nodes: Sequence[Node], groups: Iterable[Work]) -> Packing:
    """The nodes with what runs on them."""
    packing = Packing(node for node in nodes if node.usable)
    for work in groups:
        for place in work.running:
            packing.hold(place, work.resources)
    return packing


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (" and others" if len(names) > 3 else "")


def _share(line: _Line, nodes: Sequence[Node], away: Sequence[Node], held: _Held) -> Share:
    due = line.given - len(line.work.running)
    if due > 0 and not held.free.fits(line.work.resources):
        return Share(line.given, promised(line.given, due, held.over))
    if line.obstacle is None:
        return Share(line.given)
    if line.obstacle != "full":
        reason = line.obstacle
    elif not any(node.could_hold(line.work.resources) for node in nodes):
        returns = any(node.could_hold(line.work.resources) for node in away)
        # A study that was never prepared fails, once its runner has waited for such a node.
        max_live = None if line.work.unready and not returns else 0
        trial = f"large enough for a trial with {amount(line.work.resources)}"
        return Share(max_live, f"every node that is {trial} is away" if returns else f"no node is {trial}")
    elif not any(node.usable and node.could_hold(line.work.resources) for node in nodes):
        reason = f"every node that is large enough for a trial with {amount(line.work.resources)} is in quarantine"
    else:
        reason = f"the cluster is full: {held.holders}"
    if line.given > 0:
        reason = f"{line.given} of {_trials(line.work.demand)} may run: {reason}"
    return Share(line.given, reason)


def promised(given: int, due: int, holders: Sequence[str]) -> str:
    """Why a group has not yet what it was given."""
    places = "1 place" if given == 1 else f"{given} places"
    free = f"{due} of them free" if due < given else "free"
    return f"has {places}, {free} as soon as {f'trials of {_some(holders)} end' if holders else 'there is room'}"


def _trials(number: int) -> str:
    return f"{number} trial" if number == 1 else f"{number} trials"
