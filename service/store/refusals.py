"""Why something that was asked for a study is refused, where its state alone does not say it."""

from mudman.faults import MudmanError, SpecError


class WrongRequest(SpecError):
    """The body of an action has wrong fields."""


class NothingToRetry(MudmanError):
    """None of the trials that were named, or none at all, may get another attempt."""


class NoRoom(MudmanError):
    """The study's budget has no place for what was enqueued."""


class NotFinished(MudmanError):
    """Only what has finished can be deleted."""


class PartOfComparison(MudmanError):
    """A study of a comparison is deleted with it."""


class NothingToWiden(MudmanError):
    """No range of the study is known to be too narrow, and none was given."""


class NothingToRepeat(MudmanError):
    """The study has no trial that could be run again."""
