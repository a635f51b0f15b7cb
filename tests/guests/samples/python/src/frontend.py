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
            raise file.error(number, f"there is no sample `{word}`", "hello, multi-stage, branch, solve, sources, options")
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


def options(platform, rest):
    """What steps may say beyond the recipes."""
    base = Base.scratch(platform)
    context = local("context")
    owned = {"owner": "app:7", "timestamp": 1_000_000_000}
    tree = base.state.files(
        lambda f: f.mkdir("/srv", mode=0o750, owner="7", parents=False)
        .mkfile("/srv/a", "a", mode=0o600, **owned)
        .symlink("a", "/srv/b", **owned)
        .copy(context, "x", "/srv/", owner="app:app", mode="u=rwX,go=rX", include=["*.a"], exclude=["*.tmp"], required_paths=["x"])
        .copy(context, "y.tar", "/srv/y", exact=True, unpack=True, mode=0o644, timestamp=5)
        .rm("/srv/c", allow_missing=False, wildcard=False),
        name="own",
    )
    ran = tree.execute(
        ["/srv/a"], platform=platform, network="host", security="insecure", hostname="here", hosts={"db": "10.0.0.1"},
        ulimits={"nofile": (1024, 2048)}, valid_exit_codes=[0, 3], read_only_root=True, name="run it",
        mounts=[
            bind("/out", scratch(), mode="keep"),
            secret("token", target="/token", optional=True, uid=1, gid=2, mode=0o440),
            secret("npm", env="NPM_TOKEN", optional=True),
            ssh("default", target="/agent", optional=True),
            cache("/cache", "c", sharing="private", base=tree, path="/srv", read_only=True),
        ],
    )
    # Of the root, which is read-only, nothing comes.
    base.state = ran.output("/out")
    return base


SAMPLES = {
    "hello": hello, "multi-stage": multi_stage, "branch": branch, "solve": solve_then_read, "sources": sources, "options": options, "panic": panic,
}
WitWorld = rhost.frontend(build)
