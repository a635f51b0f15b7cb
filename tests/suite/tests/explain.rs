//! Why steps ran: what a build says of those that an earlier one had, and what makes them hit after all.
use std::path::Path;

use rhost_kit::{Ran, TestHost, host_with_busybox};

/// Runs `rhost build --progress plain` and gives what it said.
fn build(host: &TestHost, context: &str, more: &[&str]) -> String {
    let arguments = ["build", "--progress", "plain"].iter().chain(more).copied().chain([context]);
    let ran = host.run(arguments).expect("ran");
    let text = ran.stderr.clone();
    ran.success();
    text
}

fn cached(text: &str) -> usize {
    text.matches(" CACHED\n").count()
}

/// A context as a checkout under `umask` leaves it: git keeps nothing of modes but who may execute.
fn check_out(host: &TestHost, name: &str, umask: &str) -> String {
    let script = format!(
        "umask {umask}; mkdir -p {name}/src && cd {name} && echo data > src/a.txt && : > src/empty && echo 'echo hello' > src/run.sh && chmod +x src/run.sh && ln -s a.txt src/link && printf 'FROM busybox\\nCOPY src /src\\nRUN find /src -exec stat -c \"%%a %%n\" {{}} + | sort > /modes\\nRUN --mount=target=/ctx stat -c %%a /ctx/src/a.txt > /bound\\n' > Dockerfile"
    );
    let done = std::process::Command::new("/bin/sh").args(["-c", &script]).current_dir(host.work()).status();
    assert!(done.expect("sh").success());
    host.work().join(name).display().to_string()
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).expect("there")
}

#[test]
fn a_checkout_with_another_umask_hits_with_normalized_modes() {
    let Some((host, _registry)) = host_with_busybox() else { return };
    let (open, private) = (check_out(&host, "open", "022"), check_out(&host, "private", "077"));
    let out = |name: &str| host.dir().join(name);
    let into = |name: &str| format!("type=local,dest={}", out(name).display());
    assert_eq!(cached(&build(&host, &open, &["-o", &into("a")])), 0);
    assert_eq!(cached(&build(&host, &private, &["-o", &into("b")])), 1, "only FROM");
    assert_ne!(read(&out("a/modes")), read(&out("b/modes")));
    // The modes of the first are normal: what it made is what is wanted.
    assert_eq!(cached(&build(&host, &private, &["--normalize-modes", "-o", &into("c")])), 4);
    assert_eq!(read(&out("c/modes")), read(&out("a/modes")));
    let wanted = "644 /src/a.txt\n644 /src/empty\n755 /src\n755 /src/run.sh\n777 /src/link\n";
    assert_eq!(read(&out("a/modes")), wanted);
    assert_eq!(cached(&build(&host, &open, &["--normalize-modes"])), 4);
    // What is built with it is the same whoever builds it.
    let anew = build(&host, &private, &["--normalize-modes=true", "--no-cache", "-o", &into("d")]);
    assert_eq!(cached(&anew), 1, "{anew}");
    assert_eq!(read(&out("d/modes")), wanted);
    assert_eq!(read(&out("d/bound")), "644\n", "a mounted context has them too");
    // The configuration may say it, the command line may say otherwise.
    let config = read(&host.dir().join("config.toml"));
    host.write_config(&format!("{config}\n[build]\nnormalizeModes = true\n")).expect("written");
    assert_eq!(cached(&build(&host, &private, &["-o", &into("e")])), 4);
    assert_eq!(read(&out("e/modes")), wanted);
    assert_eq!(cached(&build(&host, &private, &["--normalize-modes=false", "-o", &into("f")])), 4);
    assert_eq!(read(&out("f/modes")), read(&out("b/modes")));
    let wrong = host.run(["build", "--normalize-modes=perhaps", &open]).expect("ran");
    assert!(Ran::failure(wrong, 2).contains("perhaps"));
}

/// Lines of `text` that say why a step ran, without their numbers.
fn reasons(text: &str) -> Vec<String> {
    let lines = text.lines().filter(|line| line.contains(": ran, because "));
    lines.map(|line| line.split_once(' ').map_or(line, |(_, rest)| rest).to_owned()).collect()
}

