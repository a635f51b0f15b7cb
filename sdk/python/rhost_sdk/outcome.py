"""The answer of a build."""
from wit_world.imports import outcome


class Outcome:
    def __init__(self):
        self.raw = outcome.Outcome()

    def add(self, platform, base=None, *, state=None, config=None):
        """Adds the result for one platform: a Base, or a state and a config (no config: no image, only files)."""
        state, config = (base.state, base.config) if base else (state, config)
        self.raw.add(platform, state.raw, config.bytes() if config else b"")
        return self

    def metadata(self, key, value):
        """Adds an entry of result metadata, as in `result.json`."""
        self.raw.metadata(key, value.encode() if isinstance(value, str) else value)
        return self
