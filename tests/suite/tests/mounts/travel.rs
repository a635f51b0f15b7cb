//! Cache mounts that leave the machine: through a real registry, directories and tars, to another store; hostile exports; kills.
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use rhost_kit::{Answer, Proxy, Ran, Registry, TestHost, noise, nothing_left};

use super::cache::bucket;
use super::{Background, build, command, said, until};
use crate::build::host;

/// Another machine.
fn another() -> TestHost {
    TestHost::new().expect("a host")
}

fn cache(host: &TestHost, arguments: &[&str]) -> Ran {
    let mut command = host.command(std::iter::once("cache").chain(arguments.iter().copied()));
    Ran::of(command.env("BUILDKIT_PROGRESS", "plain")).expect("ran")
}

/// The directory of the only instance of the only mount.
fn only(host: &TestHost) -> PathBuf {
    let entries: Vec<_> = fs::read_dir(bucket(host)).expect("there").flatten().map(|entry| entry.path()).collect();
    let [one] = &entries[..] else { panic!("one instance: {entries:?}") };
    one.join("fs")
}

/// A mount `id` in the store of `host`, with nothing in it. Returns its directory.
fn mount(host: &TestHost, id: &str) -> PathBuf {
    said(build(host, &format!("FROM busybox\nRUN --mount=type=cache,id={id},target=/c true; : {id}\n"), &[]));
    only(host)
}

/// Everything about a tree that travels, one line each.
fn tree(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut todo = vec![root.to_path_buf()];
    while let Some(path) = todo.pop() {
        let meta = fs::symlink_metadata(&path).expect("there");
        let content = match meta.file_type() {
            kind if kind.is_dir() => {
                todo.extend(fs::read_dir(&path).expect("listed").flatten().map(|entry| entry.path()));
                String::new()
            }
            kind if kind.is_symlink() => fs::read_link(&path).expect("a link").display().to_string(),
            kind if kind.is_file() => rhost_llb::Digest::of(fs::read(&path).expect("read")).short(),
            _ => "special".to_owned(),
        };
        let name = path.strip_prefix(root).expect("below").display().to_string();
        let links = if meta.is_dir() { 0 } else { meta.nlink() };
        let (mode, time) = (meta.mode(), (meta.mtime(), meta.mtime_nsec()));
        found.push(format!("{name:?} {mode:o} {}:{} {time:?} {links} {content}", meta.uid(), meta.gid()));
    }
    found.sort();
    found
}

/// What a line of an export or import says behind `word`: `sent 3 of 9 parts, 1.2 MB` is (3, 9).
fn counted(ran: &Ran, word: &str) -> (u64, u64) {
    let line =
        ran.stderr.lines().rfind(|line| line.contains(word)).unwrap_or_else(|| panic!("no `{word}`: {}", ran.stderr));
    let mut words = line.split(word).nth(1).expect("behind it").split_whitespace();
    let mut number = || words.next().and_then(|word| word.parse().ok());
    let first = number().expect("a number");
    words.next();
    (first, words.next().and_then(|word| word.parse().ok()).expect("a number"))
}

/// A mount with everything that can be in one, and 300 files of 30 KB.
fn fill(dir: &Path) {
    for number in 0..300u64 {
        let at = dir.join(format!("d{}", number % 7));
        fs::create_dir_all(&at).expect("made");
        fs::write(at.join(format!("f{number}")), noise(number + 1, 30_000)).expect("written");
    }
    let script = "echo x > a && ln a b && ln -s a l && ln -s ../../../etc/passwd away && mkfifo p && mkdir -m 2750 e && : > empty && \
        head -c 3000000 /dev/zero > zeros && truncate -s 9000000 sparse && echo end >> sparse && cp a s && chmod 4711 s && \
        : > \"$(printf 'n\\377')\" && touch -h -d 2001-02-03 l a && touch -d 1960-01-01 e && chmod 1777 .";
    let ran = Command::new("sh").args(["-ec", script]).current_dir(dir).status().expect("sh");
    assert!(ran.success());
    fs::write(dir.join("large"), noise(99, 5 << 20)).expect("written");
}