const DOCKERFILE: &str = "FROM busybox AS build\n\
    WORKDIR /app\n\
    COPY package.json package-lock.json ./\n\
    RUN wc -c package.json package-lock.json > installed\n\
    COPY src src\n\
    RUN cat src/* > built\n\
    FROM busybox\n\
    COPY --from=build /app/built /built\n\
    RUN wc -c < /built > /size\n";

fn project(host: &TestHost) -> String {
    for (path, text) in [
        ("ctx/Dockerfile", DOCKERFILE),
        ("ctx/package.json", "{}"),
        ("ctx/package-lock.json", "{1}"),
        ("ctx/src/a.js", "a"),
        ("ctx/src/b.js", "b"),
    ] {
        host.write(path, text).expect("written");
    }
    host.work().join("ctx").display().to_string()
}

#[test]
fn a_step_that_ran_again_says_which_file_is_to_blame() {
    let Some((host, _registry)) = host_with_busybox() else { return };
    let context = project(&host);
    let said = |what: &str| {
        let found = reasons(&build(&host, &context, &[]));
        eprintln!("{what}: {found:#?}");
        found
    };
    assert_eq!(said("first"), Vec::<String>::new(), "a first build has nothing to explain");
    assert_eq!(said("no-op"), Vec::<String>::new());
    host.write("ctx/package-lock.json", "{2}").expect("written");
    assert_eq!(
        said("lock file"),
        [
            "[build 3/6] COPY package.json package-lock.json ./: ran, because package-lock.json changed",
            "[build 4/6] RUN wc -c package.json package-lock.json > installed: ran, because package-lock.json changed (see [build 3/6])",
            "[build 5/6] COPY src src: ran, because package-lock.json changed (see [build 3/6])",
            "[build 6/6] RUN cat src/* > built: ran, because package-lock.json changed (see [build 3/6])",
        ],
        "what was built of it is the same, so the last stage has nothing to do"
    );
    host.write("ctx/src/b.js", "bb").expect("written");
    let found = said("source");
    assert_eq!(
        found,
        [
            "[build 5/6] COPY src src: ran, because src/b.js changed",
            "[build 6/6] RUN cat src/* > built: ran, because src/b.js changed (see [build 5/6])",
            "[stage-1 2/3] COPY --from=build /app/built /built: ran, because app/built of [build 6/6] changed",
            "[stage-1 3/3] RUN wc -c < /built > /size: ran, because app/built of [build 6/6] changed (see [stage-1 2/3])",
        ]
    );
    // Back to what was: all cached. Then a change is compared with what is nearest, not with what was last.
    host.write("ctx/src/b.js", "b").expect("written");
    assert_eq!(said("back"), Vec::<String>::new());
    host.write("ctx/src/c.js", "c").expect("written");
    assert_eq!(said("new file")[0], "[build 5/6] COPY src src: ran, because src/c.js is new");
    std::fs::rename(host.work().join("ctx/src/a.js"), host.work().join("ctx/src/z.js")).expect("renamed");
    assert_eq!(said("renamed")[0], "[build 5/6] COPY src src: ran, because src/a.js was renamed to src/z.js");
    std::fs::remove_file(host.work().join("ctx/src/z.js")).expect("removed");
    assert_eq!(said("removed")[0], "[build 5/6] COPY src src: ran, because src/z.js is gone");
    host.write("ctx/src/run.sh", "x").expect("written");
    said("another");
    let script = host.work().join("ctx/src/run.sh");
    rustix_chmod(&script, 0o755);
    assert_eq!(
        said("mode")[0],
        "[build 5/6] COPY src src: ran, because the mode of src/run.sh changed from 0644 to 0755; --normalize-modes makes checkouts under different umasks alike"
    );
    std::fs::remove_file(&script).expect("removed");
    std::os::unix::fs::symlink("c.js", &script).expect("linked");
    assert_eq!(said("link")[0], "[build 5/6] COPY src src: ran, because src/run.sh was a file and is a symbolic link");
    std::fs::remove_file(&script).expect("removed");
    std::os::unix::fs::symlink("b.js", &script).expect("linked");
    assert_eq!(said("target")[0], "[build 5/6] COPY src src: ran, because the target of the link src/run.sh changed");
}

fn rustix_chmod(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("chmod");
}

