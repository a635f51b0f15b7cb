// script-js: the build file is a JavaScript program. It may loop, branch and read the context; it is in the frontend's sandbox.
//
//     const app = image('docker.io/library/node:22').workdir('/src').copy('.', '/src').run('npm ci', { cache: '/root/.npm' });
//     build(image('docker.io/library/busybox').copy('/src/dist', '/www', app).cmd('httpd', '-f', '-h', '/www'));
import { Base, BuildFile, FrontendError, Outcome, cache, fail, frontend, local, log, readContext } from '../sdk/index.js';

/** An image that grows by what is called on it. */
class Image {
  constructor(base, file) {
    Object.assign(this, { base, file });
  }
  /** Runs a line of shell. `cache`: a directory, or several, that outlive the build. */
  run(line, { cache: kept = [], ...options } = {}) {
    this.base.run(line, { name: `run ${line}`, mounts: [kept].flat().map((path) => cache(path)), ...this.here(), ...options });
    return this;
  }
  /** Copies from the context, or from another image. */
  copy(source, target, from) {
    this.base.copy(from ? from.base.state : local('context'), source, target, { name: `copy ${source} ${target}`, ...this.here() });
    return this;
  }
  write(path, text, mode = 0o644) {
    const folder = path.slice(0, path.lastIndexOf('/')) || '/';
    this.base.files((f) => f.mkdir(folder).mkfile(path, text, { mode }), { name: `write ${path}`, ...this.here() });
    return this;
  }
  env(variables) {
    for (const [name, value] of Object.entries(variables)) this.base.config.setEnv(name, String(value));
    return this;
  }
  workdir(path) {
    this.base.config.run.WorkingDir = path;
    return this;
  }
  label(name, value) {
    this.base.config.setLabel(name, value);
    return this;
  }
  cmd(...words) {
    this.base.config.run.Cmd = words;
    return this;
  }
  /** The line of the build file that is running. */
  here() {
    const line = lineOf(new Error());
    return line ? { at: this.file.at(line) } : {};
  }
}

/** The line in the build file that an error's stack goes through: code made of text is marked so by the engine. */
function lineOf(error) {
  const found = /> Function:(\d+)/.exec(error.stack ?? '');
  // The text begins on the third line of the function that it becomes.
  return found ? Number(found[1]) - 2 : undefined;
}

export const build = frontend((invocation) => {
  const file = BuildFile.read(invocation);
  const args = Object.fromEntries(invocation.buildArgs());
  const outcome = new Outcome();
  for (const platform of invocation.platforms()) {
    let made;
    const words = {
      image: (name) => new Image(name === 'scratch' ? Base.scratch(platform) : Base.resolve(name, platform).wait(), file),
      read: (path) => readContext(path),
      arg: (name, otherwise) => args[name] ?? otherwise,
      build: (image) => (made = image),
      log: (text) => log(text),
      platform,
    };
    try {
      new Function(...Object.keys(words), `"use strict";${file.text}`)(...Object.values(words));
    } catch (error) {
      const line = lineOf(error) ?? (error instanceof SyntaxError ? error.lineNumber - 2 : undefined);
      if (!line || line < 1) throw error;
      throw file.error(line, error instanceof FrontendError ? error.message : `${error.name}: ${error.message}`);
    }
    if (!(made instanceof Image)) throw fail(`${file.name}: nothing was built: the last thing to do is \`build(image)\``);
    for (const [name, value] of invocation.labels()) made.label(name, value);
    outcome.add(platform, made.base);
  }
  return outcome;
});