#[test]
fn a_mount_goes_through_a_registry_and_only_what_changed_goes_again() {
    let Some((a, registry)) = host() else { return };
    let b = another();
    b.mirror_docker_io(registry.address()).expect("config");
    let step = |text: &str| format!("FROM busybox\nRUN --mount=type=cache,id=npm,target=/c {text}\n");
    assert_eq!(said(build(&a, &step("echo warm > /c/w; echo made"), &[])), "made\n");
    let dir = only(&a);
    fill(&dir);
    let reference = registry.name("team/cache:main");
    let first = cache(&a, &["export", "--mount", "npm", "-o", &reference]);
    let (sent, all) = counted(&first, "sent ");
    assert!(sent == all && all > 5, "{}", first.stderr);
    let named = first.success();
    assert!(named.starts_with(&format!("{reference}@sha256:")), "{named}");

    // Another machine: warm at once, and equal in everything.
    assert_eq!(cache(&b, &["import", &reference]).success(), "npm\n");
    assert_eq!(tree(&only(&b)), tree(&dir));
    assert!(fs::metadata(only(&b).join("sparse")).expect("there").blocks() < 8000, "holes stay holes");
    assert_eq!(said(build(&b, &step("cat /c/w"), &[])), "warm\n");

    // What b changes is all that it sends, though it never exported before; and all that a fetches.
    assert_eq!(said(build(&b, &step("echo new > /c/d3/new; rm /c/d4/f4; echo changed"), &[])), "changed\n");
    let second = cache(&b, &["export", "--mount", "npm", "-o", &reference]);
    let (sent, all) = counted(&second, "sent ");
    assert!((2..=4).contains(&sent) && all > 5, "{}", second.stderr);
    second.success();
    let back = cache(&a, &["import", "--mount", "npm", &reference]);
    let (fetched, all) = counted(&back, "fetched ");
    assert!((1..=2).contains(&fetched) && all > 5, "{}", back.stderr);
    back.success();
    assert_eq!(tree(&only(&a)), tree(&only(&b)));
    assert_eq!(
        said(build(&a, &step("cat /c/d3/new; ls /c/d4/f4 2>&1 || true"), &[])),
        "new\nls: /c/d4/f4: No such file or directory\n"
    );
    // Nothing changed: nothing is sent, and the export is the same.
    let again = cache(&b, &["export", "--all", "-o", &reference]);
    assert_eq!(counted(&again, "sent ").0, 0, "{}", again.stderr);
    let third = cache(&a, &["export", "--mount", "npm", "-o", &reference]);
    assert_eq!(counted(&third, "sent ").0, 0, "{}", third.stderr);
    assert_eq!(third.success(), again.success());
}

