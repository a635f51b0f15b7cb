//! A directory that stands for the network: written, read by other tools, and enough for a machine that has nothing.
use super::*;
use std::process::Command;

/// A build with a frontend, base images, a repository with a submodule, and files; and a directory with all of it.
fn vendored() -> Option<(Stage, String)> {
    let stage = stage()?;
    let lines = crate::syntax::lines()?;
    let (image, git, url) = (stage.images.name("base:1"), stage.git_url("repo"), stage.files.url("file?a=b"));
    let inner = stage.repositories.commit("inner", &[("x*", "X")]).expect("a commit");
    stage.repositories.commit("repo", &[("a", "A"), ("link", "-> a"), ("sub/b", "B")]).expect("a commit");
    let work = stage.repositories.work("repo").expect("there");
    rhost_kit::git(&work, &["submodule", "add", "--quiet", &stage.git_url("inner"), "inner"]).expect("added");
    rhost_kit::git(&work, &["commit", "--quiet", "-m", "a submodule"]).expect("a commit");
    stage.repositories.push("repo").expect("pushed");
    let lang = stage.images.name("lang:1");
    stage.host.run(["frontend", "push", &lines.display().to_string(), &lang]).expect("ran").success();
    stage.host.write("lines/build.lines", format!("# syntax={lang}\nfrom {image}\nrun true\n")).expect("written");
    let sum = rhost_llb::Digest::of("one");
    stage.write(&format!(
        "FROM {image} AS base\nRUN echo made > /made\nFROM scratch\nCOPY --from=base /made /bin/busybox /\nADD {git}#main /repo/\n\
         ADD {git}#main:sub /sub/\nADD {url} /file\nADD --checksum={sum} {} /summed\n",
        stage.files.url("summed")
    ));
    let dir = stage.host.dir().join("vendor").display().to_string();
    assert!(!inner.is_empty());
    Some((stage, dir))
}

