// States: file trees to be. They never change: every operation gives a new one.
import {
  CopyAction, Exec, File, Metadata, diff as rawDiff, merge as rawMerge, scratch as rawScratch, source,
} from 'rhost:frontend/llb@0.1.0';
import { start } from 'rhost:frontend/solve@0.1.0';
import { asked } from './error.js';

/** What is said about an operation: `name` for progress, `at` from `BuildFile.at`, `ignoreCache`. */
function metadata({ name, at, ignoreCache = false } = {}) {
  const made = new Metadata();
  if (name) made.name(name);
  if (ignoreCache) made.ignoreCache();
  if (at) made.location(at.map, at.ranges);
  return made;
}

const LIKE_COPY = { followSymlinks: true, contentsOnly: true, createDestination: true, wildcard: true, allowEmptyWildcard: true };
const bytes = (data) => (typeof data === 'string' ? new TextEncoder().encode(data) : data);

/** `0`, `'name'`, `'user:group'` or `[user, group]` as the owner of files. */
function ownerOf(owner) {
  if (owner === undefined) return undefined;
  const [user, group] = Array.isArray(owner) ? owner : String(owner).split(':');
  const identity = (who) => {
    if (who === undefined || who === '') return undefined;
    return /^\d+$/.test(String(who)) ? { tag: 'id', val: Number(who) } : { tag: 'name', val: String(who) };
  };
  return { user: identity(user), group: identity(group) };
}

export class State {
  /** `raw` is the WIT package's. */
  constructor(raw) {
    this.raw = raw;
  }

  /** The digest of the operation; `undefined` for scratch. Equal graphs have equal digests. */
  get digest() {
    return this.raw.digest();
  }

  /**
   * Runs a command: a list of words, or a line for the shell. Options: platform, env (object or list of pairs), cwd, user, network, security, hostname,
   * hosts, ulimits, validExitCodes, readOnlyRoot, mounts (see mounts.js); name, at, ignoreCache. Gives the tree after it.
   */
  run(command, options = {}) {
    return this.execute(command, options).root;
  }

  /** As `run`; gives `{ root, output(target) }`, where `output` has what a mount of mode `keep` became. */
  execute(command, options = {}) {
    const exec = new Exec(this.raw, typeof command === 'string' ? ['/bin/sh', '-c', command] : command);
    const { platform, env = [], cwd, user, network, security, hostname, hosts = {}, ulimits = {}, mounts = [] } = options;
    if (platform) exec.platform(platform);
    for (const [name, value] of Array.isArray(env) ? env : Object.entries(env)) exec.env(name, value);
    if (cwd) exec.cwd(cwd);
    if (user) exec.user(user);
    if (network) exec.network(network);
    if (security) exec.security(security);
    if (hostname) exec.hostname(hostname);
    for (const [name, ip] of Object.entries(hosts)) exec.extraHost(name, ip);
    for (const [name, [soft, hard]] of Object.entries(ulimits)) exec.ulimit(name, BigInt(soft), BigInt(hard));
    if (options.validExitCodes) exec.validExitCodes(options.validExitCodes);
    if (options.readOnlyRoot) exec.readOnlyRoot();
    for (const mount of mounts) mount(exec);
    const root = new State(asked(() => exec.run(metadata(options))));
    return { root, output: (target) => new State(asked(() => exec.output(target))) };
  }

  /** Several changes of files as one operation: `state.files((f) => f.mkdir('/a').copy(from, 'x', '/a/'), { name })`. */
  files(change, options = {}) {
    const actions = new FileActions(new File(this.raw));
    change(actions);
    return new State(asked(() => actions.file.apply(metadata(options))));
  }

  /** One copy. Options: those of `FileActions.copy`, and name, at, ignoreCache. */
  copy(from, source, destination, options = {}) {
    return this.files((f) => f.copy(from, source, destination, options), options);
  }

  /** Makes a directory. */
  mkdir(path, options = {}) {
    return this.files((f) => f.mkdir(path, options), options);
  }

  /** Writes a file of text or bytes. */
  mkfile(path, data, options = {}) {
    return this.files((f) => f.mkfile(path, data, options), options);
  }

  /** Removes a file or tree. */
  rm(path, options = {}) {
    return this.files((f) => f.rm(path, options), options);
  }

  /** Makes a symbolic link at `path`. */
  symlink(pointsTo, path, options = {}) {
    return this.files((f) => f.symlink(pointsTo, path, options), options);
  }

  /** Starts to run what leads to this, while the frontend still works. `wait()` gives a tree to read. */
  solve() {
    const pending = start(this.raw);
    return { ready: () => pending.ready(), wait: () => new Tree(asked(() => pending.wait())) };
  }
}

/** Changes of files, done in order as one operation. */
export class FileActions {
  constructor(file) {
    this.file = file;
  }

