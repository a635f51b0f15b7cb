//! What a lock file does to a build, and how it is made.
use super::*;

#[test]
fn a_locked_tag_is_not_asked_for_and_stays_what_it_was() {
    let Some(stage) = stage() else { return };
    let image = stage.images.name("base:1");
    stage.write(&format!("FROM {image}\nRUN echo one > /made\n"));
    let said = stage.run("lock", &[]).success();
    assert!(said.starts_with(&format!("+ image {image} sha256:")), "{said}");
    let lock = stage.lock();
    assert!(lock.contains(&format!("\n[image]\n\"{image}\" = \"sha256:")), "{lock}");
    // What is locked again is as it was, to the byte; and CI says so.
    assert_eq!(stage.run("lock", &["--locked"]).success(), "");
    stage.run("lock", &[]).success();
    assert_eq!(stage.lock(), lock);

    stage.run("build", &["--locked", "-t", "app:1"]).success();
    stage.asked();
    let moved = stage.move_tag();
    stage.asked();
    // The lock goes before what the tag is now, also with --pull; and nobody is asked.
    for more in [&["-t", "app:2"][..], &["--pull", "-t", "app:2"], &["--locked", "-t", "app:2"], &["--no-cache"]] {
        let ran = stage.run("build", more);
        assert!(!ran.stderr.contains("not in "), "{}", ran.stderr);
        ran.success();
        assert_eq!(stage.asked(), Vec::<String>::new(), "{more:?}");
    }
    let inspect = stage.host.run(["images"]).expect("ran").success();
    let digests: Vec<&str> = inspect.lines().skip(1).filter_map(|line| line.split_whitespace().nth(1)).collect();
    assert_eq!(digests[0], digests[1], "{inspect}");

    // What it is now is taken when somebody wants it, and shown.
    let said = stage.update(&[&image]).success();
    assert!(
        said.starts_with(&format!("~ image {image} sha256:")) && said.contains(&format!(" -> {moved}\n")),
        "{said}"
    );
    assert!(stage.lock().contains(&moved) && stage.lock().lines().count() == lock.lines().count());
    assert_eq!(stage.update(&[]).success(), "", "nothing more to change");
    stage.run("build", &["--locked", "-t", "app:3"]).success();
    let inspect = stage.host.run(["images", "--quiet"]).expect("ran").success();
    assert_ne!(inspect.lines().next(), inspect.lines().nth(2), "a build takes what the lock says now: {inspect}");
    let (name, _) = image.rsplit_once(':').expect("a tag");
    let error = stage.update(&[&format!("{name}:2")]).failure(2);
    assert!(error.contains("has no entry") && error.contains(&format!("did you mean {image}?")), "{error}");
}

#[test]
fn what_is_not_locked_is_said_or_refused_all_at_once() {
    let Some(stage) = stage() else { return };
    let (image, other) = (stage.images.name("base:1"), stage.registry.name("base:1"));
    stage.repositories.commit("repo", &[("a", "A")]).expect("a commit");
    stage.write(&format!("FROM {image}\n"));
    let error = stage.run("build", &["--locked"]).failure(8);
    assert!(error.contains("--locked: there is no ") && error.contains("rhost.lock"), "{error}");
    stage.run("lock", &[]).success();
    let (url, git) = (stage.files.url("file"), stage.git_url("repo"));
    stage.write(&format!("FROM {other} AS x\nFROM {image}\nCOPY --from=x /bin/busybox /x\nADD {url} {git}#main /y/\n"));
    stage.asked();
    let error = stage.run("build", &["--locked"]).failure(8);
    for wanted in [format!("image {other}"), format!("git {git}#main"), format!("http {url}")] {
        assert!(error.contains(&format!("\n  {wanted}")) && error.contains("rhost lock"), "{wanted}: {error}");
    }
    assert!(!error.contains(&format!("\n  image {image}")), "{error}");
    stage.write(&format!("FROM {image}\nADD {url} {git}#main /y/\n"));
    assert_eq!(stage.asked(), Vec::<String>::new(), "nobody was asked");
    let error = stage.run("fetch", &["--locked"]).failure(8);
    assert!(error.contains(&format!("\n  git {git}#main")), "{error}");
    let error = stage.run("lock", &["--locked"]).failure(8);
    assert!(error.contains("would change") && error.contains(&format!("+ http {url} sha256:")), "{error}");

    // Without --locked it is asked for, and said once.
    let said = stage.run("build", &[]);
    let line = format!("git {git}#main, http {url}; `rhost lock` adds what is missing");
    assert_eq!(said.stderr.matches(&line).count(), 1, "{}", said.stderr);
    said.success();
    stage.run("lock", &[]).success();
    stage.run("build", &["--locked"]).success();

    // What is no longer used stays until somebody says otherwise.
    stage.write(&format!("FROM {image}\n"));
    stage.run("lock", &[]).success();
    assert!(stage.lock().contains("[http]"));
    let said = stage.run("lock", &["--prune"]).success();
    assert!(said.contains(&format!("- http {url} ")) && !stage.lock().contains("[http]"), "{said}");
}

