// Base images: resolved as promises, pinned by digest; and what is built on them.
import { resolve } from 'rhost:frontend/images@0.1.0';
import { ImageConfig } from './config.js';
import { asked, fail } from './error.js';
import { from, scratch } from './state.js';

/** A tree that grows, with what its image says about running it. */
export class Base {
  constructor(state, config, platform, reference) {
    /** Its files so far. */
    this.state = state;
    /** To be changed, and handed to `Outcome.add`. */
    this.config = config;
    this.platform = platform;
    /** `docker.io/library/debian:12@sha256:…` */
    this.reference = reference;
  }

  /** Starts to resolve an image. Start all of them before the first `wait()`. */
  static resolve(reference, platform) {
    const pending = resolve(reference, platform, 'default', undefined, `[internal] load metadata for ${reference}`);
    return { ready: () => pending.ready(), wait: () => resolved(asked(() => pending.wait()), platform) };
  }

  /** The empty base. */
  static scratch(platform) {
    return new Base(scratch(), ImageConfig.empty(platform), platform, 'scratch');
  }

  /** Runs a command on it as its config says (variables, working directory, user); options as of `State.run`. */
  run(command, options = {}) {
    return this.execute(command, options).root;
  }

  /** As `run`; gives `{ root, output(target) }`. */
  execute(command, options = {}) {
    const { platform, config } = this;
    const env = [...config.env, ...(Array.isArray(options.env) ? options.env : Object.entries(options.env ?? {}))];
    const ran = this.state.execute(command, { platform, cwd: config.workdir, user: config.user, ...options, env });
    this.state = ran.root;
    return ran;
  }

  copy(tree, source, destination, options) {
    return (this.state = this.state.copy(tree, source, destination, options));
  }

  mkfile(path, data, options) {
    return (this.state = this.state.mkfile(path, data, options));
  }

  files(change, options) {
    return (this.state = this.state.files(change, options));
  }
}

function resolved(image, platform) {
  const reference = `${image.reference.split('@')[0]}@${image.digest}`;
  let config;
  try {
    config = JSON.parse(new TextDecoder().decode(image.config));
  } catch {
    config = undefined;
  }
  if (typeof config !== 'object' || config === null || Array.isArray(config)) {
    throw fail(`the configuration of ${reference} is no JSON object`);
  }
  const options = { platform, name: `FROM ${reference}` };
  const state = from(`docker-image://${reference}`, [['image.resolvemode', 'default']], options);
  return new Base(state, new ImageConfig(config), platform, reference);
}