#[test]
fn other_tools_copy_an_export_and_it_is_imported_from_there() {
    let Some((a, registry)) = host() else { return };
    if !rhost_kit::have(&["crane", "oras-py"]) {
        return;
    }
    let other = Registry::start().expect("a registry");
    fill(&mount(&a, "k"));
    let from = registry.name("team/cache:1");
    let digest = cache(&a, &["export", "--all", "-o", &from]).success();
    let digest = digest.trim().split_once('@').expect("a digest").1.to_owned();
    let run = |program: &str, arguments: &[&str]| {
        let out = Command::new(program).args(arguments).output().expect("started");
        assert!(out.status.success(), "{program}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8_lossy(&out.stdout).into_owned()
    };
    let to = |name: &str| other.name(&format!("copied/{name}:1"));
    let plain = ["--insecure-policy", "copy", "--quiet", "--src-tls-verify=false", "--dest-tls-verify=false"];
    run("skopeo", &[&plain[..], &[&format!("docker://{from}"), &format!("docker://{}", to("skopeo"))]].concat());
    run("crane", &["copy", "--insecure", &from, &to("crane")]);
    run("crane", &["validate", "--insecure", "--fast", "--remote", &to("crane")]);
    let layout = a.dir().join("layout");
    run("skopeo", &[&plain[..], &[&format!("docker://{from}"), &format!("oci:{}:x", layout.display())]].concat());
    let wanted = tree(&only(&a));
    let in_layout = format!("type=oci,dest={},name=x", layout.display());
    for place in [&to("skopeo"), &to("crane"), &in_layout] {
        let b = another();
        cache(&b, &["import", place]).success();
        assert_eq!(tree(&only(&b)), wanted, "{place}");
    }
    assert_eq!(run("crane", &["digest", "--insecure", &to("skopeo")]).trim(), digest, "copied as it is");
}

#[test]
fn directories_and_tars_are_equal_for_equal_mounts() {
    let Some((a, _registry)) = host() else { return };
    let dir = mount(&a, "k");
    fill(&dir);
    let at = |name: &str| a.work().join(name).display().to_string();
    let digest = cache(&a, &["export", "--all", "-o", "out"]).success();
    assert_eq!(cache(&a, &["export", "--mount", "k", "-o", "type=tar,dest=out.tar"]).success(), digest);
    assert_eq!(cache(&a, &["export", "--all", "-o", "type=oci,dest=layout,name=one"]).success(), digest);
    let piped = Command::new("sh")
        .args(["-c", "\"$0\" cache export --all -o - > piped.tar", a.binary().to_str().expect("text")])
        .env_clear()
        .envs(a.command(["x"]).get_envs().filter_map(|(name, value)| Some((name, value?))))
        .current_dir(a.work())
        .status();
    assert!(piped.expect("sh").success());
    let read = |name: &str| fs::read(a.work().join(name)).expect("there");
    assert!(read("piped.tar") == read("out.tar"));
    let wanted = tree(&dir);
    for place in [at("out"), at("out.tar"), format!("type=oci,dest={},name=one", at("layout")), "-".to_owned()] {
        let b = another();
        let mut import = b.command(["cache", "import", &place]);
        import.env("BUILDKIT_PROGRESS", "plain");
        if place == "-" {
            import.stdin(fs::File::open(at("out.tar")).expect("there"));
        }
        assert_eq!(Ran::of(&mut import).expect("ran").success(), "k\n", "{place}");
        assert_eq!(tree(&only(&b)), wanted, "{place}");
        // What was imported exports as the same, and the directory needs nothing.
        let again = cache(&b, &["export", "--all", "-o", &at("out")]);
        assert_eq!(counted(&again, "sent ").0, 0, "{}", again.stderr);
        assert_eq!(again.success(), digest);
    }
    // What only the export before needed goes from a directory of its own.
    let blobs = || fs::read_dir(a.work().join("out/blobs/sha256")).expect("there").count();
    let before = blobs();
    fs::remove_dir_all(dir.join("d1")).expect("removed");
    cache(&a, &["export", "--all", "-o", "out"]).success();
    assert!(blobs() < before);
    // Merged: what is not in the export stays.
    fs::write(dir.join("mine"), "mine").expect("written");
    cache(&a, &["import", "--mode", "merge", "out.tar"]).success();
    assert!(only(&a).join("mine").exists() && only(&a).join("d1/f1").exists());
    cache(&a, &["import", "out.tar"]).success();
    assert_eq!(tree(&only(&a)), wanted);
}

#[test]
fn ids_variants_and_wrong_requests() {
    let Some((a, registry)) = host() else { return };
    let nothing = cache(&a, &["export", "--all", "-o", "out"]).failure(2);
    assert!(nothing.contains("no cache mounts"), "{nothing}");
    let seeds = "FROM busybox AS s\nRUN mkdir /seed && echo s > /seed/s\nFROM busybox\n\
        RUN --mount=type=cache,target=/var/lib/x --mount=type=cache,id=v,target=/v echo 1 > /v/one\n\
        RUN --mount=type=cache,id=v,target=/v,from=s,source=/seed echo 2 > /v/two\n";
    said(build(&a, seeds, &[]));
    let listed = cache(&a, &["ls"]).success();
    let rows: Vec<Vec<&str>> = listed.lines().skip(1).map(|line| line.split_whitespace().collect()).collect();
    let ids: Vec<_> = rows.iter().map(|row| (row[0], row[1] == "-")).collect();
    assert_eq!(ids, [("/var/lib/x", true), ("v", true), ("v", false)], "{listed}");
    cache(&a, &["export", "--mount", "v", "-o", "out"]).success();
    let unknown = cache(&a, &["export", "--mount", "w", "-o", "out"]).failure(2);
    assert!(unknown.contains("no cache mount `w`") && unknown.contains("there are `/var/lib/x`, `v`"), "{unknown}");
    let b = another();
    b.mirror_docker_io(registry.address()).expect("config");
    let out = a.work().join("out").display().to_string();
    let unknown = cache(&b, &["import", "--mount", "/var/lib/x", &out]).failure(2);
    assert!(
        unknown.contains("the export has no cache mount `/var/lib/x`") && unknown.contains("it has `v`"),
        "{unknown}"
    );
    cache(&b, &["import", &out]).success();
    // Each variant is found by those who begin with the same.
    let look = seeds.replace("echo 1 > /v/one", "ls /v").replace("echo 2 > /v/two", "ls /v");
    let found = said(build(&b, &look, &[]));
    assert!(found.contains("one\n") && found.contains("s\ntwo\n"), "{found}");

    for (arguments, code, why) in [
        (&["export", "-o", "x"][..], 2, "--mount <ID>|--all"),
        (&["export", "--all"], 2, "--output"),
        (&["export", "--all", "-o", "type=s3,dest=x"], 2, "type `s3` is unknown"),
        (&["export", "--all", "-o", "type=dir"], 2, "needs dest=DIRECTORY"),
        (&["export", "--all", "-o", "files"], 2, "a directory with other files"),
        (&["export", "--all", "-o", "type=tar,dest=no/where.tar"], 2, "there is no directory"),
        (&["export", "--all", "-o", "type=registry,ref=a b"], 2, "a b"),
        (&["import", "nowhere"], 2, "cannot read `nowhere`"),
        (&["import", "files"], 2, "oci-layout"),
        (&["import", "ctx/kept"], 5, "broken archive"),
        (&["import"], 2, "<SOURCE>"),
    ] {
        let text = cache(&a, arguments).failure(code);
        assert!(text.contains(why), "{arguments:?}: {text}");
    }
    let image = registry.name("library/busybox:latest");
    let text = cache(&a, &["import", &image]).failure(2);
    assert!(text.contains("it is no export of cache mounts"), "{text}");
    let text = cache(&a, &["export", "--all", "-o", &image]).failure(2);
    assert!(text.contains("would be replaced") && text.contains("another tag"), "{text}");
    let text = cache(&a, &["import", &registry.name("team/none:1")]).failure(5);
    assert!(text.contains("not found"), "{text}");
    let closed = Registry::start_with_login().expect("a registry");
    for arguments in [&["export", "--all", "-o"][..], &["import"]] {
        let text = cache(&a, &[arguments, &[&closed.name("team/c:1")]].concat()).failure(5);
        assert!(text.contains("without credentials; log in first"), "{text}");
    }
}

/// What an export in `dir` names, by media type.
fn layers(dir: &Path, kind: &str) -> Vec<PathBuf> {
    let json =
        |path: PathBuf| serde_json::from_slice::<serde_json::Value>(&fs::read(path).expect("there")).expect("JSON");
    let blob = |value: &serde_json::Value| {
        dir.join("blobs/sha256").join(value["digest"].as_str().expect("a digest").trim_start_matches("sha256:"))
    };
    let manifest = json(blob(&json(dir.join("index.json"))["manifests"][0]));
    let all = manifest["layers"].as_array().expect("layers").iter().chain([&manifest["config"]]);
    all.filter(|layer| layer["mediaType"].as_str().is_some_and(|t| t.contains(kind))).map(blob).collect()
}

#[test]
fn what_is_damaged_or_lies_changes_nothing() {
    let Some((a, registry)) = host() else { return };
    fill(&mount(&a, "k"));
    cache(&a, &["export", "--all", "-o", "out"]).success();
    let out = a.work().join("out");
    let b = another();
    b.mirror_docker_io(registry.address()).expect("config");
    let before = mount(&b, "k");
    fs::write(before.join("precious"), "precious").expect("written");
    let kept = tree(&before);
    let place = out.display().to_string();
    let refused = |why: &str| {
        let ran = cache(&b, &["import", &place]);
        assert!(ran.code == 5 && ran.stderr.contains(why), "{why}: {} {}", ran.code, ran.stderr);
        assert_eq!(tree(&only(&b)), kept, "{why}");
        nothing_left(b.dir()).unwrap_or_else(|error| panic!("{error:#}"));
    };
    for kind in ["pack", "tree", "config"] {
        for path in layers(&out, kind).into_iter().take(2) {
            let whole = fs::read(&path).expect("there");
            let mut flipped = whole.clone();
            flipped[whole.len() / 2] ^= 1;
            fs::write(&path, &flipped).expect("written");
            refused("it was changed or damaged on its way");
            fs::write(&path, &whole[..whole.len() - 1]).expect("written");
            refused("ended after");
            fs::remove_file(&path).expect("removed");
            refused("was not found");
            fs::write(&path, &whole).expect("written");
        }
    }
    // Right digests over wrong things: another config, trees that lie, packs of other chunks.
    let lie = |change: &dyn Fn(&mut serde_json::Value), layer: Option<(&str, &[u8])>, why: &str, code: i32| {
        let lying = a.work().join("lying");
        let _ = fs::remove_dir_all(&lying);
        assert!(Command::new("cp").arg("-r").args([&out, &lying]).status().expect("cp").success());
        let json =
            |path: &Path| serde_json::from_slice::<serde_json::Value>(&fs::read(path).expect("there")).expect("JSON");
        let put = |bytes: &[u8]| {
            let digest = rhost_llb::Digest::of(bytes);
            fs::write(lying.join("blobs/sha256").join(digest.hex()), bytes).expect("written");
            serde_json::json!({"digest": digest.to_string(), "size": bytes.len()})
        };
        let mut index = json(&lying.join("index.json"));
        let hex = |value: &serde_json::Value| {
            value["digest"].as_str().expect("a digest").trim_start_matches("sha256:").to_owned()
        };
        let mut manifest = json(&lying.join("blobs/sha256").join(hex(&index["manifests"][0])));
        let mut config = json(&lying.join("blobs/sha256").join(hex(&manifest["config"])));
        let mut document = serde_json::json!({"manifest": manifest, "config": config});
        change(&mut document);
        (manifest, config) = (document["manifest"].take(), document["config"].take());
        if let Some((kind, bytes)) = layer {
            let layers = manifest["layers"].as_array_mut().expect("layers");
            let first =
                layers.iter_mut().find(|l| l["mediaType"].as_str().is_some_and(|t| t.contains(kind))).expect("one");
            let new = put(bytes);
            (first["digest"], first["size"]) = (new["digest"].clone(), new["size"].clone());
        }
        let new = put(config.to_string().as_bytes());
        (manifest["config"]["digest"], manifest["config"]["size"]) = (new["digest"].clone(), new["size"].clone());
        let new = put(manifest.to_string().as_bytes());
        (index["manifests"][0]["digest"], index["manifests"][0]["size"]) = (new["digest"].clone(), new["size"].clone());
        fs::write(lying.join("index.json"), index.to_string()).expect("written");
        let ran = cache(&b, &["import", &lying.display().to_string()]);
        assert!(ran.code == code && ran.stderr.contains(why), "{why}: {} {}", ran.code, ran.stderr);
        assert_eq!(tree(&only(&b)), kept, "{why}");
    };
    let nothing = |_: &mut serde_json::Value| {};
    let newer = "application/vnd.rhost.cache.config.v2+json";
    lie(&|d| d["manifest"]["config"]["mediaType"] = newer.into(), None, "import it with a newer rhost", 2);
    lie(&|d| d["config"]["version"] = 9.into(), None, "version 9", 2);
    lie(&|d| d["config"]["mounts"][0]["packs"][0][0] = 7.into(), None, "another size than its chunks", 5);
    lie(&|d| d["config"]["mounts"][0]["packs"][0][1] = 100_000.into(), None, "other chunks than the tree", 5);
    lie(&|d| d["config"]["mounts"][0]["trees"][0] = (1u64 << 60).into(), None, "more than", 5);
    lie(&|d| d["config"]["mounts"][0]["trees"][0] = 3.into(), None, "does not unpack", 5);
    lie(&|d| drop(d["manifest"]["layers"].as_array_mut().map(Vec::pop)), None, "layers", 5);
    lie(&nothing, Some(("pack", b"no zstd")), "does not unpack", 5);
    let bomb = zstd_of(&vec![0; 32 << 20]);
    lie(&nothing, Some(("pack", &bomb)), "does not unpack", 5);
    let line = |path: &str, kind: &str, more: &str| {
        let top = "{\"p\":\"\",\"t\":\"d\",\"m\":493,\"u\":0,\"g\":0,\"ns\":0}\n";
        format!("{top}{{\"p\":\"{path}\",\"t\":\"{kind}\",\"m\":420,\"u\":0,\"g\":0,\"ns\":0{more}}}\n").into_bytes()
    };
    for (lines, why) in [
        (line("../../escaped", "f", ""), "cannot be a file's name"),
        (line("dev", "c", ",\"rdev\":[1,3]"), "rdev"),
        (line("h", "h", ",\"s\":\"../../../etc/passwd\""), "hard link"),
        (line("d/f", "f", ""), "does not lie in a directory"),
    ] {
        let tree = zstd_of(&lines);
        lie(&|d| d["config"]["mounts"][0]["trees"][0] = lines.len().into(), Some(("tree", &tree)), why, 5);
    }
    // More than there can be room for is known before anything is fetched.
    let chunk = format!("[\"{}\",4194304]", "ab".repeat(32));
    let huge = line("huge", "f", &format!(",\"c\":[{}]", vec![chunk.as_str(); 200_000].join(",")));
    let tree = zstd_of(&huge);
    let only_huge = |d: &mut serde_json::Value| {
        d["config"]["mounts"][0]["trees"] = serde_json::json!([huge.len()]);
        d["config"]["mounts"][0]["packs"] = serde_json::json!([[4_194_304, 1]]);
        let layers = d["manifest"]["layers"].as_array().expect("layers").clone();
        let first =
            |kind: &str| layers.iter().find(|l| l["mediaType"].as_str().is_some_and(|t| t.contains(kind))).cloned();
        d["manifest"]["layers"] = serde_json::json!([first("tree"), first("pack")]);
    };
    lie(&only_huge, Some(("tree", &tree)), "free", 6);
    cache(&b, &["import", &place]).success();
    assert_eq!(tree_without_times(&only(&b)), tree_without_times(&only(&a)));
}

fn tree_without_times(root: &Path) -> Vec<String> {
    tree(root).into_iter().map(|line| line.split_whitespace().take(3).collect::<Vec<_>>().join(" ")).collect()
}

/// One zstd frame.
fn zstd_of(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 3).expect("packed")
}

