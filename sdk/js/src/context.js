// The directories that the user lends to the build.
import { readDir, readFile, stat } from 'rhost:frontend/context@0.1.0';
import { FrontendError, asked } from './error.js';

/** The text of a file of a context; `undefined` if it is not there. */
export function readContext(path, name = 'context') {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(asked(() => readFile(name, path)));
  } catch (error) {
    if (error instanceof FrontendError && error.kind === 'not-found') return undefined;
    if (error instanceof TypeError) throw new FrontendError(`${path} is not UTF-8`);
    throw error;
  }
}

/** The entries of a directory, sorted by name: `{ name, kind, mode, size, … }`. */
export function readContextDir(path, { name = 'context', pattern } = {}) {
  return asked(() => readDir(name, path, pattern));
}

/** Facts on one path of a context. */
export function statContext(path, name = 'context') {
  return asked(() => stat(name, path));
}
