"""Errors that are meant for people: a title, a sentence, and what to do.

TuneDeckError          bad input or a failed request; the command line exits with `exit_code`
├── ConfigError        the user's config file is wrong (all its problems at once)
├── SpecError          the run specification is wrong (all its problems at once)
├── ModelError         the base model cannot be found or read
├── DataError          the data cannot be read or trained on
├── StoreError         the database cannot be opened or is from another version
├── NoFit              what was asked for does not fit on the cards; exit code 3
├── SourceError        an old run of another tool cannot be read
├── FilterError        a filter of runs is not understood; in engine.filtering
├── RunError           the run named does not exist, or cannot do what was asked
└── SpaceError         no room, or no permission, where something has to be written
"""


class TuneDeckError(Exception):
    """What went wrong (`title`), the particulars (`message`) and the way out (`hint`)."""

    exit_code = 2

    def __init__(self, title: str, message: str, hint: str = "") -> None:
        super().__init__(f"{title}: {message}")
        self.title = title
        self.message = message
        self.hint = hint

    def __reduce__(self) -> tuple[type["TuneDeckError"], tuple[str, str, str]]:
        """So that it comes whole out of another process: exceptions are otherwise made anew from `args`."""
        return type(self), (self.title, self.message, self.hint)


class ConfigError(TuneDeckError):
    """The user's config file is wrong."""


class SpecError(TuneDeckError):
    """The run specification is wrong."""


class ModelError(TuneDeckError):
    """The base model cannot be found or read."""


class DataError(TuneDeckError):
    """The data cannot be read or trained on."""


class StoreError(TuneDeckError):
    """The database cannot be opened."""


class SourceError(TuneDeckError):
    """An old run of another tool cannot be read."""


class NoFit(TuneDeckError):
    """What was asked for does not fit on the cards."""

    exit_code = 3


class RunError(TuneDeckError):
    """The run named does not exist, or cannot do what was asked."""


class SpaceError(TuneDeckError):
    """No room, or no permission, where something has to be written."""