/// A step that says it has mount `k`, and keeps it until there is a file `go`.
fn holder(sharing: &str) -> String {
    format!(
        "FROM busybox\nRUN --mount=type=cache,id=k,target=/c,sharing={sharing} touch /c/begun; while [ ! -e /c/go ]; do usleep 20000; done; rm /c/go; touch /c/finished\n"
    )
}

#[test]
fn a_mount_that_a_build_has_is_waited_for_and_a_shared_one_is_read() {
    for (sharing, waits) in [("locked", true), ("shared", false)] {
        let Some((a, _registry)) = host() else { return };
        let dir = mount(&a, "k");
        let first = Background::start(&a, command(&a, &holder(sharing), &[]), sharing);
        until("the step", || dir.join("begun").exists().then_some(()));
        let export = a.command(["cache", "export", "--progress", "plain", "--mount", "k", "-o", sharing]);
        if waits {
            let who = first.child.id();
            let export = Background::start(&a, export, "export");
            export.says(&format!("waiting for cache mount `k`, which process {who} has"));
            let mut import =
                Background::start(&a, a.command(["cache", "import", "--progress", "plain", "none"]), "import");
            assert_eq!(import.child.wait().expect("ended").code(), Some(2));
            fs::write(dir.join("go"), "").expect("written");
            first.ended().success();
            export.ended().success();
        } else {
            // Files come, change and go all the while.
            let busy = dir.clone();
            let (stop, stopped) = std::sync::mpsc::channel::<()>();
            let writer = std::thread::spawn(move || {
                let mut count = 0u64;
                while stopped.try_recv().is_err() {
                    count += 1;
                    let name = busy.join(format!("v{}", count % 50));
                    if count % 3 == 0 {
                        drop(fs::remove_file(name))
                    } else {
                        drop(fs::write(name, noise(count, 100_000)))
                    }
                }
            });
            let ran = Ran::of(&mut { export }).expect("ran");
            stop.send(()).expect("told");
            writer.join().expect("joined");
            // Either there was a moment of rest for each file, or it says which one had none.
            assert!(
                ran.code == 0 || (ran.code == 6 && ran.stderr.contains("changes whenever it is read")),
                "{}",
                ran.stderr
            );
            let ran = Ran::of(&mut a.command(["cache", "export", "--mount", "k", "-o", sharing])).expect("ran");
            ran.success();
            fs::write(dir.join("go"), "").expect("written");
            first.ended().success();
        }
        let b = another();
        cache(&b, &["import", &a.work().join(sharing).display().to_string()]).success();
        assert!(only(&b).join("begun").exists());
        assert_eq!(only(&b).join("finished").exists(), waits, "{sharing}");
    }
}

