//! A store that is damaged, full, read-only, of another time: the next build is right or says what is wrong, and how to go on.
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use rhost_kit::{TestHost, files, nothing_left};

use crate::running::{Running, context, host};

const DOCKERFILE: &str = "FROM busybox\nCOPY data /data\nRUN mkdir -p /a/b && echo made > /a/b/file && ln -s file /a/b/link\nRUN rm /data/gone && cat /a/b/link > /last\n";

fn kept(host: &TestHost) -> String {
    context(host, "ctx", &[("Dockerfile", DOCKERFILE), ("data/kept", "kept\n"), ("data/gone", "gone\n")])
}

/// Builds an archive and a tree; answers the tree and what was said.
fn build(host: &TestHost, ctx: &str) -> (rhost_kit::Files, String) {
    let (tree, archive) = (host.dir().join("tree"), host.dir().join("image.tar"));
    if tree.exists() {
        fs::remove_dir_all(&tree).expect("removed");
    }
    let image = format!("type=oci,dest={}", archive.display());
    let tree_text = tree.display().to_string();
    let ran = host.run(["build", "-t", "kept", "-o", &image, "-o", "type=image", "-o", &tree_text, ctx]).expect("ran");
    let said = ran.stderr.clone();
    ran.success();
    let from = format!("oci-archive:{}", archive.display());
    let to = format!("dir:{}", host.dir().join("read").display());
    let read = Command::new("skopeo").args(["copy", "--quiet", &from, &to]).output().expect("skopeo");
    assert!(read.status.success(), "an image that cannot be read: {}", String::from_utf8_lossy(&read.stderr));
    (files(&tree).expect("a tree"), said)
}

/// Files of the store by kind: every record file, every blob, compiled frontends, the version.
fn stored(host: &TestHost) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for directory in ["", "blobs-v1", "blobs-v1/blobs/sha256", "guests-v1"] {
        for entry in fs::read_dir(host.root().join(directory)).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_file()) {
                found.push(entry.path());
            }
        }
    }
    found
}

#[test]
fn a_damaged_file_of_any_kind_is_a_miss() {
    let Some((host, _registry)) = host() else { return };
    let ctx = kept(&host);
    let (wanted, _) = build(&host, &ctx);
    let flip = |bytes: &mut Vec<u8>| {
        for at in [bytes.len() / 3, bytes.len() / 2, bytes.len() - 1] {
            bytes[at] ^= 0x10;
        }
    };
    let damages: [(&str, &dyn Fn(&mut Vec<u8>)); 4] = [
        ("flipped", &flip),
        ("cut", &|bytes| bytes.truncate(bytes.len() / 2)),
        ("emptied", &|bytes| bytes.clear()),
        ("zeroed", &|bytes| bytes.fill(0)),
    ];
    for (name, damage) in damages {
        for path in stored(&host) {
            // An earlier damage may have made it go.
            let Ok(mut bytes) = fs::read(&path) else { continue };
            if bytes.is_empty() {
                continue;
            }
            damage(&mut bytes);
            fs::write(&path, bytes).expect("damaged");
            let (found, said) = build(&host, &ctx);
            assert_eq!(found, wanted, "after `{}` was {name}:\n{said}", path.display());
        }
    }
}

#[test]
fn lost_records_are_begun_anew_and_names_come_back() {
    let Some((host, _registry)) = host() else { return };
    let ctx = kept(&host);
    let (wanted, _) = build(&host, &ctx);
    let digest = host.run(["images", "--quiet"]).expect("ran").success();
    for entry in fs::read_dir(host.root()).expect("there").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("records-") && !name.contains("damaged") {
            fs::write(entry.path(), "no database at all, and longer than a header of one would be: ".repeat(99))
                .expect("damaged");
        }
    }
    assert_eq!(host.run(["images", "--quiet"]).expect("ran").success(), digest, "the name came back with its image");
    let (found, _) = build(&host, &ctx);
    assert_eq!(found, wanted);
}

#[test]
fn lost_layers_are_made_again() {
    let Some((host, _registry)) = host() else { return };
    let ctx = kept(&host);
    let (wanted, _) = build(&host, &ctx);
    let bucket = ["snapshots-v1", "snapshots-user-v1"].map(|name| host.root().join(name));
    let layers = || bucket.iter().flat_map(|dir| fs::read_dir(dir).into_iter().flatten().flatten()).map(|e| e.path());
    let count = layers().count();
    for index in 0..count {
        let Some(layer) = layers().nth(index) else { break };
        fs::remove_dir_all(&layer).expect("removed");
        assert_eq!(build(&host, &ctx).0, wanted, "after {} was removed", layer.display());
    }
}