#[test]
fn git_and_http_are_what_they_were() {
    let Some(stage) = stage() else { return };
    let first = stage.repositories.commit("repo", &[("a", "first")]).expect("a commit");
    let (url, named, git) = (stage.files.url("file"), stage.files.url("named"), stage.git_url("repo"));
    stage.write(&format!("FROM scratch\nADD {url} {named} /files/\nADD {git}#main /main/\nADD {git} /head/\n"));
    stage.run("lock", &[]).success();
    let lock = stage.lock();
    let entry = format!(
        "\"{git}\" = {{ commit = \"{first}\", ref = \"refs/heads/main\" }}\n\"{git}#main\" = {{ commit = \"{first}\""
    );
    assert!(lock.contains(&entry), "{lock}");
    assert!(lock.contains("modified = \"2015-10-21T07:28:00Z\", filename = \"sent.txt\" }"), "{lock}");
    let before = stage.build_to("before", &["--locked"]);
    assert!(before.join("files/named").is_file() && before.join("files/file").is_file());

    // The branch moves; a store that has nothing fetches the commit all the same.
    stage.repositories.commit("repo", &[("a", "second")]).expect("a commit");
    stage.asked();
    stage.build_to("again", &["--locked"]);
    assert_eq!(stage.asked(), Vec::<String>::new(), "all of it is here");
    std::fs::rename(stage.host.root(), stage.host.dir().join("put-away")).expect("moved");
    let after = stage.build_to("after", &["--locked"]);
    for file in ["main/a", "head/a", "files/named", "files/file"] {
        let read = |dir: &PathBuf| std::fs::read_to_string(dir.join(file)).expect(file);
        assert_eq!(read(&before), read(&after), "{file}");
    }
    assert_eq!(std::fs::read_to_string(after.join("main/a")).expect("read"), "first");

    // A server that sends something else is told from one that does not, by the lock file's line.
    stage.files.answer(answer("two"));
    std::fs::remove_dir_all(stage.host.root()).expect("removed");
    let error = stage.run("build", &[]).failure(8);
    let line = lock.lines().position(|line| line.starts_with(&format!("\"{url}\""))).expect("a line") + 1;
    assert!(error.contains(&format!("rhost.lock:{line} says sha256:")) || error.contains("rhost.lock:"), "{error}");
    assert!(error.contains("rhost lock --update") && error.contains("Dockerfile:2"), "{error}");
    let said = stage.update(&[&url, &git]).success();
    assert!(
        said.contains(&format!("~ git {git} {first} -> ")) && said.contains(&format!("~ http {url} sha256:")),
        "{said}"
    );
    assert!(!said.contains(&named), "what was not named stays: {said}");
    stage.update(&[]).success();
    let newest = stage.build_to("newest", &["--locked"]);
    assert_eq!(std::fs::read_to_string(newest.join("head/a")).expect("read"), "second");
}

