"""script-python: the build file is a Python program. It may loop, branch and read the context; it is in the frontend's sandbox.

    app = image("docker.io/library/node:22").workdir("/src").copy(".", "/src").run("npm ci", cache="/root/.npm")
    build(image("docker.io/library/busybox").copy("/src/dist", "/www", app).cmd("httpd", "-f", "-h", "/www"))
"""
# What build files may want to import has to be here when the component is made.
import json
import re
import sys

import rhost_sdk as rhost


class Image:
    """An image that grows by what is called on it."""

    def __init__(self, base, file):
        self.base, self.file = base, file

    def run(self, line, cache=(), **options):
        """Runs a line of shell. `cache`: a directory, or several, that outlive the build."""
        kept = [cache] if isinstance(cache, str) else cache
        self.base.run(line, name=f"run {line}", mounts=[rhost.cache(path) for path in kept], **self.here(), **options)
        return self

    def copy(self, source, target, origin=None):
        """Copies from the context, or from another image."""
        tree = origin.base.state if origin else rhost.local("context")
        self.base.copy(tree, source, target, name=f"copy {source} {target}", **self.here())
        return self

    def write(self, path, text, mode=0o644):
        folder = path.rpartition("/")[0] or "/"
        self.base.files(lambda f: f.mkdir(folder).mkfile(path, text, mode), name=f"write {path}", **self.here())
        return self

    def env(self, **variables):
        for name, value in variables.items():
            self.base.config.set_env(name, str(value))
        return self

    def workdir(self, path):
        self.base.config.run["WorkingDir"] = path
        return self

    def label(self, name, value):
        self.base.config.set_label(name, value)
        return self

    def cmd(self, *words):
        self.base.config.run["Cmd"] = list(words)
        return self

    def here(self):
        """The line of the build file that is running."""
        frame = sys._getframe()
        while frame and frame.f_code.co_filename != self.file.name:
            frame = frame.f_back
        return {"at": self.file.at(frame.f_lineno)} if frame else {}


def line_of(error, name):
    """The last line of the build file that an exception went through."""
    lines, trace = [], error.__traceback__
    while trace:
        if trace.tb_frame.f_code.co_filename == name:
            lines.append(trace.tb_lineno)
        trace = trace.tb_next
    return lines[-1] if lines else error.lineno if isinstance(error, SyntaxError) and error.filename == name else None


def build(invocation):
    file = rhost.BuildFile.read(invocation)
    args = dict(invocation.build_args())
    outcome = rhost.Outcome()
    for platform in invocation.platforms():
        made = []

        def image(name):
            return Image(rhost.Base.scratch(platform) if name == "scratch" else rhost.Base.resolve(name, platform).wait(), file)

        words = {"image": image, "read": rhost.read_context, "arg": args.get, "build": made.append, "log": rhost.log}
        try:
            exec(compile(file.text, file.name, "exec"), {**words, "platform": platform, "json": json, "re": re})
        except Exception as error:
            line = line_of(error, file.name)
            if not line:
                raise
            said = str(error) if isinstance(error, rhost.FrontendError) else f"{type(error).__name__}: {error}"
            raise file.error(line, said) from error
        if not made or not isinstance(made[-1], Image):
            raise rhost.fail(f"{file.name}: nothing was built: the last thing to do is `build(image)`")
        for name, value in invocation.labels():
            made[-1].label(name, value)
        outcome.add(platform, made[-1].base)
    return outcome


WitWorld = rhost.frontend(build)
