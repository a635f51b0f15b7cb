"""Mounts of a command: values for the argument `mounts` of `run`."""
from wit_world.imports import llb


def bind(target, tree, path="", mode="read-only"):
    """`path` of a tree (none: all of it). `mode`: `read-only`; `discard` what is written; `keep` it, for `output(target)`."""
    return lambda run: run.mount(target, tree.raw, path, llb.BindMode[mode.replace("-", "_").upper()])


def cache(target, id=None, sharing="shared", read_only=False, base=None, path=""):
    """A directory that outlives the build. `sharing`: shared, private or locked."""
    def mount(run):
        run.mount_cache(target, id or target, llb.CacheSharing[sharing.upper()], base.raw if base else llb.scratch(), path, read_only)
    return mount


def tmpfs(target, size=0):
    """An empty directory in memory. `size` in bytes; 0: no limit."""
    return lambda run: run.mount_tmpfs(target, size)


def secret(id, target=None, env=None, optional=False, uid=0, gid=0, mode=0o400):
    """The user's secret `id`: as a file, or with `env` as a variable."""
    if env:
        return lambda run: run.secret_env(env, id, optional)
    return lambda run: run.mount_secret(target or f"/run/secrets/{id}", id, optional, llb.FileAccess(uid, gid, mode))


def ssh(id="default", target="", optional=False, uid=0, gid=0, mode=0o600):
    """The user's ssh agent `id`, by SSH_AUTH_SOCK."""
    return lambda run: run.mount_ssh(target, id, optional, llb.FileAccess(uid, gid, mode))
