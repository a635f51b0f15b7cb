//! Without a network: what is here is enough, and what is not is told at once.
use super::*;

/// A build that has something of everything from elsewhere.
fn everything(stage: &Stage) -> String {
    let (image, git, url) = (stage.images.name("base:1"), stage.git_url("repo"), stage.files.url("file"));
    stage.repositories.commit("repo", &[("a", "A")]).expect("a commit");
    stage.write(&format!(
        "FROM {image} AS base\nRUN echo made > /made\nFROM scratch\nCOPY --from=base /made /bin/busybox /\nADD {git}#main /repo/\nADD {url} /file\n"
    ))
}

#[test]
fn all_that_is_missing_is_told_at_once_and_nobody_is_asked() {
    let Some(stage) = stage() else { return };
    everything(&stage);
    stage.asked();
    let error = stage.run("build", &["--offline"]).failure(8);
    assert!(error.contains("offline, and not here:") && error.contains("rhost fetch"), "{error}");
    let (image, git, url) = (stage.images.name("base:1"), stage.git_url("repo"), stage.files.url("file"));
    for wanted in [format!("image {image}"), format!("git {git}#main"), format!("http {url}")] {
        assert!(error.contains(&format!("\n  {wanted}")), "{wanted}: {error}");
    }
    assert_eq!(stage.asked(), Vec::<String>::new());
    // With a lock file everybody knows what is wanted, and it is still not here.
    stage.run("lock", &[]).success();
    std::fs::remove_dir_all(stage.host.root()).expect("removed");
    stage.asked();
    let error = stage.run("build", &["--offline"]).failure(8);
    assert!(error.contains("its manifest or config"), "{error}");
    assert_eq!(stage.asked(), Vec::<String>::new());
    let error = stage.run("lock", &["--update", "--offline"]).failure(2);
    assert!(error.contains("--offline"), "{error}");
    assert!(stage.run("fetch", &["--offline"]).failure(2).contains("nothing to fetch"));
}

#[test]
fn what_was_fetched_is_enough() {
    for lock in [true, false] {
        let Some(stage) = stage() else { return };
        everything(&stage);
        if lock {
            stage.run("lock", &[]).success();
            std::fs::remove_dir_all(stage.host.root()).expect("removed");
        }
        stage.run("fetch", &[]).success();
        let expected = stage.repositories.commit("repo", &[("a", "moved")]).expect("a commit");
        stage.asked();
        let out = stage.build_to("out", &["--offline"]);
        assert_eq!(stage.asked(), Vec::<String>::new(), "nobody is asked");
        assert_eq!(std::fs::read_to_string(out.join("repo/a")).expect("read"), "A", "{expected}");
        assert_eq!(std::fs::read_to_string(out.join("file")).expect("read"), "one");
        stage.build_to("twice", &["--offline", "--no-cache"]);
        stage.run("build", &["--offline", "--pull", "-t", "app:1"]).success();
        assert_eq!(stage.asked(), Vec::<String>::new(), "nobody is asked");
        // Another build that needs more names just that.
        let more = stage.files.url("more");
        let text = std::fs::read_to_string(stage.host.work().join("ctx/Dockerfile")).expect("read");
        stage.write(&format!("{text}ADD {more} /more\n"));
        let error = stage.run("build", &["--offline"]).failure(8);
        assert!(error.contains(&format!("\n  http {more}")) && !error.contains("image"), "{error}");
    }
}

#[test]
fn layers_files_and_commits_that_are_gone_are_all_named() {
    let Some(stage) = stage() else { return };
    everything(&stage);
    // Resolved, and nothing brought: what a lock on this machine leaves.
    stage.run("lock", &[]).success();
    stage.asked();
    let error = stage.run("build", &["--offline"]).failure(8);
    assert_eq!(stage.asked(), Vec::<String>::new(), "nobody is asked");
    let image = stage.images.name("base:1");
    assert!(error.contains(&format!("docker-image://{image}")) && error.contains("git://"), "{error}");
    stage.run("fetch", &[]).success();
    stage.run("build", &["--offline"]).success();
}

#[test]
fn a_push_wants_a_network() {
    let Some(stage) = stage() else { return };
    stage.write("FROM scratch\nCOPY Dockerfile /\n");
    let name = stage.registry.name("out:1");
    let error = stage.run("build", &["--offline", "--push", "-t", &name]).failure(2);
    assert!(error.contains("--offline"), "{error}");
}

/// A registry that is gone is as good as none: nothing waits for it.
#[test]
fn a_lock_is_made_of_what_somebody_says_now() {
    let Some(stage) = stage() else { return };
    let image = stage.images.name("base:1");
    stage.write(&format!("FROM {image}\nRUN true\n"));
    stage.run("build", &[]).success();
    let Stage { host, images, .. } = stage;
    drop(images);
    let context = host.work().join("ctx").display().to_string();
    // The store knows what the tag was, which is enough for a build and not for a file that others rely on.
    host.run(["build", "--offline", &context]).expect("ran").success();
    let error = host.run(["lock", "--offline", &context]).expect("ran").failure(8);
    assert!(error.contains(&format!("\n  image {image}")), "{error}");
    assert!(!host.work().join("ctx/rhost.lock").exists());
}
