//! Which repositories and files a build may fetch: by URL, at each redirect, and for each submodule.
use rhost_kit::{Answer, Asked, GitServer, Proxy, Ran, TestHost};

use super::has;

/// A host, files at one server, repositories at another; a second name for both.
struct Stage {
    host: TestHost,
    files: Proxy,
    repositories: GitServer,
    git: Proxy,
}

/// The same server under its other name.
fn other(address: &str) -> String {
    address.replace("127.0.0.1", "localhost")
}

fn stage() -> Option<Stage> {
    if !rhost_kit::have(&["git"]) {
        return None;
    }
    let files = Proxy::alone(|asked| match asked.path.as_str() {
        "/file" | "/team/file" => Answer::reply(200, "file"),
        path => {
            // `/to/HOST/PATH` leads there.
            let to = path.strip_prefix("/to/").map(|to| format!("http://{to}"));
            to.map_or_else(|| Answer::reply(404, ""), |to| Answer::reply(302, "").header("location", &to))
        }
    });
    let repositories = GitServer::start().expect("a git server");
    let git = Proxy::start(repositories.address()).expect("a proxy");
    Some(Stage { host: TestHost::new().expect("a host"), files: files.expect("a server"), repositories, git })
}

impl Stage {
    fn policy(&self, text: &str) {
        self.host.write("ctx/rhost.toml", format!("[policy]\n{text}\n")).expect("written");
    }

    fn add(&self, what: &str) -> Ran {
        self.host.write("ctx/Dockerfile", format!("FROM scratch\nADD {what} /x/\n")).expect("written");
        let _ = std::fs::remove_dir_all(self.host.work().join("out"));
        self.host.run(["build", "--progress", "plain", "--no-cache", "-o", "out", "ctx"]).expect("ran")
    }

    fn out(&self, path: &str) -> String {
        std::fs::read_to_string(self.host.work().join("out/x").join(path)).unwrap_or_default()
    }

    fn repository(&self, name: &str) -> String {
        format!("http://{}/{name}.git", self.git.address())
    }

    /// Repository `name` gets `of` as a submodule in directory `path`.
    fn submodule(&self, name: &str, of: &str, path: &str) {
        self.repositories.commit(name, &[("file", name)]).expect("a commit");
        let work = self.repositories.work(name).expect("there");
        let inner = work.join(path);
        rhost_kit::git(&work, &["clone", "--quiet", &self.repositories.url("inner"), &inner.display().to_string()])
            .expect("cloned");
        rhost_kit::git(&work, &["submodule", "add", "--quiet", "--force", of, path]).expect("added");
        rhost_kit::git(&work, &["commit", "--quiet", "-m", "a submodule"]).expect("a commit");
        self.repositories.push(name).expect("pushed");
    }
}

#[test]
fn files_come_from_where_the_rules_say_and_redirects_do_too() {
    let Some(stage) = stage() else { return };
    let (own, elsewhere) = (stage.files.address().to_owned(), other(stage.files.address()));
    stage.policy(&format!("http = [\"{own}\"]"));
    stage.add(&format!("http://{own}/file")).success();
    assert_eq!(stage.out("file"), "file");
    stage.files.take();
    let refused = format!("the file `http://{elsewhere}/file` is refused");
    let rule = format!("allows {own}");
    has(
        &stage.add(&format!("http://{elsewhere}/file")).failure(7),
        &[&refused, "policy.http at ", "rhost.toml:2", &rule, "Dockerfile:2"],
    );
    assert_eq!(stage.files.take(), Vec::<String>::new(), "nobody was asked");
    // Each hop: here and back again is as bad.
    stage.add(&format!("http://{own}/to/{own}/file")).success();
    let led =
        format!("the file `http://{elsewhere}/file`, which `http://{own}/to/{elsewhere}/file` leads to, is refused");
    has(&stage.add(&format!("http://{own}/to/{elsewhere}/file")).failure(7), &[&led, "rhost.toml:2", "Dockerfile:2"]);
    let back = stage.add(&format!("http://{own}/to/{elsewhere}/to/{own}/file")).failure(7);
    has(&back, &["leads to, is refused", "rhost.toml:2"]);
    // A path, and another transport.
    stage.policy(&format!("http = [\"{own}/team\"]"));
    stage.add(&format!("http://{own}/team/file")).success();
    stage.add(&format!("http://{own}/file")).failure(7);
    stage.add(&format!("http://{own}/team/../file")).failure(7);
    stage.policy(&format!("http = [\"https://{own}\"]"));
    stage.add(&format!("http://{own}/file")).failure(7);
    // The user's file has a say, too, and the rule is named where it stands.
    stage.policy(&format!("http = [\"{own}\"]"));
    let config = stage.host.write("config.toml", "\n[policy]\nhttp = []\n").expect("written").display().to_string();
    let ran = stage.host.run(["--config", &config, "build", "ctx"]).expect("ran").failure(7);
    has(&ran, &["config.toml:3", "allows none"]);
    // A context that is elsewhere is a file like any other; `rhost lock` asks nobody either.
    let ran = stage.host.run(["--config", &config, "build", &format!("http://{own}/file")]).expect("ran").failure(7);
    has(&ran, &["load remote build context", "config.toml:3"]);
    stage.files.take();
    stage.host.run(["--config", &config, "lock", "ctx"]).expect("ran").failure(7);
    assert_eq!(stage.files.take(), Vec::<String>::new(), "nobody was asked");
}