  /**
   * Copies as a build file's COPY does: links followed, a directory's contents, wildcards, directories made. Options: `exact` (just the one path),
   * owner, mode (bits, or symbols such as `u=rwX,go=rX`), include, exclude, requiredPaths, unpack, timestamp.
   */
  copy(from, source, destination, { exact = false, owner, mode, include, exclude, requiredPaths, unpack = false, timestamp } = {}) {
    const action = new CopyAction(from.raw, source, destination);
    if (!exact || unpack) action.options({ ...(exact ? {} : LIKE_COPY), ...(unpack ? { unpack } : {}) });
    if (owner !== undefined) action.owner(ownerOf(owner));
    if (typeof mode === 'number') action.mode(mode);
    else if (mode !== undefined) action.modeSymbols(mode);
    if (include) action.include(include);
    if (exclude) action.exclude(exclude);
    if (requiredPaths) action.requiredPaths(requiredPaths);
    if (timestamp !== undefined) action.timestamp(BigInt(timestamp));
    this.file.copy(action);
    return this;
  }

  mkdir(path, { mode = 0o755, parents = true, owner, timestamp } = {}) {
    this.file.mkdir(path, mode, parents, ownerOf(owner), timestamp === undefined ? undefined : BigInt(timestamp));
    return this;
  }

  mkfile(path, data, { mode = 0o644, owner, timestamp } = {}) {
    this.file.mkfile(path, mode, bytes(data), ownerOf(owner), timestamp === undefined ? undefined : BigInt(timestamp));
    return this;
  }

  symlink(pointsTo, path, { owner, timestamp } = {}) {
    this.file.symlink(pointsTo, path, ownerOf(owner), timestamp === undefined ? undefined : BigInt(timestamp));
    return this;
  }

  /** With wildcards, and no error where nothing is, unless said otherwise. */
  rm(path, { allowMissing = true, wildcard = true } = {}) {
    this.file.rm(path, allowMissing, wildcard);
    return this;
  }
}

/** A tree that exists, to be read. */
export class Tree {
  constructor(raw) {
    this.raw = raw;
  }
  /** The bytes of a file, or `{ offset, length }` of them. */
  read(path, range) {
    const slice = range && { offset: BigInt(range.offset), length: BigInt(range.length) };
    return asked(() => this.raw.readFile(path, slice));
  }
  /** The text of a file. */
  readText(path) {
    return new TextDecoder('utf-8', { fatal: true }).decode(this.read(path));
  }
  /** The entries of a directory, sorted by name. */
  readDir(path, pattern) {
    return asked(() => this.raw.readDir(path, pattern));
  }
  stat(path) {
    return asked(() => this.raw.stat(path));
  }
}

/** The empty tree. */
export const scratch = () => new State(rawScratch());

/** Any source by its identifier and attributes (see `llb.source` in the WIT package). */
export const from = (identifier, attributes, options = {}) =>
  new State(asked(() => source(identifier, attributes, options.platform, metadata(options))));

/** A directory that the client lends: `context` is the build context. `paths`: only these are wanted. */
export function local(name = 'context', { paths = [], ...options } = {}) {
  const attributes = [['local.sharedkeyhint', name]];
  if (paths.length > 0) attributes.push(['local.followpaths', JSON.stringify(paths)]);
  return from(`local://${name}`, attributes, { name: `[internal] load ${name}`, ...options });
}

/** A git checkout: of `remote` the branch, tag or commit `ref` (none: the default branch), of that the directory `subdir`. */
export function git(remote, { ref = '', subdir = '', ...options } = {}) {
  const scheme = remote.includes('://') ? remote.slice(0, remote.indexOf('://')) : '';
  const place = scheme ? remote.slice(scheme.length + 3) : remote;
  const hostAndPath = place.slice(place.lastIndexOf('@') + 1);
  const fragment = ref || subdir ? `#${ref}${subdir ? `:${subdir}` : ''}` : '';
  const attributes = [
    ['git.fullurl', remote],
    ['git.authheadersecret', 'GIT_AUTH_HEADER'],
    ['git.authtokensecret', 'GIT_AUTH_TOKEN'],
  ];
  if (scheme === 'ssh') attributes.push(['git.mountsshsock', 'default']);
  return from(`git://${hostAndPath}${fragment}`, attributes, { name: `git ${remote} ${ref}`, ...options });
}

/** The file at a URL, as a tree of one file named `filename`. Without `checksum` (`sha256:…`) the server is asked whether it has changed. */
export function http(url, filename, { checksum = '', ...options } = {}) {
  const attributes = [['http.filename', filename]];
  if (checksum) attributes.push(['http.checksum', checksum]);
  return from(url, attributes, { name: url, ...options });
}

/** Trees laid over one another, the last on top. */
export const merge = (trees, options = {}) => new State(asked(() => rawMerge(trees.map((tree) => tree.raw), metadata(options))));

/** What `upper` adds to, changes in and removes from `lower`. */
export const diff = (lower, upper, options = {}) => new State(asked(() => rawDiff(lower.raw, upper.raw, metadata(options))));
