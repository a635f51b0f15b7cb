// The answer of a build.
import { Outcome as Raw } from 'rhost:frontend/outcome@0.1.0';

export class Outcome {
  constructor() {
    this.raw = new Raw();
  }

  /** Adds the result for one platform: a Base, or `{ state, config }` (no config: no image, only files). */
  add(platform, { state, config }) {
    this.raw.add(platform, state.raw, config ? config.bytes() : new Uint8Array());
    return this;
  }

  /** Adds an entry of result metadata, as in `result.json`. */
  metadata(key, value) {
    this.raw.metadata(key, typeof value === 'string' ? new TextEncoder().encode(value) : value);
    return this;
  }
}
