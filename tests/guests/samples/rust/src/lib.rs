//! The four samples in Rust. The first word of the build file chooses one; `docs/frontends/cookbook.md` quotes the pieces between the marks.
use rhost_sdk::{
    Access, Base, BindMode, BuildFile, CacheOptions, CacheSharing, Copy, CopyOptions, Error, FileOptions, Invocation, Mode, NetworkMode, Outcome,
    Platform, SecurityMode, State, diff, fail, files, git, http, json, local, merge, owner, read_context, run, scratch, solve,
};

rhost_sdk::frontend!(build);

fn build(invocation: Invocation) -> Result<Outcome, Error> {
    let file = BuildFile::read(&invocation)?;
    let outcome = Outcome::new();
    for platform in invocation.platforms() {
        let (number, line) = file.lines().next().ok_or_else(|| fail("the build file is empty"))?;
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let base = match word {
            "hello" => hello(rest, &platform)?,
            "multi-stage" => multi_stage(&platform)?,
            "branch" => branch(&platform)?,
            "solve" => solve_then_read(&platform)?,
            "sources" => sources(&platform)?,
            "options" => options(&platform)?,
            "panic" => panic!("as it was asked to"),
            _ => return Err(file.error(number, &format!("there is no sample `{word}`"), Some("hello, multi-stage, branch, solve, sources, options"))),
        };
        outcome.add(&platform, &base.state, &base.config.to_json());
    }
    Ok(outcome)
}

// [hello]
fn hello(who: &str, platform: &Platform) -> Result<Base, Error> {
    let mut base = Base::resolve("docker.io/library/busybox", platform).wait()?;
    base.state = files(&base.state).mkfile("/hello.txt", 0o644, format!("hello, {who}\n").as_bytes()).done("say hello")?;
    base.config.set("Cmd", json!(["cat", "/hello.txt"]));
    base.config.set_env("GREETED", who);
    base.config.set_label("greeting", "<hello & welcome>");
    Ok(base)
}
// [/hello]

// [multi-stage]
fn multi_stage(platform: &Platform) -> Result<Base, Error> {
    // Both are asked for before either is waited for.
    let builder = Base::resolve("docker.io/library/debian:12", platform);
    let runtime = Base::resolve("docker.io/library/busybox", platform);
    let builder = builder.wait()?;
    let source = local("context", &["Makefile".into(), "src".into()])?;
    let made = builder
        .shell("make -C /src DESTDIR=/out")
        .mount("/src", &source, "", BindMode::Discard)
        .mount("/out", &scratch(), "", BindMode::Keep)
        .cache("/root/.cache", "make", CacheSharing::Locked)
        .tmpfs("/tmp", 64 << 20)
        .secret("/run/secrets/token", "token")
        .secret_env("NPM_TOKEN", "npm")
        .ssh("default")
        .ran(&rhost_sdk::named("make"))?
        .output("/out")?;
    let mut base = runtime.wait()?;
    base.state = files(&base.state).copy(&made, "/bin", "/usr/local/bin/", Copy::LikeCopy).done("copy what was made")?;
    base.config.set("Entrypoint", json!(["/usr/local/bin/app"]));
    Ok(base)
}
// [/multi-stage]

// [branch]
fn branch(platform: &Platform) -> Result<Base, Error> {
    let (image, command) = if read_context("package.json")?.is_some() {
        ("docker.io/library/node:22", "npm ci")
    } else if read_context("go.mod")?.is_some() {
        ("docker.io/library/golang:1", "go build ./...")
    } else {
        return Err(fail("the context has neither package.json nor go.mod: nothing tells how to build it"));
    };
    let mut base = Base::resolve(image, platform).wait()?;
    base.config.set("WorkingDir", json!("/src"));
    base.state = files(&base.state).copy(&local("context", &[])?, "/", "/src/", Copy::LikeCopy).done("copy the sources")?;
    base.state = base.shell(command).done(command)?;
    Ok(base)
}
// [/branch]

// [solve]
fn solve_then_read(platform: &Platform) -> Result<Base, Error> {
    let mut base = Base::resolve("docker.io/library/busybox", platform).wait()?;
    let listed = base.shell("ls /bin > /list").done("list")?;
    let list = solve(&listed).wait()?.read_text("/list")?;
    for name in list.lines() {
        let path = format!("/items/{name}");
        base.state = files(&base.state).mkdir("/items", 0o755).symlink(&format!("/bin/{name}"), &path).done(name)?;
    }
    Ok(base)
}
// [/solve]

// [sources]
fn sources(platform: &Platform) -> Result<Base, Error> {
    let base = Base::scratch(platform);
    let repository = git("https://example.com/team/app.git", "main", "docs")?;
    let archive = http("https://example.com/a<b>&c.txt", "c.txt", &format!("sha256:{}", "0".repeat(64)))?;
    let cleaned = files(&repository).rm("/*.tmp").done("clean")?;
    let changes = diff(&repository, &cleaned, "what cleaning did")?;
    let state: State = merge(&[&archive, &changes], "together")?;
    let ran = run(&state, platform, &["/c.txt"]).user("nobody").network(rhost_sdk::NetworkMode::None).done("run it")?;
    Ok(Base { state: ran, ..base })
}
// [/sources]

/// What steps may say beyond the recipes.
fn options(platform: &Platform) -> Result<Base, Error> {
    let base = Base::scratch(platform);
    let context = local("context", &[])?;
    let owned = FileOptions { owner: Some(owner("app:7")), timestamp: Some(1_000_000_000), ..FileOptions::default() };
    let copied = CopyOptions {
        owner: Some(owner("app:app")),
        mode: Some(Mode::Symbols("u=rwX,go=rX")),
        include: &["*.a"],
        exclude: &["*.tmp"],
        required_paths: &["x"],
        ..CopyOptions::default()
    };
    let exact = CopyOptions {
        exact: true,
        unpack: true,
        mode: Some(Mode::Bits(0o644)),
        timestamp: Some(5),
        ..CopyOptions::default()
    };
    let tree = files(&base.state)
        .mkdir_with("/srv", 0o750, &FileOptions { owner: Some(owner("7")), alone: true, ..FileOptions::default() })
        .mkfile_with("/srv/a", 0o600, b"a", &owned)
        .symlink_with("a", "/srv/b", &owned)
        .copy_with(&context, "x", "/srv/", &copied)
        .copy_with(&context, "y.tar", "/srv/y", &exact)
        .rm_exact("/srv/c")
        .done("own")?;
    let ran = run(&tree, platform, &["/srv/a"])
        .network(NetworkMode::Host)
        .security(SecurityMode::Insecure)
        .hostname("here")
        .host("db", "10.0.0.1")
        .ulimit("nofile", 1024, 2048)
        .valid_exit_codes(&[0, 3])
        .read_only_root()
        .mount("/out", &scratch(), "", BindMode::Keep)
        .secret_with("/token", "token", Access::SECRET.optional().owner(1, 2).mode(0o440))
        .secret_env_optional("NPM_TOKEN", "npm")
        .ssh_with("/agent", "default", Access::SSH.optional())
        .cache_with("/cache", "c", &CacheOptions {
            sharing: CacheSharing::Private,
            from: Some(&tree),
            path: "/srv",
            read_only: true,
        })
        .ran(&rhost_sdk::named("run it"))?;
    // Of the root, which is read-only, nothing comes.
    Ok(Base { state: ran.output("/out")?, ..base })
}