/// One build after the other of a context of Dockerfiles.
struct Bed<'h> {
    host: &'h TestHost,
    context: String,
}

impl<'h> Bed<'h> {
    fn new(host: &'h TestHost) -> Self {
        Self { host, context: host.work().join("ctx").display().to_string() }
    }

    /// Why steps of `dockerfile` ran, with these flags.
    fn said(&self, dockerfile: &str, more: &[&str]) -> Vec<String> {
        self.host.write("ctx/Dockerfile", dockerfile).expect("written");
        let text = build(self.host, &self.context, more);
        let found = reasons(&text);
        eprintln!("{more:?} {found:#?}");
        found
    }

    #[track_caller]
    fn says(&self, dockerfile: &str, more: &[&str], wanted: &[&str]) {
        assert_eq!(self.said(dockerfile, more), wanted);
    }
}

#[test]
fn a_step_that_was_edited_says_what_of_it() {
    let Some((host, _registry)) = host_with_busybox() else { return };
    let bed = Bed::new(&host);
    let plain = "FROM busybox\nARG V=1\nENV E=one\nRUN echo $V > /a\nRUN echo end > /b\n";
    bed.says(plain, &[], &[]);
    bed.says(
        &plain.replace("E=one", "E=two"),
        &[],
        &[
            "[2/3] RUN echo 1 > /a: ran, because the variable E changed from `one` to `two`",
            "[3/3] RUN echo end > /b: ran, because the variable E changed from `one` to `two`",
        ],
    );
    bed.says(
        plain,
        &["--build-arg", "V=tok-en"],
        &[
            "[2/3] RUN echo *** > /a: ran, because the build argument V changed",
            "[3/3] RUN echo end > /b: ran, because the build argument V changed",
        ],
    );
    bed.says(
        &plain.replace("RUN echo end > /b", "RUN echo END > /b"),
        &[],
        &["[3/3] RUN echo END > /b: ran, because the command changed from `echo end > /b` to `echo END > /b`"],
    );
    bed.says(
        &plain.replace("RUN echo end", "WORKDIR /w\nUSER 0:0\nRUN --network=none echo end"),
        &[],
        // WORKDIR is a step, and new: the fifth reason.
        &["[4/4] RUN --network=none echo end > /b: ran, because the working directory is new (`/w`), the user is new (`0:0`), the network is new (`none`) and 1 more"],
    );
    bed.says(
        &plain.replace("RUN echo $V", "RUN echo new > /n\nRUN echo $V"),
        &[],
        &["[3/4] RUN echo 1 > /a: ran, because [2/4] is new", "[4/4] RUN echo end > /b: ran, because [2/4] is new"],
    );
    bed.says(
        &plain.replace("RUN echo $V > /a\n", ""),
        &[],
        &["[2/2] RUN echo end > /b: ran, because `RUN echo 1 > /a` before it is gone"],
    );
    bed.says(
        &plain.replace("RUN echo end", "RUN --mount=type=cache,target=/c --mount=type=secret,id=s echo end"),
        &[],
        &["[stage-0 3/3] RUN --mount=type=cache,target=/c --mount=type=secret,id=s ec…: ran, because the mount at /c is new (`type=cache`), the mount at /run/secrets/s is new (`type=secret,id=s,uid=0,gid=0,mode=0400`)"],
    );
    bed.says(
        plain,
        &["--no-cache"],
        &[
            "[2/3] RUN echo 1 > /a: ran, because the cache was not to be used",
            "[3/3] RUN echo end > /b: ran, because the cache was not to be used",
        ],
    );
    let stages = "FROM busybox AS one\nRUN date +%N > /t\nFROM one\nRUN echo x > /x\n";
    bed.says(stages, &[], &[]);
    bed.says(
        stages,
        &["--no-cache-filter", "one"],
        &[
            "[one 2/2] RUN date +%N > /t: ran, because the cache was not to be used",
            "[stage-1 1/1] RUN echo x > /x: ran, because [one 2/2] ran without the cache",
        ],
    );
}

