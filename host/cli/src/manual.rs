//! What `--help` says beyond the options: examples, exit codes. The options themselves are documented where they are declared.

/// Of `rhost build`.
pub const BUILD: &str = "\
Examples:
  rhost build .                                        CONTEXT/Dockerfile, into rhost's own store
  rhost build -t app:1 -f deploy/Dockerfile .          another build file; an image with a name
  rhost build --target test --build-arg V=2 .          one stage, with a build argument
  rhost build -o type=docker,dest=- . | docker load    for docker
  rhost build -o out .                                 the files of the result, in the directory `out`
  rhost build -t registry.example/team/app:1 --push .  to a registry
  rhost build --platform linux/amd64,linux/arm64 -o type=oci,dest=app.tar .
  rhost build --secret id=npm,src=$HOME/.npmrc --ssh default .
  rhost build --explain .                              why each step ran, or by what the cache knew it
  rhost build --check .                                what the linter finds; nothing is built

Exit codes:
  0    done
  1    a step failed, or what it reads is missing; `--check` found something
  2    the command line, the configuration or the request is wrong
  3    the build file is wrong, or an image that it names is not there
  4    a frontend failed or was stopped
  5    a registry or the network failed
  6    the store or the disk failed
  7    a policy (`rhost.toml`, configuration) forbids it
  8    something is not in rhost.lock (`--locked`) or not as it says, or not here (`--offline`)
  129, 130, 143  stopped by SIGHUP, Ctrl-C, SIGTERM; a second signal ends it at once";

/// Of `rhost lock`.
pub const LOCK: &str = "\
Examples:
  rhost lock .                                       what this build needs, into rhost.lock
  rhost lock --platform linux/amd64,linux/arm64 .    with what only one of them needs
  rhost lock --locked .                              for CI: fails when the file would change
  rhost lock --update debian:12                      what the tag stands for now, shown as old -> new
  rhost lock --update                                all of them";

/// Of `rhost fetch`.
pub const FETCH: &str = "\
Examples:
  rhost fetch . && rhost build --offline .
  rhost fetch --platform linux/amd64,linux/arm64 --locked .";

/// Of `rhost vendor`.
pub const VENDOR: &str = "\
Examples:
  rhost vendor -o vendor .                          and on the other machine: rhost build --vendor vendor --offline .
  rhost vendor --locked --platform linux/amd64,linux/arm64 -o vendor .
  skopeo inspect oci:vendor:docker.io/library/debian:12";

/// Of `rhost save`.
pub const SAVE: &str = "\
Examples:
  rhost save app:1 | docker load
  rhost save -o app.tar app:1                 what `docker load -i app.tar` and `podman load` read
  rhost save --format oci -o app.tar app:1    what `skopeo copy oci-archive:app.tar …` reads";

/// Of `rhost tag`.
pub const TAG: &str = "\
Examples:
  rhost tag app:1 registry.example/team/app:1";

/// Of `rhost push`.
pub const PUSH: &str = "\
Examples:
  rhost push registry.example/team/app:1
  rhost push app:1 registry.example/team/app:2";

/// Of `rhost du`.
pub const DU: &str = "\
Examples:
  rhost du --filter type==exec.cachemount
  rhost du --filter 'inuse==false,description~=npm' --json";

/// Of `rhost prune`.
pub const PRUNE: &str = "\
Examples:
  rhost prune --dry-run
  rhost prune --keep-duration 7d --max-used-space 20GB";

/// Of `rhost cache export`.
pub const CACHE_EXPORT: &str = "\
Examples:
  rhost cache export --mount npm -o registry.example/team/cache:main    only what changed is sent
  rhost cache export --all -o .cache                                    a directory that a CI service keeps
  rhost cache export --mount npm --mount /root/.cargo -o type=tar,dest=cache.tar
  rhost cache export --all -o type=oci,dest=layout,name=main            one image among others of an OCI layout";

/// Of `rhost cache import`.
pub const CACHE_IMPORT: &str = "\
Examples:
  rhost cache import registry.example/team/cache:main
  rhost cache import --mount npm .cache
  rhost cache import --mode merge type=tar,dest=cache.tar
  ssh host rhost cache export --all -o - | rhost cache import -";

/// Of `rhost frontend push`.
pub const FRONTEND_PUSH: &str = "\
Examples:
  rhost frontend push lang.wasm registry.example/team/lang:1
  rhost frontend push ./lang registry.example/team/lang:1         a project: built first, described by its frontend.toml
  rhost frontend push --name lang --frontend-version 1.2 --language lang --file-pattern '*.lang' lang.wasm registry.example/team/lang:1.2";

/// Of `rhost frontend test`.
pub const FRONTEND_TEST: &str = "\
Examples:
  rhost frontend test --frontend ./lang.wasm              the tests in tests/
  rhost frontend test --frontend ./lang.wasm --update     keep what it makes now; read the difference before you commit it
  rhost frontend test --filter copy dockerfile-tests      some tests of the built-in frontend

Exit codes:
  0    every test passed
  1    a test failed
  2    there is no test, or a case.toml is wrong
  4    the frontend cannot be loaded
  5    its registry failed";

/// Of `rhost frontend build`.
pub const FRONTEND_BUILD: &str = "\
Examples:
  rhost frontend new --lang python my-lang && rhost frontend build my-lang
  rhost frontend build --output out.wasm
  rhost build --frontend ./my-lang .          the same, and a build with it

Exit codes:
  0  done, or up to date
  2  no project, or a tool is missing: the message says how to get it
  4  a tool failed, or what it made is no frontend";

/// Of `rhost frontend conformance`.
pub const FRONTEND_CONFORMANCE: &str = "\
Examples:
  rhost frontend conformance --frontend ./lang.wasm       samples are the tests in tests/
  rhost frontend conformance --frontend registry.example/team/lang:1 samples --json

Exit codes:
  0    every check passed or does not apply
  1    a check failed
  2    a case.toml is wrong
  4    the frontend cannot be loaded
  5    its registry failed";

/// Of `rhost frontend replay`.
pub const FRONTEND_REPLAY: &str = "\
Examples:
  rhost build --record-frontend run.recording .
  rhost frontend replay run.recording
  rhost frontend replay --frontend ./fixed.wasm run.recording    what the next version would do

Exit codes:
  0    it ended as it had, be that an answer or a crash
  1    it departed from the recording, or ended otherwise
  2    the file is no recording
  4    the frontend cannot be loaded";

/// What `rhost build` without a context is told.
pub const NO_CONTEXT: &str = "\
error: `rhost build` wants a context: the directory that COPY and ADD read from

  tip: for the directory you are in, write `rhost build .`

For more information, try '--help'.";
