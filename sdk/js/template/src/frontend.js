// hello-lang: a build language. FROM, RUN, COPY and CMD are what you think; HELLO is new.
import { Base, BuildFile, Outcome, frontend, local } from '../sdk/index.js';

export const build = frontend((invocation) => {
  const file = BuildFile.read(invocation);
  const outcome = new Outcome();
  for (const platform of invocation.platforms()) {
    const base = buildFor(file, platform);
    for (const [name, value] of invocation.labels()) base.config.setLabel(name, value);
    outcome.add(platform, base);
  }
  return outcome;
});

/** Goes through the lines for one platform. */
function buildFor(file, platform) {
  let base = Base.scratch(platform);
  for (const [number, line] of file.lines()) {
    const [, word, rest] = /^(\S+)\s*(.*)$/.exec(line);
    // What progress shows, and where errors point.
    const here = { name: line, at: file.at(number) };
    switch (word) {
      case 'FROM':
        base = Base.resolve(rest, platform).wait();
        break;
      case 'HELLO':
        base.mkfile('/hello.txt', `hello, ${rest}\n`, here);
        break;
      case 'RUN':
        base.run(rest, here);
        break;
      case 'COPY': {
        const [from, to] = rest.split(' ');
        if (!to) throw file.error(number, 'COPY wants two paths', 'COPY FROM TO');
        base.copy(local('context'), from, to, here);
        break;
      }
      case 'CMD':
        base.config.run.Cmd = ['/bin/sh', '-c', rest];
        break;
      default:
        throw file.error(number, `there is no instruction \`${word}\``, 'these are: FROM, HELLO, RUN, COPY, CMD');
    }
  }
  return base;
}