#[test]
fn a_lock_file_that_cannot_be_used() {
    let Some(stage) = stage() else { return };
    let image = stage.images.name("base:1");
    stage.write(&format!("FROM {image}\n"));
    for (text, wanted) in [
        ("version = 2\n", "rhost.lock:1: it is of version 2, and this rhost reads version 1"),
        ("version = 1\n[image]\n\"debian\" = \"x\"\n", "rhost.lock:3: "),
        ("version = 1\n<<<<<<< mine\n", "rhost.lock:2: a merge left a conflict here"),
    ] {
        std::fs::write(stage.lock_path(), text).expect("written");
        for command in ["build", "lock", "fetch"] {
            let error = stage.run(command, &[]).failure(2);
            assert!(error.contains(wanted), "{error}");
        }
    }
    // A digest that nobody has: the image is not there, and nothing else is taken.
    let none = format!("version = 1\n[image]\n\"{image}\" = \"sha256:{}\"\n", "0".repeat(64));
    std::fs::write(stage.lock_path(), none).expect("written");
    let error = stage.run("build", &[]).failure(3);
    assert!(error.contains(&"0".repeat(64)) && error.contains("was not found"), "{error}");
    assert!(error.contains("rhost.lock:3 has its digest; `rhost lock --update"), "{error}");
}

#[test]
fn frontends_are_locked_too() {
    let Some(stage) = stage() else { return };
    let Some(lines) = crate::syntax::lines() else { return };
    let reference = stage.images.name("lang:1");
    let push = |file: &std::path::Path| {
        let file = file.display().to_string();
        stage.host.run(["frontend", "push", &file, &reference]).expect("ran").success()
    };
    let first = push(&lines);
    stage.write(&format!("# syntax={reference}\nfrom {}\nrun true\n", stage.images.name("base:1")));
    let warned = stage.run("lock", &[]).success();
    assert!(warned.contains(&format!("+ frontend {reference} sha256:")), "{warned}");
    assert!(stage.lock().contains(&format!(
        "[frontend]\n\"{reference}\" = \"{}\"",
        first.trim().rsplit_once('@').expect("a digest").1
    )));
    // Something else takes the tag; who has locked it is not asked to trust that.
    stage
        .host
        .run(["frontend", "push", "--annotation", "a=b", &lines.display().to_string(), &reference])
        .expect("ran")
        .success();
    stage.asked();
    stage.run("build", &["--locked"]).success();
    let asked = stage.asked();
    assert!(!asked.iter().any(|line| line.contains("/manifests/")), "only layers: {asked:?}");
    let said = stage.update(&[&reference]).success();
    assert!(said.starts_with(&format!("~ frontend {reference} ")), "{said}");
    // One that is not locked is taken, and said.
    std::fs::write(stage.lock_path(), "version = 1\n").expect("written");
    let ran = stage.run("build", &[]);
    assert!(
        ran.stderr.contains(&format!("frontend {reference}")) && ran.stderr.contains("`rhost lock` adds"),
        "{}",
        ran.stderr
    );
    ran.success();
    let error = stage.run("build", &["--locked"]).failure(8);
    assert!(error.contains(&format!("\n  frontend {reference}")), "{error}");
}

#[test]
fn one_entry_is_good_for_every_platform() {
    let Some(stage) = stage() else { return };
    let image = stage.images.name("base:1");
    stage.write(&format!("FROM {image}\nCOPY Dockerfile /\n"));
    stage.run("lock", &[]).success();
    stage.asked();
    stage.run("build", &["--locked", "--platform", "linux/amd64,linux/arm64"]).success();
    let asked = stage.asked();
    assert!(!asked.iter().any(|line| line.contains("manifests/1")), "{asked:?}");
    let lock = stage.lock();
    assert_eq!(stage.run("lock", &["--locked", "--platform", "linux/arm64"]).success(), "");
    assert_eq!(stage.lock(), lock);
}

#[test]
fn the_lock_file_is_the_projects() {
    let Some(stage) = stage() else { return };
    stage.write(&format!("FROM {}\n", stage.images.name("base:1")));
    std::fs::create_dir(stage.host.work().join(".git")).expect("made");
    let root = stage.host.work().join("rhost.lock");
    std::fs::write(&root, "version = 1\n").expect("written");
    stage.run("lock", &[]).success();
    assert!(!stage.lock_path().exists());
    assert!(std::fs::read_to_string(&root).expect("read").contains("base:1"));
    stage.run("build", &["--locked"]).success();
}