fn read(path: PathBuf) -> String {
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn a_machine_that_has_nothing_needs_nothing_else() {
    let Some((stage, dir)) = vendored() else { return };
    for locked in [false, true] {
        if locked {
            stage.run("lock", &[]).success();
        }
        let strict: &[&str] = if locked { &["--locked"] } else { &[] };
        let said = stage.run("vendor", &[&["-o", &dir], strict].concat());
        assert!(said.stderr.contains("1 image or frontend, 2 files, 2 git trees"), "{}", said.stderr);
        said.success();
        std::fs::remove_dir_all(stage.host.root()).expect("removed");
        stage.asked();
        let out =
            stage.build_to(if locked { "locked" } else { "out" }, &[&["--vendor", &dir, "--offline"], strict].concat());
        assert_eq!(stage.asked(), Vec::<String>::new(), "nobody is asked");
        assert_eq!(read(out.join("repo/a")) + &read(out.join("repo/inner/x")) + &read(out.join("sub/b")), "AXB");
        assert!(out.join("repo/link").is_symlink());
        assert_eq!(read(out.join("file")) + &read(out.join("summed")), "oneone");
        use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
        assert_eq!(std::fs::metadata(out.join("file")).expect("there").mtime(), 1_445_412_480);
        assert_eq!(std::fs::metadata(out.join("repo/inner/x")).expect("there").permissions().mode() & 0o777, 0o755);
        std::fs::remove_dir_all(stage.host.root()).expect("removed");
    }
    // What it lacks is named, and there is no network.
    let error = stage.run("build", &["--vendor", &dir, "--offline", "--platform", "linux/arm64"]).failure(8);
    assert!(error.contains("not here"), "{error}");
    // rhost.toml names it, too.
    stage.host.write("ctx/rhost.toml", format!("vendor = {dir:?}\n")).expect("written");
    stage.build_to("named", &["--offline", "--locked"]);
    assert_eq!(stage.asked(), Vec::<String>::new(), "nobody is asked");
}

#[test]
fn frontends_and_images_are_what_other_tools_read() {
    let Some((stage, dir)) = vendored() else { return };
    let file = stage.host.work().join("lines/build.lines").display().to_string();
    let context = stage.host.work().join("lines").display().to_string();
    stage.host.run(["vendor", "-o", &dir, "-f", &file, &context]).expect("ran").success();
    let (image, lang) = (stage.images.name("base:1"), stage.images.name("lang:1"));
    let index: serde_json::Value = serde_json::from_str(&read(PathBuf::from(&dir).join("index.json"))).expect("JSON");
    let names: Vec<&str> = index["manifests"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|entry| entry["annotations"]["org.opencontainers.image.ref.name"].as_str())
        .collect();
    assert_eq!(names, [image.as_str(), lang.as_str()]);
    let copied = stage.host.dir().join("copied").display().to_string();
    let mut skopeo = Command::new("skopeo");
    skopeo.args(["--insecure-policy", "copy", "--quiet", &format!("oci:{dir}:{image}"), &format!("dir:{copied}")]);
    let out = skopeo.output().expect("skopeo");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    std::fs::remove_dir_all(stage.host.root()).expect("removed");
    stage.asked();
    let build = ["build", "--offline", "--vendor", &dir, "-f", &file, &context];
    stage.host.run(build).expect("ran").success();
    assert_eq!(stage.asked(), Vec::<String>::new(), "nobody is asked");
    // Another frontend under the same tag is another frontend: the directory has what it had.
    std::fs::remove_dir_all(stage.host.root()).expect("removed");
    stage.host.run(["build", "--vendor", &dir, "-f", &file, &context]).expect("ran").success();
    assert!(!stage.asked().iter().any(|line| line.contains("/manifests/")), "tags are those of the directory");
}

#[test]
fn what_is_damaged_or_something_else_is_told() {
    let Some((stage, dir)) = vendored() else { return };
    let error = stage.run("build", &["--vendor", &dir]).failure(2);
    assert!(error.contains("rhost-vendor.json") && error.contains("rhost vendor -o"), "{error}");
    stage.run("vendor", &["-o", &dir]).success();
    let again = stage.run("vendor", &["-o", &dir]);
    again.success();
    let blobs = || std::fs::read_dir(PathBuf::from(&dir).join("blobs/sha256")).expect("blobs").flatten();
    let before = blobs().count();
    // Half of a run that was killed: blobs that nothing names, and the directory is what it was; the next run clears them away.
    std::fs::write(PathBuf::from(&dir).join("blobs/sha256").join("0".repeat(64)), "rubbish").expect("written");
    std::fs::remove_dir_all(stage.host.root()).expect("removed");
    stage.build_to("out", &["--vendor", &dir, "--offline"]);
    stage.run("vendor", &["-o", &dir]).success();
    assert_eq!(blobs().count(), before);
    // Every byte counts: each blob in turn is another, and none is taken for what it was.
    let mut refused = 0;
    for entry in blobs() {
        let whole = std::fs::read(entry.path()).expect("read");
        let mut bent = whole.clone();
        let last = bent.len() - 1;
        bent[last] ^= 0xff;
        std::fs::write(entry.path(), &bent).expect("written");
        let _ = std::fs::remove_dir_all(stage.host.root());
        let ran = stage.run("build", &["--vendor", &dir, "--offline"]);
        assert!(ran.code != 0 && ran.code != 101, "{}: {}", entry.path().display(), ran.stderr);
        assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
        refused += 1;
        std::fs::write(entry.path(), whole).expect("written");
    }
    assert!(refused >= 8, "{refused}");
    // A directory with other things in it is nobody's to write to.
    let other = stage.host.work().join("ctx").display().to_string();
    let error = stage.run("vendor", &["-o", &other]).failure(2);
    assert!(error.contains("is no vendor directory: it has `Dockerfile`"), "{error}");
}