#[test]
fn copies_platforms_and_bases_say_what_changed() {
    let Some((host, registry)) = host_with_busybox() else { return };
    let bed = Bed::new(&host);
    host.write("ctx/a", "a").expect("written");
    host.write("ctx/b", "b").expect("written");
    host.write("ctx/d/a", "other").expect("written");
    let plain = "FROM busybox\nCOPY a /x\n";
    bed.says(plain, &[], &[]);
    bed.says(
        &plain.replace("a /x", "b /x"),
        &[],
        &["[2/2] COPY b /x: ran, because the source changed from `a` to `b`"],
    );
    bed.says(
        &plain.replace("a /x", "d/a /x"),
        &[],
        &["[2/2] COPY d/a /x: ran, because the source's directory is new (`/d`)"],
    );
    bed.says(
        &plain.replace("a /x", "a /y"),
        &[],
        &["[2/2] COPY a /y: ran, because the destination changed from `/x` to `/y`"],
    );
    bed.says(
        &plain.replace("COPY a", "COPY --chown=3:4 --chmod=600 a"),
        &[],
        &["[2/2] COPY --chown=3:4 --chmod=600 a /x: ran, because the owner to give is new (`3:4`), the mode to give is new (`0600`)"],
    );
    // A base that moves, by its layers.
    let mut other = rhost_kit::busybox().expect("busybox");
    let old = bed.said("FROM busybox\nRUN echo x > /x\n", &[]);
    assert!(old.len() <= 1, "{old:?}");
    let moved = host.write("moved/Dockerfile", "FROM busybox\nRUN echo moved > /etc/moved\n").expect("written");
    let moved = moved.parent().expect("there").display().to_string();
    let name = format!("{}/library/busybox:latest", registry.address());
    build(&host, &moved, &["-t", &name, "--push"]);
    host.run(["rmi", &name]).expect("ran").success();
    let found = bed.said("FROM busybox\nRUN echo x > /x\n", &["--pull"]);
    let [found] = &found[..] else { panic!("one line: {found:?}") };
    assert!(found.starts_with("[2/2] RUN echo x > /x: ran, because busybox:latest moved from sha256:"), "{found}");
    assert!(found.ends_with("(see [1/2])") && found.contains(" to sha256:"), "{found}");
    let _ = &mut other;
}

#[test]
fn results_that_are_gone_say_where_they_went() {
    let Some((host, _registry)) = host_with_busybox() else { return };
    let bed = Bed::new(&host);
    let plain = "FROM busybox\nRUN echo one > /a\nRUN test ! -e /never && echo two > /b\n";
    bed.says(plain, &["-o", "type=tar,dest=/dev/null"], &[]);
    host.run(["prune", "--all"]).expect("ran").success();
    let found = bed.said(plain, &["-o", "type=tar,dest=/dev/null"]);
    assert_eq!(found.len(), 2, "{found:?}");
    for line in &found {
        assert!(
            line.contains("ran, because its earlier result was pruned at 20") && line.contains("(not in use)"),
            "{line}"
        );
    }
    // Layers that vanish from the disk.
    for layer in std::fs::read_dir(host.root().join("snapshots-v1"))
        .or_else(|_| std::fs::read_dir(host.root().join("snapshots-user-v1")))
        .expect("listed")
    {
        std::fs::remove_dir_all(layer.expect("an entry").path()).expect("removed");
    }
    let found = bed.said(plain, &["-o", "type=tar,dest=/dev/null"]);
    assert!(
        found.iter().any(|line| line.ends_with("ran, because its earlier result is damaged, or gone from the disk")),
        "{found:?}"
    );
    // The records themselves.
    std::fs::write(host.root().join("records-v3.sqlite"), "no database at all, this is").expect("written");
    for name in ["records-v3.sqlite-wal", "records-v3.sqlite-shm"] {
        let _ = std::fs::remove_file(host.root().join(name));
    }
    let found = bed.said(plain, &["-o", "type=tar,dest=/dev/null"]);
    assert!(
        found
            .iter()
            .all(|line| line.ends_with("its earlier result is lost with the store's records, which were damaged")),
        "{found:?}"
    );
    assert_eq!(found.len(), 2);
    // A step that failed.
    let failing = plain.replace("! -e /never", "-e /never");
    host.write("ctx/Dockerfile", &failing).expect("written");
    for wanted in [
        "[3/3] RUN test -e /never && echo two > /b: ran, because the command changed from `test ! -e /never && echo two > /b` to `test -e /never && echo two > /b`",
        "[3/3] RUN test -e /never && echo two > /b: ran, because it failed the last time",
    ] {
        let text = host.run(["build", "--progress", "plain", &bed.context]).expect("ran").failure(1);
        assert_eq!(reasons(&text), [wanted]);
    }
    bed.says(plain, &[], &[]);
    // What is kept of builds is damaged: nothing is said, and nothing fails.
    for entry in std::fs::read_dir(host.root().join("history-v1")).expect("listed") {
        let path = entry.expect("an entry").path();
        let bytes = std::fs::read(&path).expect("read");
        std::fs::write(&path, &bytes[..bytes.len() / 2]).expect("written");
    }
    bed.says(&plain.replace("one", "three"), &[], &[]);
    bed.says(&plain.replace("one", "four"), &[], &[
        "[2/3] RUN echo four > /a: ran, because the command changed from `echo three > /a` to `echo four > /a`",
        "[3/3] RUN test ! -e /never && echo two > /b: ran, because the command changed from `echo three > /a` to `echo four > /a` (see [2/3])",
    ]);
}

