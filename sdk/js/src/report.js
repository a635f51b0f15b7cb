// What a frontend tells the user beside errors.
import { log as write } from 'rhost:frontend/report@0.1.0';

/** Writes a line to the build's log. `level` is trace, debug, info, warn or error. */
export function log(message, level = 'info') {
  write(level, String(message));
}