#[test]
fn a_build_waits_for_an_import_and_is_warm() {
    let Some((a, registry)) = host() else { return };
    fill(&mount(&a, "k"));
    let reference = registry.name("team/cache:1");
    cache(&a, &["export", "--all", "-o", &reference]).success();
    let b = another();
    b.mirror_docker_io(registry.address()).expect("config");
    mount(&b, "k");
    // The registry holds back packs until the build is seen to wait.
    let proxy = Proxy::start(registry.address()).expect("a proxy");
    let (open, gate) = std::sync::mpsc::channel::<()>();
    let gate = std::sync::Mutex::new(gate);
    let packs: Vec<String> = {
        cache(&a, &["export", "--all", "-o", "out"]).success();
        let names = layers(&a.work().join("out"), "pack");
        names.iter().map(|path| path.file_name().expect("a name").to_string_lossy().into_owned()).collect()
    };
    proxy.answer(move |asked| {
        if packs.iter().any(|digest| asked.path.contains(digest)) {
            // The first waits for the word; when the channel is closed all go on.
            let _ = gate.lock().expect("locked").recv();
        }
        Answer::Forward
    });
    let place = format!("type=registry,ref={}/team/cache:1", proxy.address());
    let import = Background::start(&b, b.command(["cache", "import", "--progress", "plain", &place]), "import");
    let who = import.child.id();
    until("the import's lock", || {
        let locks = fs::read_dir(b.root().join("locks-v1")).ok()?;
        let mut texts = locks.flatten().filter_map(|entry| fs::read_to_string(entry.path()).ok());
        texts.any(|text| text == format!("{who} import")).then_some(())
    });
    let step = "FROM busybox\nRUN --mount=type=cache,id=k,target=/c,sharing=shared ls /c/large\n";
    let build = Background::start(&b, command(&b, step, &[]), "build");
    build.says(&format!("waiting for cache mount `/k`, which process {who} imports"));
    drop(open);
    import.ended().success();
    assert_eq!(said(build.ended()), "/c/large\n");
    assert_eq!(tree(&only(&b)), tree(&only(&a)));
}

