"""States: file trees to be. They never change: every operation gives a new one."""
import json

from wit_world.imports import llb, solve, types

from .error import asked, fail

_LIKE_COPY = (
    llb.CopyFlags.FOLLOW_SYMLINKS | llb.CopyFlags.CONTENTS_ONLY | llb.CopyFlags.CREATE_DESTINATION
    | llb.CopyFlags.WILDCARD | llb.CopyFlags.ALLOW_EMPTY_WILDCARD
)


def _metadata(name=None, at=None, ignore_cache=False):
    made = llb.Metadata()
    if name:
        made.name(name)
    if ignore_cache:
        made.ignore_cache()
    if at:
        made.location(*at)
    return made


def _owner(owner):
    """`0`, `"name"`, `"user:group"` or `(user, group)`."""
    if owner is None:
        return None
    user, group = owner if isinstance(owner, tuple) else (str(owner).split(":") + [None])[:2]

    def identity(who):
        if who is None or who == "":
            return None
        return llb.Identity_Id(int(who)) if str(who).isdecimal() else llb.Identity_Name(str(who))

    return llb.Owner(identity(user), identity(group))


class State:
    """A file tree to be. `raw` is the WIT package's."""

    def __init__(self, raw):
        self.raw = raw

    @property
    def digest(self):
        """The digest of the operation; None for scratch. Equal graphs have equal digests."""
        return self.raw.digest()

    def run(self, command, **options):
        """Runs a command, a list of words or a line for the shell; gives the tree after it. Options: those of `execute`."""
        return self.execute(command, **options).root

    def execute(
        self, command, *, platform=None, env=(), cwd=None, user=None, network=None, security=None, hostname=None, hosts=None, ulimits=None,
        valid_exit_codes=None, read_only_root=False, mounts=(), **about,
    ):
        """Runs a command; gives what has `root` and `output(target)`. `about`: name, at (of `BuildFile.at`), ignore_cache."""
        run = llb.Exec(self.raw, ["/bin/sh", "-c", command] if isinstance(command, str) else list(command))
        if platform:
            run.platform(platform)
        for name, value in env.items() if isinstance(env, dict) else env:
            run.env(name, value)
        if cwd:
            run.cwd(cwd)
        if user:
            run.user(user)
        if network:
            run.network(llb.NetworkMode[network.upper()])
        if security:
            run.security(llb.SecurityMode[security.upper()])
        if hostname:
            run.hostname(hostname)
        for name, ip in (hosts or {}).items():
            run.extra_host(name, ip)
        for name, (soft, hard) in (ulimits or {}).items():
            run.ulimit(name, soft, hard)
        if valid_exit_codes:
            run.valid_exit_codes(list(valid_exit_codes))
        if read_only_root:
            run.read_only_root()
        for mount in mounts:
            mount(run)
        with asked():
            return Execution(State(run.run(_metadata(**about))), run)

    def files(self, change, **about):
        """Several changes of files as one operation: `state.files(lambda f: f.mkdir("/a").copy(tree, "x", "/a/"), name="…")`."""
        actions = FileActions(llb.File(self.raw))
        change(actions)
        with asked():
            return State(actions.file.apply(_metadata(**about)))

    def copy(self, tree, source, destination, *, name=None, at=None, ignore_cache=False, **options):
        """One copy. Options: those of `FileActions.copy`."""
        return self.files(lambda f: f.copy(tree, source, destination, **options), name=name, at=at, ignore_cache=ignore_cache)

    def mkdir(self, path, *, name=None, at=None, **options):
        return self.files(lambda f: f.mkdir(path, **options), name=name, at=at)

    def mkfile(self, path, data, *, name=None, at=None, **options):
        return self.files(lambda f: f.mkfile(path, data, **options), name=name, at=at)

    def rm(self, path, *, name=None, at=None, **options):
        return self.files(lambda f: f.rm(path, **options), name=name, at=at)

    def symlink(self, points_to, path, *, name=None, at=None, **options):
        return self.files(lambda f: f.symlink(points_to, path, **options), name=name, at=at)

    def solve(self):
        """Starts to run what leads to this, while the frontend still works. `wait()` gives a Tree to read."""
        return PendingTree(solve.start(self.raw))


class Execution:
    """A command in the graph: `root` is the root file system after it."""

    def __init__(self, root, run):
        self.root, self._run = root, run

    def output(self, target):
        """What was mounted at `target` with mode `keep`, after it."""
        with asked():
            return State(self._run.output(target))


