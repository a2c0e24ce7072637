"""Why a request is refused, where neither the store says it nor ``service.access``."""

from mudman.faults import MudmanError


class BodyTooLarge(MudmanError):
    """The request body is longer than the server reads."""


class UnsupportedBody(MudmanError):
    """The request body is of a media type, or in an encoding, that is not read here."""


class NotAcceptable(MudmanError):
    """The client takes only answers that are not given here."""


class UnknownTrial(MudmanError):
    """The study has started no trial of this number."""


class UnknownPreset(MudmanError):
    """No preset has this name."""


class NoCheckpoint(MudmanError):
    """The weights of this trial are not kept; the message says how they can be."""


class NoSuchRange(MudmanError):
    """The part that was asked for lies behind the end of the file."""

    def __init__(self, file: str, size: int, start: int):
        super().__init__(f"{file} has {size} bytes: there is nothing from byte {start} on.")
        self.file, self.size, self.start = file, size, start

    def __reduce__(self):
        return NoSuchRange, (self.file, self.size, self.start)


class NoValidTrial(MudmanError):
    """The study has no valid trial, so none is best; the message says why and what to do."""