/// Wherever an image can be named, one waist is passed.
#[test]
fn every_way_to_name_an_image_is_locked() {
    let Some(stage) = stage() else { return };
    let name = |tag: &str| stage.images.name(tag);
    let busybox = busybox().expect("busybox");
    for tag in ["copied:1", "mounted:1", "cached:1", "named:1", "pinned:1"] {
        stage.registry.push(&busybox, tag).expect("pushed");
    }
    stage.write(&format!(
        "FROM {}\nCOPY --from={} /bin/busybox /a\nCOPY --from=other /bin/busybox /b\n\
         RUN --mount=type=bind,from={},target=/mnt --mount=type=cache,target=/cache,from={} test -x /mnt/bin/busybox\n",
        name("base:1"),
        name("copied:1"),
        name("mounted:1"),
        name("cached:1")
    ));
    let context = format!("other=docker-image://{}", name("named:1"));
    let more = ["--build-context", context.as_str()];
    stage.run("lock", &more).success();
    let lock = stage.lock();
    for tag in ["base:1", "copied:1", "mounted:1", "cached:1", "named:1"] {
        assert!(lock.contains(&format!("\"{}\" = ", name(tag))), "{tag}: {lock}");
    }
    std::fs::remove_dir_all(stage.host.root()).expect("removed");
    stage.asked();
    stage.run("build", &[&["--locked"], &more[..]].concat()).success();
    let asked = stage.asked();
    assert!(asked.iter().all(|line| !line.starts_with("HEAD")), "no tag is asked for: {asked:?}");
    // One that says its digest itself needs no entry.
    let digest =
        lock.split_once(&name("base:1")).and_then(|(_, rest)| rest.split('"').nth(2)).expect("a digest").to_owned();
    stage.write(&format!("FROM {}@{digest}\nRUN true\n", name("pinned:1")));
    stage.run("build", &["--locked"]).success();
    assert_eq!(stage.run("lock", &["--locked"]).success(), "");
}

/// What a lock is worth on a build that changes nothing: one question for each tag less.
#[test]
fn a_lock_saves_one_question_for_each_tag() {
    let Some(stage) = stage() else { return };
    let busybox = busybox().expect("busybox");
    stage.registry.push(&busybox, "other:1").expect("pushed");
    stage.write(&format!(
        "FROM {} AS a\nFROM {}\nCOPY --from=a /bin/busybox /x\n",
        stage.images.name("other:1"),
        stage.images.name("base:1")
    ));
    stage.run("build", &[]).success();
    stage.asked();
    stage.run("build", &[]).success();
    assert_eq!(stage.asked().len(), 2);
    stage.run("lock", &[]).success();
    stage.run("build", &[]).success();
    stage.asked();
    stage.run("build", &[]).success();
    assert_eq!(stage.asked().len(), 0);
}

#[test]
fn which_frontend_says_its_locked_digest() {
    let Some(stage) = stage() else { return };
    let Some(lines) = crate::syntax::lines() else { return };
    let (image, lang) = (stage.images.name("base:1"), stage.images.name("lang:1"));
    let pushed = stage.host.run(["frontend", "push", &lines.display().to_string(), &lang]).expect("ran").success();
    let digest = pushed.trim().rsplit('@').next().expect("a digest").to_owned();
    stage.write(&format!("# syntax={lang}\nfrom {image}\n"));
    let plain = stage.run("build", &["--print-frontend"]).success();
    assert!(plain.starts_with(&lang) && !plain.contains("sha256:"), "{plain}");
    stage.run("lock", &[]).success();
    stage.asked();
    let told = stage.run("build", &["--print-frontend"]).success();
    assert!(told.contains(&format!("rhost.lock:5 says {digest}\n")), "{told}");
    assert_eq!(stage.asked(), Vec::<String>::new(), "nobody is asked");
}
