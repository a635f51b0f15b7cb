// Mounts of a command: values for the option `mounts` of `run`.
import { scratch } from 'rhost:frontend/llb@0.1.0';

/** `path` of a tree (none: all of it). `mode`: `read-only`; `discard` what is written; `keep` it, for `output(target)`. */
export const bind = (target, tree, { path = '', mode = 'read-only' } = {}) => (exec) => {
  exec.mount(target, tree.raw, path, mode);
};

/** A directory that outlives the build. `sharing`: shared, private or locked. */
export const cache = (target, id = target, { sharing = 'shared', readOnly = false, from, path = '' } = {}) => (exec) => {
  exec.mountCache(target, id, sharing, from ? from.raw : scratch(), path, readOnly);
};

/** An empty directory in memory. `size` in bytes; 0: no limit. */
export const tmpfs = (target, size = 0) => (exec) => {
  exec.mountTmpfs(target, BigInt(size));
};

/** The user's secret `id`: as a file, or with `env` as a variable. */
export const secret = (id, { target = `/run/secrets/${id}`, env, optional = false, uid = 0, gid = 0, mode = 0o400 } = {}) => (exec) => {
  if (env) exec.secretEnv(env, id, optional);
  else exec.mountSecret(target, id, optional, { uid, gid, mode });
};

/** The user's ssh agent `id`, by SSH_AUTH_SOCK. */
export const ssh = (id = 'default', { target = '', optional = false, uid = 0, gid = 0, mode = 0o600 } = {}) => (exec) => {
  exec.mountSsh(target, id, optional, { uid, gid, mode });
};