class FileActions:
    """Changes of files, done in order as one operation."""

    def __init__(self, file):
        self.file = file

    def copy(
        self, tree, source, destination, exact=False, owner=None, mode=None, include=None, exclude=None, required_paths=None, unpack=False,
        timestamp=None,
    ):
        """Copies as a build file's COPY does (links followed, a directory's contents, wildcards, directories made); `exact`: just the one path.
        `mode` is bits, or symbols such as `u=rwX,go=rX`."""
        action = llb.CopyAction(tree.raw, source, destination)
        flags = llb.CopyFlags(0) if exact else _LIKE_COPY
        if unpack:
            flags |= llb.CopyFlags.UNPACK
        if flags:
            action.options(flags)
        if owner is not None:
            action.owner(_owner(owner))
        if isinstance(mode, int):
            action.mode(mode)
        elif mode is not None:
            action.mode_symbols(mode)
        if include:
            action.include(list(include))
        if exclude:
            action.exclude(list(exclude))
        if required_paths:
            action.required_paths(list(required_paths))
        if timestamp is not None:
            action.timestamp(timestamp)
        self.file.copy(action)
        return self

    def mkdir(self, path, mode=0o755, parents=True, owner=None, timestamp=None):
        self.file.mkdir(path, mode, parents, _owner(owner), timestamp)
        return self

    def mkfile(self, path, data, mode=0o644, owner=None, timestamp=None):
        self.file.mkfile(path, mode, data.encode() if isinstance(data, str) else data, _owner(owner), timestamp)
        return self

    def symlink(self, points_to, path, owner=None, timestamp=None):
        self.file.symlink(points_to, path, _owner(owner), timestamp)
        return self

    def rm(self, path, allow_missing=True, wildcard=True):
        self.file.rm(path, allow_missing, wildcard)
        return self


class PendingTree:
    """A tree on its way."""

    def __init__(self, raw):
        self._raw = raw

    def ready(self):
        return self._raw.ready()

    def wait(self):
        with asked():
            return Tree(self._raw.wait())


class Tree:
    """A tree that exists, to be read."""

    def __init__(self, raw):
        self.raw = raw

    def read(self, path, offset=None, length=None):
        """The bytes of a file, or `length` of them from `offset`."""
        slice = None if offset is None and length is None else types.ByteRange(offset or 0, (1 << 63) if length is None else length)
        with asked():
            return bytes(self.raw.read_file(path, slice))

    def read_text(self, path):
        try:
            return self.read(path).decode()
        except UnicodeDecodeError:
            raise fail(f"{path} is not UTF-8") from None

    def read_dir(self, path, pattern=None):
        """The entries of a directory, sorted by name."""
        with asked():
            return self.raw.read_dir(path, pattern)

    def stat(self, path):
        with asked():
            return self.raw.stat(path)


def scratch():
    """The empty tree."""
    return State(llb.scratch())


def source(identifier, attributes, platform=None, **about):
    """Any source by its identifier and attributes (see `llb.source` in the WIT package)."""
    with asked():
        return State(llb.source(identifier, attributes, platform, _metadata(**about)))


def local(name="context", paths=()):
    """A directory that the client lends: `context` is the build context. `paths`: only these are wanted."""
    attributes = [("local.sharedkeyhint", name)]
    if paths:
        attributes.append(("local.followpaths", json.dumps(list(paths), ensure_ascii=False, separators=(",", ":"))))
    return source(f"local://{name}", attributes, name=f"[internal] load {name}")


def git(remote, ref="", subdir=""):
    """A git checkout: of `remote` the branch, tag or commit `ref` (none: the default branch), of that the directory `subdir`."""
    scheme, _, place = remote.rpartition("://")
    fragment = (f"#{ref}" if ref or subdir else "") + (f":{subdir}" if subdir else "")
    attributes = [
        ("git.fullurl", remote),
        ("git.authheadersecret", "GIT_AUTH_HEADER"),
        ("git.authtokensecret", "GIT_AUTH_TOKEN"),
    ]
    if scheme == "ssh":
        attributes.append(("git.mountsshsock", "default"))
    return source(f"git://{place.rpartition('@')[2]}{fragment}", attributes, name=f"git {remote} {ref}")


def http(url, filename, checksum=""):
    """The file at a URL, as a tree of one file named `filename`. Without `checksum` (`sha256:…`) the server is asked whether it has changed."""
    attributes = [("http.filename", filename)] + ([("http.checksum", checksum)] if checksum else [])
    return source(url, attributes, name=url)


def merge(trees, **about):
    """Trees laid over one another, the last on top."""
    with asked():
        return State(llb.merge([tree.raw for tree in trees], _metadata(**about)))


def diff(lower, upper, **about):
    """What `upper` adds to, changes in and removes from `lower`."""
    with asked():
        return State(llb.diff(lower.raw, upper.raw, _metadata(**about)))
