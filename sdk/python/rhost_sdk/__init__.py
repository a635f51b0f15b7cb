"""Write a frontend for rhost in Python: a function from what the user asked to what is to be built.

    import rhost_sdk as rhost

    def build(invocation):
        file = rhost.BuildFile.read(invocation)
        outcome = rhost.Outcome()
        for platform in invocation.platforms():
            base = rhost.Base.resolve("docker.io/library/busybox", platform).wait()
            base.run(file.text, name="run the script")
            outcome.add(platform, base)
        return outcome

    WitWorld = rhost.frontend(build)

What takes long comes as a promise with `wait()`: start many, then wait for each. The host works on all of them at once; the guest is one thread.
Import at the top of modules: when the frontend runs there are no files to import from. `print` writes to the build's log.
"""
from .base import Base
from .build_file import BuildFile
from .config import ImageConfig
from .context import read_context, read_context_dir, stat_context
from .error import FrontendError, fail, frontend
from .mounts import bind, cache, secret, ssh, tmpfs
from .outcome import Outcome
from .report import log
from .state import State, Tree, diff, git, http, local, merge, scratch

__all__ = [
    "Base", "BuildFile", "FrontendError", "ImageConfig", "Outcome", "State", "Tree", "bind", "cache", "diff", "fail", "frontend", "git", "http",
    "local", "log", "merge", "read_context", "read_context_dir", "scratch", "secret", "ssh", "stat_context", "tmpfs",
]
