"""What a frontend tells the user beside errors."""
from wit_world.imports import report


def log(message, level="info"):
    """Writes a line to the build's log. `level` is trace, debug, info, warn or error."""
    report.log(report.Level[level.upper()], str(message))