#[test]
fn stores_that_cannot_be_used_are_named_with_the_way_out() {
    let Some((host, _registry)) = host() else { return };
    let ctx = kept(&host);
    let refused = |host: &TestHost, parts: &[&str]| {
        let text = host.run(["build", &ctx]).expect("ran").failure(6);
        for part in parts {
            assert!(text.contains(part), "wanted `{part}` in {text}");
        }
    };
    fs::write(host.root(), "a file where the store should be").expect("written");
    refused(&host, &["root", "--root"]);
    fs::remove_file(host.root()).expect("removed");
    host.run(["build", &ctx]).expect("ran").success();
    let version = host.root().join("version");
    let known = fs::read_to_string(&version).expect("a version");
    let newer = "rhost store 999\n";
    let sum = Command::new("sh")
        .args(["-c", "printf 'rhost store 999\\n' | sha256sum | cut -c1-64"])
        .output()
        .expect("sha256sum");
    fs::write(&version, format!("{newer}sha256:{}", String::from_utf8_lossy(&sum.stdout))).expect("written");
    refused(&host, &["newer rhost", "--root"]);
    fs::write(&version, known).expect("written");
    host.run(["build", &ctx]).expect("ran").success();
}

#[test]
fn many_processes_open_a_fresh_store_at_once() {
    let Some((host, _registry)) = host() else { return };
    let ctx = kept(&host);
    let builds: Vec<Running> = (0..8).map(|_| Running::start(host.command(["build", "-t", "x", &ctx]))).collect();
    for build in builds {
        build.end().success();
    }
}

/// A small file system, gone with its guard.
struct Small(PathBuf);

impl Small {
    fn mount(path: &Path, size: &str) -> Self {
        fs::create_dir_all(path).expect("made");
        let options = format!("size={size}");
        let done =
            Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(path).status().expect("mount");
        assert!(done.success(), "mount");
        Self(path.to_owned())
    }

    fn grow(&self, size: &str) {
        let options = format!("remount,size={size}");
        assert!(Command::new("mount").args(["-o", &options]).arg(&self.0).status().expect("mount").success());
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // Lazily: a failed test may still have a build on it.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_is_named_and_the_next_build_is_right() {
    let Some((host, _registry)) = host() else { return };
    if !rhost_kit::is_root() {
        return rhost_kit::skip("a small file system takes root to mount");
    }
    let ctx = kept(&host);
    let (wanted, _) = build(&host, &ctx);
    let room = host.root();
    fs::remove_dir_all(&room).expect("removed");
    let mut refused = 0;
    for kilobytes in [16, 100, 200, 300, 500, 1000, 2000, 3000, 4000, 5000, 6000, 7000, 8000, 10_000] {
        let small = Small::mount(&room, &format!("{kilobytes}k"));
        let ran = host.run(["build", "-t", "x", &ctx]).expect("ran");
        match ran.code {
            0 => {}
            code => {
                refused += 1;
                assert!(code == 6 || code == 1, "with {kilobytes} kB: {code}\n{}", ran.stderr);
                let text = ran.stderr.to_lowercase();
                let named = text.contains("no space left") || text.contains("disk is full") || text.contains("is full");
                assert!(
                    named && text.contains("hint") && text.contains("prune"),
                    "with {kilobytes} kB:\n{}",
                    ran.stderr
                );
            }
        }
        small.grow("200m");
        assert_eq!(build(&host, &ctx).0, wanted, "after {kilobytes} kB");
        drop(small);
    }
    assert!(refused > 3, "{refused} sizes were too small");
    nothing_left(host.dir()).unwrap_or_else(|error| panic!("{error:#}"));
}

#[test]
fn a_full_destination_is_named_and_keeps_nothing() {
    let Some((host, _registry)) = host() else { return };
    if !rhost_kit::is_root() {
        return rhost_kit::skip("a small file system takes root to mount");
    }
    let ctx = kept(&host);
    let room = host.dir().join("room");
    let _small = Small::mount(&room, "100k");
    for kind in ["oci", "docker", "tar"] {
        let dest = room.join("out");
        let text =
            host.run(["build", "-o", &format!("type={kind},dest={}", dest.display()), &ctx]).expect("ran").failure(6);
        assert!(text.contains("No space left") && text.contains(&*dest.display().to_string()), "{text}");
        assert_eq!(fs::read_dir(&room).expect("there").count(), 0, "half of an output was left");
    }
}

#[test]
fn a_read_only_store_is_named() {
    let Some((host, _registry)) = host() else { return };
    if rhost_kit::is_root() {
        let ctx = kept(&host);
        fs::create_dir(host.root()).expect("made");
        let rhost = host.command(["build", &ctx]);
        let mut command = Command::new("unshare");
        let script = "mount --bind \"$0\" \"$0\" && mount -o remount,bind,ro \"$0\" && exec \"$@\"";
        command.args(["--mount", "sh", "-c", script]).arg(host.root()).arg(rhost.get_program()).args(rhost.get_args());
        command.env_clear().envs(rhost.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let ran = command.output().expect("unshare");
        let text = String::from_utf8_lossy(&ran.stderr).into_owned();
        assert!(ran.status.code() == Some(6) && text.contains("Read-only") && text.contains("--root"), "{text}");
    } else {
        fs::create_dir(host.root()).expect("made");
        fs::set_permissions(host.root(), fs::Permissions::from_mode(0o555)).expect("mode");
        let text = host.run(["images"]).expect("ran").failure(6);
        assert!(text.contains("--root"), "{text}");
    }
}