#[test]
fn repositories_come_from_where_the_rules_say_and_redirects_do_too() {
    let Some(stage) = stage() else { return };
    stage.repositories.commit("new", &[("a", "new")]).expect("a commit");
    let own = stage.git.address().to_owned();
    let elsewhere = other(&own);
    stage.policy(&format!("git = [\"{own}\"]"));
    stage.add(&stage.repository("new")).success();
    assert_eq!(stage.out("a"), "new");
    stage.git.take();
    let text = stage.add(&format!("http://{elsewhere}/new.git")).failure(7);
    let refused = format!("the git remote `http://{elsewhere}/new.git` is refused");
    has(&text, &[&refused, "policy.git at ", "rhost.toml:2", &format!("allows {own}"), "Dockerfile:2"]);
    assert_eq!(stage.git.take(), Vec::<String>::new(), "nobody was asked");
    stage.policy(&format!("git = [\"{own}/new\"]"));
    stage.add(&stage.repository("new")).success();
    stage.policy("git = [\"https://github.com/team\"]");
    has(&stage.add("git@github.com:team/app.git").failure(7), &["git@github.com:team/app.git", "is refused"]);
    // Moved: to where it may go, and to where it may not.
    for (to, code) in [(own.clone(), 0), (elsewhere.clone(), 7)] {
        stage.policy(&format!("git = [\"{own}\"]"));
        let base = to.clone();
        stage.git.answer(move |asked: &Asked| match asked.path.strip_prefix("/old.git") {
            Some(rest) => Answer::reply(301, "").header("location", &format!("http://{base}/new.git{rest}")),
            None => Answer::Forward,
        });
        let ran = stage.add(&stage.repository("old"));
        assert_eq!(ran.code, code, "{}", ran.stderr);
        if code == 7 {
            let led =
                format!("the git remote `http://{to}/new.git`, which `http://{own}/old.git` leads to, is refused");
            has(&ran.stderr, &[&led, "rhost.toml:2", "Dockerfile:2"]);
        } else {
            assert_eq!(stage.out("a"), "new");
        }
    }
}

#[test]
fn submodules_of_all_levels_are_looked_at() {
    let Some(stage) = stage() else { return };
    stage.repositories.commit("inner", &[("file", "inner")]).expect("a commit");
    let own = stage.git.address().to_owned();
    let (near, far) = (stage.repository("inner"), format!("http://{}/inner.git", other(&own)));
    stage.submodule("good", &near, "deep/sub");
    stage.submodule("bad", &far, "sub");
    let rules = format!("git = [\"{own}\"]");
    stage.policy(&rules);
    stage.add(&stage.repository("good")).success();
    assert_eq!((stage.out("file"), stage.out("deep/sub/file")), ("good".into(), "inner".into()));
    let refused = format!("the git remote `{far}`, which `{}` leads to, is refused", stage.repository("bad"));
    has(&stage.add(&stage.repository("bad")).failure(7), &[&refused, "policy.git at ", "rhost.toml:2", "Dockerfile:2"]);
    // Two levels down; with what is allowed there, it comes, with `.git` and without.
    let work = stage.repositories.work("outer").expect("made");
    stage.repositories.commit("outer", &[("file", "outer")]).expect("a commit");
    rhost_kit::git(&work, &["submodule", "add", "--quiet", &stage.repository("bad"), "one"]).expect("added");
    rhost_kit::git(&work, &["submodule", "add", "--quiet", "../good.git", "two"]).unwrap_or_default();
    rhost_kit::git(&work, &["commit", "--quiet", "-m", "submodules"]).expect("a commit");
    stage.repositories.push("outer").expect("pushed");
    has(&stage.add(&stage.repository("outer")).failure(7), &[&format!("the git remote `{far}`")]);
    stage.policy(&format!("git = [\"{own}\", \"{}\"]", other(&own)));
    for flag in ["", "--keep-git-dir "] {
        stage.add(&format!("{flag}{}", stage.repository("outer"))).success();
        assert_eq!((stage.out("one/file"), stage.out("one/sub/file")), ("bad".into(), "inner".into()));
    }
    stage.policy(&rules);
    // One that moved: looked up, and looked at.
    for (to, code) in [(own.clone(), 0), (other(&own), 7)] {
        let base = to.clone();
        stage.git.answer(move |asked: &Asked| match asked.path.strip_prefix("/inner.git") {
            Some(rest) => Answer::reply(301, "").header("location", &format!("http://{base}/renamed.git{rest}")),
            None => Answer::Forward,
        });
        let renamed = stage.repositories.bare("renamed");
        if !renamed.exists() {
            rhost_kit::git(stage.repositories.dir(), &["clone", "--quiet", "--bare", "inner.git", "renamed.git"])
                .expect("cloned");
        }
        // Another commit: what is here already is not asked for.
        stage.repositories.commit("good", &[("file", "good")]).expect("a commit");
        let ran = stage.add(&stage.repository("good"));
        assert_eq!(ran.code, code, "{}", ran.stderr);
        if code == 0 {
            assert_eq!(stage.out("deep/sub/file"), "inner");
        } else {
            has(
                &ran.stderr,
                &[&format!("the git remote `http://{to}/renamed.git`, which `{near}` leads to, is refused")],
            );
        }
    }
}
