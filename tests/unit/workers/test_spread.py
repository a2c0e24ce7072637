"""Every study of a group runs on every device, however many run at once and however fast each device is."""

import heapq
from collections import Counter

import pytest

from workers.spread import Spread


def run(studies: int, speeds: list[float], trials: int) -> tuple[Counter, float]:
    """Each study has one trial at a time, on devices of these speeds: trials by (study, device), and which part of the
    devices' time was idle until the first study had all its trials."""
    spread, had = Spread(), Counter()
    ready, busy, running = [str(n) for n in range(studies)], {}, []
    free, now, idle = set(range(len(speeds))), 0.0, 0.0
    while True:
        for device in sorted(free):
            others = {str(at) for at in busy}
            if (study := next((one for one in ready if spread.suits(one, str(device), others)), None)) is not None:
                ready.remove(study)
                spread.begins(study, str(device))
                busy[device] = study
                free.remove(device)
                heapq.heappush(running, (now + 1 / speeds[device], device))
        then, device = heapq.heappop(running)
        idle, now = idle + len(free) * (then - now), then
        study = busy.pop(device)
        had[study, device] += 1
        free.add(device)
        ready.append(study)
        if sum(had[study, at] for at in range(len(speeds))) == trials:
            return had, idle / (now * len(speeds))


def farthest(had: Counter, studies: int, devices: int) -> float:
    """By how much a study's share of a device differs from that of all its trials that the device has run, at most."""
    total = had.total()

    def share(study: str, device: int) -> float:
        return had[study, device] / sum(had[study, at] for at in range(devices))

    everybody = [sum(had[str(study), device] for study in range(studies)) / total for device in range(devices)]
    return max(abs(share(str(s), d) - everybody[d]) for s in range(studies) for d in range(devices))


@pytest.mark.parametrize("speeds", [[1.0, 1.0], [1.0, 1.5], [1.0, 0.97], [1.0, 1.1, 0.9, 1.3]])
def test_as_many_studies_as_devices_run_on_all_of_them(speeds):
    had, idle = run(len(speeds), speeds, 100)
    assert farthest(had, len(speeds), len(speeds)) < 0.1
    assert idle < 0.08, "a change of places now and then, at the pace of the slower"


@pytest.mark.parametrize("studies", [3, 5])
def test_more_studies_than_devices_do_too_and_none_is_idle_for_it(studies):
    had, idle = run(studies, [1.0, 1.5], 100)
    assert farthest(had, studies, 2) < 0.1
    assert idle < 0.02


def test_a_single_study_waits_for_nothing():
    spread = Spread()
    for _ in range(10):
        assert spread.suits("a", "0", [])
        spread.begins("a", "0")
