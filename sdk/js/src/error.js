// Errors: what the host refuses is thrown; what is thrown reaches the user with message and place.
import { log } from 'rhost:frontend/report@0.1.0';

/** Ends the build. `kind` is one of the WIT package's: not-found, denied, invalid, unsupported, too-large, failed, other. */
export class FrontendError extends Error {
  constructor(message, kind = 'failed') {
    super(message);
    this.name = 'FrontendError';
    this.kind = kind;
  }
}

/** An error for people, to be thrown: what was wanted, what was found, what to do. */
export const fail = (message) => new FrontendError(message);

/** Calls the host; what it refuses is a FrontendError. */
export function asked(call) {
  try {
    return call();
  } catch (error) {
    const payload = error?.payload ?? error;
    if (typeof payload?.tag === 'string' && typeof payload.val === 'string') {
      throw new FrontendError(payload.val, payload.tag);
    }
    throw error;
  }
}

/** Makes the component's `build` of a function from an invocation to an outcome. */
export function frontend(build) {
  return (invocation) => {
    try {
      return build(invocation).raw;
    } catch (error) {
      if (error instanceof FrontendError) {
        throw { tag: error.kind, val: error.message };
      }
      // A mistake of the frontend's own: the person who writes it wants to know where.
      const message = `${error?.name ?? 'exception'}: ${error?.message ?? String(error)}`;
      log('error', `${message}\n${error?.stack ?? ''}`.trim());
      throw { tag: 'failed', val: `${message}${place(error)}` };
    }
  };
}

function place(error) {
  const first = String(error?.stack ?? '').split('\n').find((line) => line.includes('.js:'));
  const found = first && /([^/@(\s]*\.js:\d+)/.exec(first);
  return found ? ` at ${found[1]}` : '';
}
