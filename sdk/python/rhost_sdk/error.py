"""Errors: what the host refuses is raised; what is raised reaches the user with message and place."""
import contextlib
import linecache
import traceback

import wit_world
from componentize_py_types import Err
from wit_world.imports import report, types

# Tracebacks would look for sources: there are no files, and asking for one ends the frontend.
linecache.checkcache = lambda filename=None: None
linecache.updatecache = lambda filename, module_globals=None: []

_KINDS = {
    "not-found": types.Error_NotFound, "denied": types.Error_Denied, "invalid": types.Error_Invalid, "unsupported": types.Error_Unsupported,
    "too-large": types.Error_TooLarge, "failed": types.Error_Failed, "other": types.Error_Other,
}
_NAMES = {made: name for name, made in _KINDS.items()}


class FrontendError(Exception):
    """Ends the build. `kind` is one of the WIT package's: not-found, denied, invalid, unsupported, too-large, failed, other."""

    def __init__(self, message, kind="failed"):
        super().__init__(message)
        self.kind = kind


def fail(message):
    """An error for people, to be raised: what was wanted, what was found, what to do."""
    return FrontendError(message)


@contextlib.contextmanager
def asked():
    """Around calls of the host: what it refuses is a FrontendError."""
    try:
        yield
    except Err as error:
        raise FrontendError(error.value.value, _NAMES.get(type(error.value), "other")) from None


class _Log:
    """What `print` writes to, line by line: WASM has no standard output."""

    def __init__(self, level):
        self.level, self.rest = level, ""

    def write(self, text):
        *lines, self.rest = (self.rest + text).split("\n")
        for line in lines:
            report.log(self.level, line)
        return len(text)

    def flush(self):
        if self.rest:
            report.log(self.level, self.rest)
            self.rest = ""


def frontend(build):
    """Makes the component's class of a function from an invocation to an outcome: `WitWorld = frontend(build)`."""

    class WitWorld(wit_world.WitWorld):
        def build(self, invocation):
            out, err = _Log(report.Level.INFO), _Log(report.Level.WARN)
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                try:
                    return build(invocation).raw
                except FrontendError as error:
                    raise Err(_KINDS[error.kind](str(error))) from None
                except Err:
                    raise
                except Exception as error:
                    # A mistake of the frontend's own: the person who writes it wants to know where.
                    report.log(report.Level.ERROR, traceback.format_exc().rstrip())
                    frames = traceback.extract_tb(error.__traceback__)
                    place = f" at {frames[-1].filename.rsplit('/', 1)[-1]}:{frames[-1].lineno}" if frames else ""
                    raise Err(types.Error_Failed(f"{type(error).__name__}: {error}{place}")) from None
                finally:
                    out.flush()
                    err.flush()

    return WitWorld
