"""Which figures there are. No drawing: the command line and the views need the names alone."""

from enum import StrEnum


class OfStudy(StrEnum):
    history = "history"
    slice = "slice"
    importance = "importance"
    curves = "curves"
    dynamics = "dynamics"
    times = "times"


class OfComparison(StrEnum):
    bars = "bars"
    curves = "curves"
    dynamics = "dynamics"
    times = "times"