#[test]
fn killed_at_any_moment_a_mount_is_whole_and_nothing_is_left() {
    let Some((a, registry)) = host() else { return };
    fill(&mount(&a, "k"));
    let reference = registry.name("team/cache:1");
    cache(&a, &["export", "--all", "-o", "out"]).success();
    let b = another();
    b.mirror_docker_io(registry.address()).expect("config");
    let dir = mount(&b, "k");
    fs::write(dir.join("old"), "old").expect("written");
    let place = a.work().join("out").display().to_string();
    let (old, new) = (tree(&dir), tree(&only(&a)));
    let mut killed = 0;
    // Ever later, until one gets through.
    for pause in (0..).map(|n| std::time::Duration::from_millis(n * n * 3)) {
        let mut import =
            b.command(["cache", "import", &place]).stderr(std::process::Stdio::null()).spawn().expect("started");
        std::thread::sleep(pause);
        let _ = import.kill();
        let ended = import.wait().expect("waited").success();
        // Between two renames there may be both; the first is what builds take.
        let ids = fs::read_dir(bucket(&b)).expect("there").flatten().filter(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            !name.starts_with("new-") && !name.starts_with("old-")
        });
        let trees: Vec<_> = ids.map(|entry| tree(&entry.path().join("fs"))).collect();
        assert!(
            (1..=2).contains(&trees.len()) && trees.iter().all(|found| *found == old || *found == new),
            "after {pause:?}"
        );
        if ended || trees.contains(&new) {
            break;
        }
        killed += 1;
    }
    assert!(killed > 0);
    cache(&b, &["import", &place]).success();
    // A build sweeps what was left.
    let found = said(build(&b, "FROM busybox\nRUN --mount=type=cache,id=k,target=/c ls /c/large\n", &[]));
    assert_eq!(found, "/c/large\n");
    let rubbish = |dir: &Path| {
        let names =
            fs::read_dir(dir).expect("there").flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
        names
            .filter(|name| name.starts_with("new-") || name.starts_with("old-") || name.starts_with(".rhost-partial"))
            .count()
    };
    assert_eq!(rubbish(&bucket(&b)), 0);
    assert_eq!(tree(&only(&b)), new);

    // Exports: what is there is whole, and the next one completes it.
    for place in ["half", &reference] {
        for pause in (0..).map(|n| std::time::Duration::from_millis(n * n * 4)) {
            let command = &mut a.command(["cache", "export", "--all", "-o", place]);
            let mut export = command
                .stdout(std::process::Stdio::null())
                .stderr(std::process::Stdio::null())
                .spawn()
                .expect("started");
            std::thread::sleep(pause);
            let _ = export.kill();
            if export.wait().expect("waited").success() {
                break;
            }
        }
        let ran = cache(&a, &["export", "--all", "-o", place]);
        assert_eq!(counted(&ran, "sent ").0, 0, "{}", ran.stderr);
        ran.success();
        let c = another();
        let from = if place == "half" { a.work().join("half").display().to_string() } else { reference.clone() };
        cache(&c, &["import", &from]).success();
        assert_eq!(tree(&only(&c)), new);
    }
    assert_eq!(rubbish(&a.work().join("half/blobs/sha256")), 0);
    assert!(fs::metadata(a.work().join("half")).expect("there").permissions().mode() & 0o700 == 0o700);
}
