"""The four kinds of error a user can meet, by whose turn it is to act."""


class TilewrightError(Exception):
    """Base of every error that this package raises on purpose."""


class ModelError(TilewrightError, ValueError):
    """Your model or your input is not right; the message names the node or the input, what was expected and what came."""


class UnsupportedError(TilewrightError, NotImplementedError):
    """The model asks for something that Tilewright does not do yet; the message lists everything and says where to add it."""


class MachineError(TilewrightError, OSError):
    """The machine lacks something: a package, a driver, memory, disk space or a file."""


class MachineWarning(UserWarning):
    """The machine lacks something that Tilewright can do without, only not as fast; said once."""


class ModelWarning(UserWarning):
    """A part of what was asked could not be done with this model and its files; the rest was."""


class CompilerBug(TilewrightError, AssertionError):  # noqa: N818 - it is a bug, not an error of the user's
    """Tilewright contradicted itself; please report it with the text of the message."""
