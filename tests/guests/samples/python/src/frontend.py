"""The four samples in Python. The first word of the build file chooses one; docs/frontends/cookbook.md quotes the pieces between the marks."""
import rhost_sdk as rhost
from rhost_sdk import Base, bind, cache, fail, local, scratch, secret, ssh, tmpfs


def build(invocation):
    file = rhost.BuildFile.read(invocation)
    outcome = rhost.Outcome()
    for platform in invocation.platforms():
        if not file.lines():
            raise fail("the build file is empty")
        number, line = file.lines()[0]
        word, _, rest = line.partition(" ")
        sample = SAMPLES.get(word)
        if not sample:
            raise file.error(number, f"there is no sample `{word}`", "hello, multi-stage, branch, solve, sources")
        outcome.add(platform, sample(platform, rest))
    return outcome


def panic(platform, rest):
    raise TypeError("as it was asked to")


# [hello]
def hello(platform, who):
    base = Base.resolve("docker.io/library/busybox", platform).wait()
    base.mkfile("/hello.txt", f"hello, {who}\n", name="say hello")
    base.config.run["Cmd"] = ["cat", "/hello.txt"]
    base.config.set_env("GREETED", who)
    base.config.set_label("greeting", "<hello & welcome>")
    return base
# [/hello]


# [multi-stage]
def multi_stage(platform, rest):
    # Both are asked for before either is waited for.
    builder = Base.resolve("docker.io/library/debian:12", platform)
    runtime = Base.resolve("docker.io/library/busybox", platform)
    source = local("context", paths=["Makefile", "src"])
    made = builder.wait().execute(
        "make -C /src DESTDIR=/out",
        name="make",
        mounts=[
            bind("/src", source, mode="discard"),
            bind("/out", scratch(), mode="keep"),
            cache("/root/.cache", "make", sharing="locked"),
            tmpfs("/tmp", 64 << 20),
            secret("token"),
            secret("npm", env="NPM_TOKEN"),
            ssh(),
        ],
    ).output("/out")
    base = runtime.wait()
    base.copy(made, "/bin", "/usr/local/bin/", name="copy what was made")
    base.config.run["Entrypoint"] = ["/usr/local/bin/app"]
    return base
# [/multi-stage]


# [branch]
def branch(platform, rest):
    if rhost.read_context("package.json") is not None:
        image, command = "docker.io/library/node:22", "npm ci"
    elif rhost.read_context("go.mod") is not None:
        image, command = "docker.io/library/golang:1", "go build ./..."
    else:
        raise fail("the context has neither package.json nor go.mod: nothing tells how to build it")
    base = Base.resolve(image, platform).wait()
    base.config.run["WorkingDir"] = "/src"
    base.copy(local("context"), "/", "/src/", name="copy the sources")
    base.run(command, name=command)
    return base
# [/branch]


# [solve]
def solve_then_read(platform, rest):
    base = Base.resolve("docker.io/library/busybox", platform).wait()
    before = base.state
    listed = base.run("ls /bin > /list", name="list")
    names = listed.solve().wait().read_text("/list").split()
    base.state = before
    for name in names:
        base.files(lambda f: f.mkdir("/items").symlink(f"/bin/{name}", f"/items/{name}"), name=name)
    return base
# [/solve]


# [sources]
def sources(platform, rest):
    base = Base.scratch(platform)
    repository = rhost.git("https://example.com/team/app.git", ref="main", subdir="docs")
    archive = rhost.http("https://example.com/a<b>&c.txt", "c.txt", checksum="sha256:" + "0" * 64)
    cleaned = repository.rm("/*.tmp", name="clean")
    changes = rhost.diff(repository, cleaned, name="what cleaning did")
    base.state = rhost.merge([archive, changes], name="together")
    base.state = base.state.run(["/c.txt"], platform=platform, user="nobody", network="none", name="run it")
    return base
# [/sources]


SAMPLES = {
    "hello": hello, "multi-stage": multi_stage, "branch": branch, "solve": solve_then_read, "sources": sources, "panic": panic,
}
WitWorld = rhost.frontend(build)
