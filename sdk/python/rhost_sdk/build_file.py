"""The build file: its text, its lines, and findings that point into it."""
from wit_world.imports import context, llb, report, types

from .error import FrontendError, asked


class BuildFile:
    """The build file of an invocation: `name` as the user knows it, `text` as it is."""

    def __init__(self, name, text, source_map):
        self.name, self.text, self.map = name, text, source_map

    @classmethod
    def read(cls, invocation):
        name = invocation.build_file()
        with asked():
            data = bytes(context.read_file("dockerfile", name, None))
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            raise FrontendError(f"{name}:{line}: this line is not UTF-8") from None
        return cls(name, text, llb.SourceMap(name, "", data, None))

    def lines(self):
        """Its lines as (number, text), from 1, without spaces around them; without empty ones and those that begin with `#`."""
        numbered = ((number, line.strip()) for number, line in enumerate(self.text.split("\n"), 1))
        return [(number, line) for number, line in numbered if line and not line.startswith("#")]

    def at(self, line, last=None):
        """What an operation's `at` takes: that it comes from a line, or from `line` to `last`."""
        return (self.map, [_span(line, last or line)])

    def error(self, line, message, help=None):
        """Shows an error in a line, and gives what to raise."""
        finding = report.Diagnostic(report.Severity.ERROR, message)
        finding.mark(self.map, _span(line, line), "")
        if help:
            finding.help(help)
        finding.emit()
        return FrontendError(f"{self.name}:{line}: {message}")

    def warn(self, line, code, message):
        """Shows a warning on a line. `code` is a stable name for this kind of finding."""
        report.warning(code, message, self.map, [_span(line, line)])


def _span(first, last):
    return types.Range(types.Position(first, 0), types.Position(last, 0))
