/**
 * Write a frontend for rhost in JavaScript: a function from what the user asked to what is to be built.
 *
 *     import { Base, BuildFile, Outcome, frontend } from '../sdk/index.js';
 *
 *     export const build = frontend((invocation) => {
 *       const file = BuildFile.read(invocation);
 *       const outcome = new Outcome();
 *       for (const platform of invocation.platforms()) {
 *         const base = Base.resolve('docker.io/library/busybox', platform).wait();
 *         base.run(file.text, { name: 'run the script' });
 *         outcome.add(platform, base);
 *       }
 *       return outcome;
 *     });
 *
 * What takes long comes as a promise with `wait()`, not as one to `await`: start many, then wait for each. The host works on all of them at once, but
 * the guest is one thread without an event loop, in which nothing else runs during an `await`.
 */
export { Base } from './src/base.js';
export { BuildFile } from './src/build-file.js';
export { ImageConfig } from './src/config.js';
export { FrontendError, fail, frontend } from './src/error.js';
export { Outcome } from './src/outcome.js';
export { log } from './src/report.js';
export { State, diff, git, http, local, merge, scratch } from './src/state.js';
export { bind, cache, secret, ssh, tmpfs } from './src/mounts.js';
export { readContext, readContextDir, statContext } from './src/context.js';