#[test]
fn explain_tells_of_every_step() {
    let Some((host, _registry)) = host_with_busybox() else { return };
    let context = project(&host);
    let explain = |more: &[&str]| {
        let ran =
            host.run(["build", "--explain=json"].iter().chain(more).copied().chain([context.as_str()])).expect("ran");
        serde_json::from_str::<serde_json::Value>(&ran.success()).expect("one JSON object")
    };
    let find = |found: &serde_json::Value, name: &str| {
        let steps = found["steps"].as_array().expect("a list");
        steps.iter().find(|step| step["step"].as_str().is_some_and(|s| s.contains(name))).expect("the step").clone()
    };
    let first = explain(&[]);
    assert_eq!((first["version"].as_u64(), first["context"].as_str()), (Some(1), Some(context.as_str())));
    assert!(first["frontend"].as_str().expect("a name").contains("rhost"), "{first}");
    let copy = find(&first, "COPY package.json");
    assert_eq!(
        (copy["state"].as_str(), copy["matched_by"].as_str(), copy["line"].as_u64()),
        (Some("ran"), None, Some(3))
    );
    assert!(copy["compared_with"].is_null() && copy["causes"].as_array().is_some_and(Vec::is_empty), "{copy}");
    assert_eq!(copy["inputs"][1]["files"].as_u64(), Some(2), "{copy}");
    // All of it from the cache: it says by what.
    let again = explain(&[]);
    assert_eq!(find(&again, "COPY package.json")["matched_by"], "content");
    assert_eq!(find(&again, "RUN wc -c package.json")["matched_by"], "definition");
    assert_eq!(find(&again, "COPY --from=build")["state"], "cached");
    host.write("ctx/src/a.js", "other").expect("written");
    let changed = explain(&[]);
    let copy = find(&changed, "COPY src src");
    assert_eq!(copy["state"], "ran");
    assert_eq!(copy["because"], "src/a.js changed");
    let cause = &copy["causes"][0];
    assert_eq!(
        (cause["cause"].as_str(), cause["path"].as_str(), cause["how"].as_str(), cause["text"].as_str()),
        (Some("file"), Some("src/a.js"), Some("changed"), Some("src/a.js changed"))
    );
    assert!(copy["compared_with"]["at"].as_str().is_some_and(|at| at.starts_with("20")), "{copy}");
    assert!(
        copy["parts"]
            .as_array()
            .expect("a list")
            .iter()
            .any(|part| part["part"] == "destination" && part["value"] == "/app/src"),
        "{copy}"
    );
    let run = find(&changed, "RUN cat src/*");
    assert_eq!(run["causes"][0]["step"], "[build 5/6] COPY src src");
    // For people.
    host.write("ctx/src/a.js", "third").expect("written");
    let text = host.run(["build", "--explain", &context]).expect("ran").success();
    assert!(text.contains("ran     [build 5/6] COPY src src (line 5)\n        - src/a.js changed\n        compared with the build that ended at 20"), "{text}");
    assert!(text.contains("cached  [build 4/6] RUN wc -c package.json package-lock.json > installed (line 4)\n        known by how it is made\n"), "{text}");
    // stdout is for one of them.
    let wrong = |more: &[&str]| {
        host.run(["build", "--explain"].iter().chain(more).copied().chain([context.as_str()])).expect("ran").failure(2)
    };
    assert!(wrong(&["--quiet"]).contains("--iidfile"));
    assert!(wrong(&["-o", "-"]).contains("dest="));
    // In progress for programs.
    host.write("ctx/src/a.js", "fourth").expect("written");
    let ran = host.run(["build", "--progress", "rawjson", &context]).expect("ran");
    let lines: Vec<serde_json::Value> = ran.stderr.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    ran.success();
    let told = lines.iter().find_map(|line| line["explanations"].as_array()).expect("an explanation");
    assert_eq!(told[0]["because"], "src/a.js changed");
}

