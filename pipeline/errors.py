"""The exceptions a user can meet: one family per boundary, each text one clear line with the way out. Pure."""

#: The way out where a machine has too little memory for a network.
LESS_MEMORY = "choose a smaller model.width or fewer model.boxes"


class TimeboxError(Exception):
    """Any failure that is shown to the user as one line instead of a traceback; a `drawing` may follow it."""

    def __init__(self, text: str, drawing: str = "") -> None:
        super().__init__(" ".join(text.splitlines()))  # a file's key may hold a line break
        self.drawing = drawing


class ConfigError(TimeboxError):
    """The request is wrong: a key, a file, a folder, a port. The command exits with 2 and has changed nothing."""


class ScheduleError(TimeboxError):
    """A stage was asked for an action that is not enabled. The stage is unchanged."""


class WireError(TimeboxError):
    """A frame that is not what the configuration says must come. Nothing of it was used."""


class RunError(TimeboxError):
    """A run that had begun has failed. The command exits with 1."""


class DivergedError(TimeboxError):
    """A run's numbers have flown off: a value that is not finite, or above the limit."""


def plain(error: TimeboxError | OSError | MemoryError) -> str:
    """Return a failure as one line: of the system's its file and what is wrong with it, as on a full disk."""
    if isinstance(error, TimeboxError):
        return str(error)
    if isinstance(error, MemoryError):
        return f"there is not enough memory{f' ({error})' if str(error) else ''}; {LESS_MEMORY}"
    return f"{f'{error.filename}: ' if error.filename else ''}{error.strerror or error}"
