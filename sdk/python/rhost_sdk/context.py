"""The directories that the user lends to the build."""
from wit_world.imports import context

from .error import FrontendError, asked, fail


def read_context(path, name="context"):
    """The text of a file of a context; None if it is not there."""
    try:
        with asked():
            data = context.read_file(name, path, None)
    except FrontendError as error:
        if error.kind == "not-found":
            return None
        raise
    try:
        return bytes(data).decode()
    except UnicodeDecodeError:
        raise fail(f"{path} is not UTF-8") from None


def read_context_dir(path, name="context", pattern=None):
    """The entries of a directory, sorted by name."""
    with asked():
        return context.read_dir(name, path, pattern)


def stat_context(path, name="context"):
    """Facts on one path of a context."""
    with asked():
        return context.stat(name, path)
