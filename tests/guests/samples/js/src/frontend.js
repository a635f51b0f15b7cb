// The four samples in JavaScript. The first word of the build file chooses one; docs/frontends/cookbook.md quotes the pieces between the marks.
import {
  Base, BuildFile, Outcome, bind, cache, diff, fail, frontend, git, http, local, merge, readContext, scratch, secret, ssh, tmpfs,
} from '../sdk/index.js';

const samples = { hello, 'multi-stage': multiStage, branch, solve: solveThenRead, sources, options, panic };

export const build = frontend((invocation) => {
  const file = BuildFile.read(invocation);
  const outcome = new Outcome();
  for (const platform of invocation.platforms()) {
    const [number, line] = file.lines()[0] ?? [];
    if (!number) throw fail('the build file is empty');
    const [, word, rest] = /^(\S+)\s*(.*)$/.exec(line);
    const sample = samples[word];
    if (!sample) throw file.error(number, `there is no sample \`${word}\``, 'hello, multi-stage, branch, solve, sources, options');
    outcome.add(platform, sample(platform, rest));
  }
  return outcome;
});

function panic() {
  throw new TypeError('as it was asked to');
}

// [hello]
function hello(platform, who) {
  const base = Base.resolve('docker.io/library/busybox', platform).wait();
  base.mkfile('/hello.txt', `hello, ${who}\n`, { name: 'say hello' });
  base.config.run.Cmd = ['cat', '/hello.txt'];
  base.config.setEnv('GREETED', who);
  base.config.setLabel('greeting', '<hello & welcome>');
  return base;
}
// [/hello]

// [multi-stage]
function multiStage(platform) {
  // Both are asked for before either is waited for.
  const pending = [Base.resolve('docker.io/library/debian:12', platform), Base.resolve('docker.io/library/busybox', platform)];
  const builder = pending[0].wait();
  const source = local('context', { paths: ['Makefile', 'src'] });
  const made = builder
    .execute('make -C /src DESTDIR=/out', {
      name: 'make',
      mounts: [
        bind('/src', source, { mode: 'discard' }),
        bind('/out', scratch(), { mode: 'keep' }),
        cache('/root/.cache', 'make', { sharing: 'locked' }),
        tmpfs('/tmp', 64 << 20),
        secret('token'),
        secret('npm', { env: 'NPM_TOKEN' }),
        ssh(),
      ],
    })
    .output('/out');
  const base = pending[1].wait();
  base.copy(made, '/bin', '/usr/local/bin/', { name: 'copy what was made' });
  base.config.run.Entrypoint = ['/usr/local/bin/app'];
  return base;
}
// [/multi-stage]

// [branch]
function branch(platform) {
  let image, command;
  if (readContext('package.json') !== undefined) {
    [image, command] = ['docker.io/library/node:22', 'npm ci'];
  } else if (readContext('go.mod') !== undefined) {
    [image, command] = ['docker.io/library/golang:1', 'go build ./...'];
  } else {
    throw fail('the context has neither package.json nor go.mod: nothing tells how to build it');
  }
  const base = Base.resolve(image, platform).wait();
  base.config.run.WorkingDir = '/src';
  base.copy(local('context'), '/', '/src/', { name: 'copy the sources' });
  base.run(command, { name: command });
  return base;
}
// [/branch]

// [solve]
function solveThenRead(platform) {
  const base = Base.resolve('docker.io/library/busybox', platform).wait();
  const { state } = base;
  const listed = base.run('ls /bin > /list', { name: 'list' });
  const list = listed.solve().wait().readText('/list');
  base.state = state;
  for (const name of list.split('\n').filter(Boolean)) {
    base.files((f) => f.mkdir('/items').symlink(`/bin/${name}`, `/items/${name}`), { name });
  }
  return base;
}
// [/solve]

// [sources]
function sources(platform) {
  const base = Base.scratch(platform);
  const repository = git('https://example.com/team/app.git', { ref: 'main', subdir: 'docs' });
  const archive = http('https://example.com/a<b>&c.txt', 'c.txt', { checksum: `sha256:${'0'.repeat(64)}` });
  const cleaned = repository.rm('/*.tmp', { name: 'clean' });
  const changes = diff(repository, cleaned, { name: 'what cleaning did' });
  base.state = merge([archive, changes], { name: 'together' });
  base.state = base.state.run(['/c.txt'], { platform, user: 'nobody', network: 'none', name: 'run it' });
  return base;
}
// [/sources]

/** What steps may say beyond the recipes. */
function options(platform) {
  const base = Base.scratch(platform);
  const context = local('context');
  const owned = { owner: 'app:7', timestamp: 1_000_000_000 };
  const tree = base.state.files(
    (f) =>
      f
        .mkdir('/srv', { mode: 0o750, owner: '7', parents: false })
        .mkfile('/srv/a', 'a', { mode: 0o600, ...owned })
        .symlink('a', '/srv/b', owned)
        .copy(context, 'x', '/srv/', {
          owner: 'app:app', mode: 'u=rwX,go=rX', include: ['*.a'], exclude: ['*.tmp'], requiredPaths: ['x'],
        })
        .copy(context, 'y.tar', '/srv/y', { exact: true, unpack: true, mode: 0o644, timestamp: 5 })
        .rm('/srv/c', { allowMissing: false, wildcard: false }),
    { name: 'own' },
  );
  const ran = tree.execute(['/srv/a'], {
    platform, network: 'host', security: 'insecure', hostname: 'here', hosts: { db: '10.0.0.1' }, ulimits: { nofile: [1024, 2048] },
    validExitCodes: [0, 3], readOnlyRoot: true, name: 'run it',
    mounts: [
      bind('/out', scratch(), { mode: 'keep' }),
      secret('token', { target: '/token', optional: true, uid: 1, gid: 2, mode: 0o440 }),
      secret('npm', { env: 'NPM_TOKEN', optional: true }),
      ssh('default', { target: '/agent', optional: true }),
      cache('/cache', 'c', { sharing: 'private', from: tree, path: '/srv', readOnly: true }),
    ],
  });
  // Of the root, which is read-only, nothing comes.
  base.state = ran.output('/out');
  return base;
}