#[test]
fn values_of_build_arguments_are_neither_said_nor_kept() {
    let Some((host, _registry)) = host_with_busybox() else { return };
    let bed = Bed::new(&host);
    let dockerfile =
        "FROM busybox\nARG TOKEN\nENV HEADER=\"Bearer $TOKEN\"\nRUN echo $TOKEN | wc -c\nWORKDIR /w/$TOKEN\n";
    for (token, wanted) in [("first-gh-token", 0), ("other-gh-token", 2)] {
        let argument = format!("TOKEN={token}");
        let found = bed.said(dockerfile, &["--build-arg", &argument, "-o", "type=tar,dest=/dev/null"]);
        assert_eq!(found.len(), wanted, "{found:?}");
        assert!(found.iter().all(|line| !line.contains("gh-token")), "{found:?}");
        assert!(
            found.iter().all(|line| line.contains("the variable HEADER changed, the build argument TOKEN changed")
                || line.contains("the destination changed")),
            "{found:?}"
        );
    }
    for entry in std::fs::read_dir(host.root().join("history-v1")).expect("listed") {
        let bytes = std::fs::read(entry.expect("an entry").path()).expect("read");
        assert!(String::from_utf8_lossy(&bytes).contains("RUN echo"), "the same search finds what is there");
        assert!(!String::from_utf8_lossy(&bytes).contains("gh-token"));
    }
}

#[test]
fn another_checkout_is_compared_with_the_first() {
    let Some((host, _registry)) = host_with_busybox() else { return };
    let (open, private) = (check_out(&host, "open", "022"), check_out(&host, "private", "077"));
    build(&host, &open, &[]);
    let found = reasons(&build(&host, &private, &[]));
    let note =
        format!("(compared with the build of {open}); --normalize-modes makes checkouts under different umasks alike");
    assert!(found[0].starts_with("[stage-0 2/4] COPY src /src: ran, because the mode of src"), "{found:#?}");
    assert!(found[0].contains(" changed from 0755 to 0700") && found[0].ends_with(&note), "{found:#?}");
}

#[test]
fn what_moved_elsewhere_says_from_where_to_where() {
    if !rhost_kit::have(&["git"]) {
        return;
    }
    let (host, server) =
        (rhost_kit::TestHost::new().expect("a host"), rhost_kit::GitServer::start().expect("a server"));
    let text = std::sync::Arc::new(std::sync::Mutex::new("one"));
    let now = text.clone();
    let files = rhost_kit::Proxy::alone(move |_| rhost_kit::Answer::reply(200, *now.lock().expect("not poisoned")));
    let files = files.expect("a server");
    let first = server.commit("r", &[("a", "one")]).expect("a commit");
    let url = files.url("file");
    let dockerfile = format!("FROM scratch\nADD {}#main /g/\nADD {url} /f/\n", server.url("r"));
    host.write("ctx/Dockerfile", dockerfile).expect("written");
    let build = || host.run(["build", "--explain", "ctx"]).expect("ran").success();
    build();
    let second = server.commit("r", &[("a", "two")]).expect("a commit");
    *text.lock().expect("not poisoned") = "two";
    let told = build();
    let git = format!("r.git#main moved from {} to {}", &first[..12], &second[..12]);
    assert!(told.contains(&git), "wanted `{git}` in {told}");
    let digest = |text: &str| format!("sha256:{}", &rhost_llb::Digest::of(text).hex()[..12]);
    let http = format!("{url} moved from {} to {}", digest("one"), digest("two"));
    assert!(told.contains(&http), "wanted `{http}` in {told}");
}
