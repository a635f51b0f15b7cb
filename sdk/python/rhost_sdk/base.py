"""Base images: resolved as promises, pinned by digest; and what is built on them."""
import json

from wit_world.imports import images

from .config import ImageConfig
from .error import asked, fail
from .state import scratch, source


class Base:
    """A tree that grows, with what its image says about running it: `state`, `config`, `platform`, `reference` (with digest)."""

    def __init__(self, state, config, platform, reference):
        self.state, self.config, self.platform, self.reference = state, config, platform, reference

    @classmethod
    def resolve(cls, reference, platform):
        """Starts to resolve an image. Start all of them before the first `wait()`."""
        name = f"[internal] load metadata for {reference}"
        return PendingBase(images.resolve(reference, platform, images.ResolveMode.DEFAULT, None, name), platform)

    @classmethod
    def scratch(cls, platform):
        """The empty base."""
        return cls(scratch(), ImageConfig.empty(platform), platform, "scratch")

    def run(self, command, **options):
        """Runs a command on it as its config says (variables, working directory, user); options as of `State.execute`."""
        return self.execute(command, **options).root

    def execute(self, command, env=(), **options):
        """As `run`; gives what has `root` and `output(target)`."""
        env = [*self.config.env, *(env.items() if isinstance(env, dict) else env)]
        options = {"platform": self.platform, "cwd": self.config.workdir, "user": self.config.user, **options}
        ran = self.state.execute(command, env=env, **options)
        self.state = ran.root
        return ran

    def copy(self, tree, source, destination, **options):
        self.state = self.state.copy(tree, source, destination, **options)
        return self.state

    def mkfile(self, path, data, **options):
        self.state = self.state.mkfile(path, data, **options)
        return self.state

    def files(self, change, **about):
        self.state = self.state.files(change, **about)
        return self.state


class PendingBase:
    """A base on its way."""

    def __init__(self, pending, platform):
        self._pending, self._platform = pending, platform

    def ready(self):
        return self._pending.ready()

    def wait(self):
        with asked():
            image = self._pending.wait()
        reference = f"{image.reference.split('@')[0]}@{image.digest}"
        try:
            config = json.loads(bytes(image.config))
        except ValueError:
            config = None
        if not isinstance(config, dict):
            raise fail(f"the configuration of {reference} is no JSON object")
        state = source(f"docker-image://{reference}", [("image.resolvemode", "default")], self._platform, name=f"FROM {reference}")
        return Base(state, ImageConfig(config), self._platform, reference)
