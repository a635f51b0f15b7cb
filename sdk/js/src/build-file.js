// The build file: its text, its lines, and findings that point into it.
import { readFile } from 'rhost:frontend/context@0.1.0';
import { SourceMap } from 'rhost:frontend/llb@0.1.0';
import { Diagnostic, warning } from 'rhost:frontend/report@0.1.0';
import { FrontendError, asked } from './error.js';

export class BuildFile {
  constructor(name, text, map) {
    /** As the user knows it. */
    this.name = name;
    /** What it says. */
    this.text = text;
    this.map = map;
  }

  /** Reads the build file of an invocation. */
  static read(invocation) {
    const name = invocation.buildFile();
    const bytes = asked(() => readFile('dockerfile', name));
    let text;
    try {
      text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
    } catch {
      throw new FrontendError(`${name} is not UTF-8`);
    }
    return new BuildFile(name, text, new SourceMap(name, '', bytes, undefined));
  }

  /** Its lines as `[number, text]`, from 1, without spaces around them; without empty ones and those that begin with `#`. */
  lines() {
    const all = this.text.split('\n').map((line, index) => [index + 1, line.trim()]);
    return all.filter(([, line]) => line !== '' && !line.startsWith('#'));
  }

  /** What an operation's `at` takes: that it comes from a line, or from `line` to `last`. */
  at(line, last = line) {
    return { map: this.map, ranges: [span(line, last)] };
  }

  /** Shows an error in a line, and gives what to throw. */
  error(line, message, help) {
    const finding = new Diagnostic('error', message);
    finding.mark(this.map, span(line, line), '');
    if (help) finding.help(help);
    finding.emit();
    return new FrontendError(`${this.name}:${line}: ${message}`);
  }

  /** Shows a warning on a line. `code` is a stable name for this kind of finding. */
  warn(line, code, message) {
    warning(code, message, this.map, [span(line, line)]);
  }
}

const span = (first, last) => ({ start: { line: first, character: 0 }, end: { line: last, character: 0 } });
