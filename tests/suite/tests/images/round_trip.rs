//! What a tree can hold survives: build, every archive format, other people's unpackers, and a build on top of the result.
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use rhost_kit::{Registry, TestHost, busybox};
use rhost_llb::Digest;

use super::case::{Case, age};

/// A context with everything, and steps that take some of it away again.
const BUNDLE: &str = r#"
-- Dockerfile --
FROM busybox AS tools
COPY tools /tools
FROM busybox
COPY tree /t
ADD archive.tar /a/
RUN mkdir -p /o/deep /w/x /gone/dir && touch /o/1 /o/deep/2 /w/keep /w/x/1 /gone/dir/f && ln -s /o /w/link
RUN chown 3000000:70000 /t/plain && chmod 4755 /t/plain && chmod 2711 /t/dir && mkdir -m 1777 /t/sticky
RUN --mount=from=tools,source=/tools,target=/tools ln /t/plain /t/hard-here && echo h > /t/h1 && ln /t/h1 /t/h2 && ln /t/h1 /w/h3 && LD_LIBRARY_PATH=/tools /tools/ld.so /tools/setcap cap_net_raw,cap_sys_admin+ep /t/h1 && LD_LIBRARY_PATH=/tools /tools/ld.so /tools/setfattr -n user.note -v 0x00ff0a3d /t/h1
RUN --mount=from=tools,source=/tools,target=/tools LD_LIBRARY_PATH=/tools /tools/ld.so /tools/setfattr -n user.dir -v d /t/dir
RUN dd if=/dev/zero of=/t/sparse bs=1 count=1 seek=5000000 2>/dev/null && mkfifo -m 620 /t/fifo && mknod /t/null c 1 3 && mknod /t/loop b 7 1
RUN rm -r /o && mkdir /o && touch /o/new && rm /w/x/1 /w/link && rm -r /gone && rm /etc/group
RUN rm -r /w/x && echo file > /w/x && touch -d @1000000000 /t/plain /w
CMD ["/bin/sh", "-c", "cat /t/h2 && stat -c '%a %u %g %s' /t/plain /t/sparse"]
-- tree/plain --
plain
-- tree/dir/f --
f
-- @make --
lib=$(dirname "$(ldd /sbin/setcap | grep -o '/[^ ]*libc.so.6')")
mkdir tools; cp /sbin/setcap /usr/bin/setfattr "$lib/libc.so.6" tools/; cp "$lib"/libcap.so.2 tools/ 2>/dev/null || cp /lib/*/libcap.so.2 tools/; cp "$lib"/libattr.so.1 tools/ 2>/dev/null || cp /usr/lib/*/libattr.so.1 tools/; cp /lib64/ld-linux-x86-64.so.2 tools/ld.so 2>/dev/null || cp /lib/ld-linux-*.so.* tools/ld.so
cd tree
long=$(printf 'n%.0s' $(seq 250)); mkdir -p "$long/$long"; echo deep > "$long/$long/$long"; ln -s "$long/$long/$long" longlink
touch "$(printf 'not\377utf8')" "$(printf 'new\nline')" "caf$(printf '\303\251')"; ln -s "$(printf 'to\377')" weirdlink; truncate -s 3M holes; printf x | dd of=holes bs=1 seek=1000000 conv=notrunc 2>/dev/null
cd ..; mkdir ar; echo 1 > ar/one; ln ar/one ar/two; mkfifo ar/pipe; chmod 2640 ar/one; tar --owner=11 --group=12 --mtime=@1111111111 -C ar -cf archive.tar .; rm -r ar
"#;

/// All that is known of a file but its place in the directory.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    kind: char,
    mode: u32,
    owner: (u32, u32),
    size: u64,
    content: Option<Digest>,
    link: OsString,
    device: u64,
    /// The first path with this inode.
    same: PathBuf,
    xattrs: BTreeMap<OsString, Vec<u8>>,
    mtime: i64,
}

fn list(top: &Path) -> BTreeMap<PathBuf, Known> {
    let (mut found, mut inodes) = (BTreeMap::new(), BTreeMap::new());
    let mut paths = Vec::new();
    walk(top, Path::new(""), &mut paths);
    paths.sort();
    for path in paths {
        let whole = top.join(&path);
        let meta = fs::symlink_metadata(&whole).expect("there");
        let kind = match meta.file_type() {
            t if t.is_dir() => 'd',
            t if t.is_symlink() => 'l',
            t if t.is_fifo() => 'p',
            t if t.is_char_device() => 'c',
            t if t.is_block_device() => 'b',
            _ => 'f',
        };
        let same = inodes.entry((meta.dev(), meta.ino())).or_insert_with(|| path.clone()).clone();
        let known = Known {
            kind,
            mode: meta.mode() & 0o7777,
            owner: (meta.uid(), meta.gid()),
            size: if kind == 'd' { 0 } else { meta.len() },
            content: (kind == 'f').then(|| Digest::of(fs::read(&whole).expect("read"))),
            link: if kind == 'l' { fs::read_link(&whole).expect("a link").into() } else { OsString::new() },
            device: if matches!(kind, 'c' | 'b') { meta.rdev() } else { 0 },
            same,
            xattrs: if kind == 'l' { BTreeMap::new() } else { xattrs(&whole) },
            mtime: meta.mtime(),
        };
        found.insert(path, known);
    }
    found
}

fn walk(top: &Path, at: &Path, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(top.join(at)).expect("read") {
        let entry = entry.expect("read");
        let path = at.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            walk(top, &path, paths);
        }
        paths.push(path);
    }
}

/// `user.*` and `security.capability`, by `getfattr`.
fn xattrs(path: &Path) -> BTreeMap<OsString, Vec<u8>> {
    let run = |name: &std::ffi::OsStr| {
        let mut command = Command::new("getfattr");
        command.args(["--absolute-names", "--no-dereference", "--only-values", "-n"]).arg(name).arg(path);
        command.output().expect("getfattr").stdout
    };
    let mut command = Command::new("getfattr");
    command.args(["--absolute-names", "--no-dereference", "-m", "^(user\\.|security\\.capability)"]).arg(path);
    let names = command.output().expect("getfattr").stdout;
    let names = names.split(|b| *b == b'\n').filter(|line| !line.is_empty() && !line.starts_with(b"#"));
    // What `umoci` notes for itself.
    let names = names.filter(|name| !name.starts_with(b"user.rootlesscontainers"));
    names.map(|name| OsString::from_vec(name.to_vec())).map(|name| (name.clone(), run(&name))).collect()
}

fn run(program: &str, arguments: &[&str]) -> String {
    let out = Command::new(program).args(arguments).output().expect(program);
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.success(), "{program} {arguments:?}: {text}");
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// The files of the image in `archive` (`oci-archive:…`, `docker-archive:…`) as skopeo and umoci lay them out.
fn unpacked(host: &TestHost, archive: &str, name: &str) -> PathBuf {
    let layout = host.dir().join(format!("{name}.layout")).display().to_string();
    let bundle = host.dir().join(format!("{name}.bundle"));
    run("skopeo", &["copy", "--quiet", "--insecure-policy", archive, &format!("oci:{layout}:x")]);
    run("umoci", &["unpack", "--keep-dirlinks", "--image", &format!("{layout}:x"), &bundle.display().to_string()]);
    bundle
}

fn same(what: &str, wanted: &BTreeMap<PathBuf, Known>, found: &BTreeMap<PathBuf, Known>) {
    let mut faults = Vec::new();
    for (path, known) in wanted {
        match found.get(path) {
            Some(found) if found == known => {}
            other => faults.push(format!("{}\n  {known:?}\n  {other:?}", path.display())),
        }
    }
    faults
        .extend(found.keys().filter(|path| !wanted.contains_key(*path)).map(|path| format!("new: {}", path.display())));
    assert!(faults.is_empty(), "{what}: {} differ\n{}", faults.len(), faults.join("\n"));
}

/// Directories that builders write to on the way have no time that counts.
fn settled(mut tree: BTreeMap<PathBuf, Known>) -> BTreeMap<PathBuf, Known> {
    for known in tree.values_mut() {
        if known.kind == 'd' {
            known.mtime = 0;
        }
    }
    tree
}

#[test]
fn a_tree_with_everything_survives_every_way_out_and_in() {
    if !rhost_kit::is_root() {
        return rhost_kit::skip("owners, devices and capabilities are made by root");
    }
    if !rhost_kit::have(&["docker-registry", "skopeo", "umoci", "runc", "setcap", "setfattr", "getfattr"]) {
        return;
    }
    let registry = Registry::start().expect("a registry");
    registry.push(&busybox().expect("busybox"), "library/busybox:latest").expect("pushed");
    let host = TestHost::new().expect("a host");
    host.mirror_docker_io(registry.address()).expect("config");
    let bundle = host.write("everything.txt", BUNDLE).expect("written");
    let case = Case::read(&bundle, host.dir());
    age(&case.context);
    let context = case.context.display().to_string();
    let out = |name: &str| host.dir().join(name).display().to_string();
    let build = |arguments: &[&str]| {
        host.run(["build", "--progress", "plain"].iter().chain(arguments)).expect("ran").success();
    };
    build(&["-t", "all:1", "-o", &format!("type=oci,dest={}", out("oci.tar")), &context]);
    let bundle = unpacked(&host, &format!("oci-archive:{}", out("oci.tar")), "oci");
    let rootfs = bundle.join("rootfs");
    let tree = list(&rootfs);

    // What was asked for is there.
    let at = |path: &str| tree.get(Path::new(path)).unwrap_or_else(|| panic!("no `{path}`"));
    assert_eq!(
        (at("t/plain").mode, at("t/plain").owner, at("t/plain").mtime),
        (0o4755, (3_000_000, 70_000), 1_000_000_000)
    );
    assert_eq!((at("t/dir").mode, at("t/sticky").mode), (0o2711, 0o1777));
    assert_eq!((at("t/h2").same.clone(), at("w/h3").same.clone()), ("t/h1".into(), "t/h1".into()));
    assert_eq!(at("t/h2").xattrs[std::ffi::OsStr::new("user.note")], [0, 255, 10, b'=']);
    let capability = &at("w/h3").xattrs[std::ffi::OsStr::new("security.capability")];
    assert_eq!(capability[..8], [1, 0, 0, 2, 0, 0x20, 0x20, 0]);
    assert_eq!(at("t/dir").xattrs.len(), 1);
    assert_eq!((at("t/fifo").kind, at("t/fifo").mode, at("t/null").kind, at("t/loop").kind), ('p', 0o620, 'c', 'b'));
    assert_eq!((at("t/null").device, at("t/loop").device), (0x103, 0x701));
    assert_eq!((at("t/sparse").size, at("t/holes").size), (5_000_001, 3 << 20));
    let long = "n".repeat(250);
    assert_eq!(at(&format!("t/{long}/{long}/{long}")).size, 5);
    assert_eq!(at("t/longlink").link, format!("{long}/{long}/{long}").as_str());
    for name in [b"t/not\xffutf8".as_slice(), b"t/new\nline"] {
        assert!(tree.contains_key(Path::new(std::ffi::OsStr::from_bytes(name))), "{}", name.escape_ascii());
    }
    assert_eq!(at("t/weirdlink").link.as_bytes(), b"to\xff");
    assert_eq!(
        (at("a/one").owner, at("a/one").mtime, at("a/two").same.clone()),
        ((11, 12), 1_111_111_111, "a/one".into())
    );
    for gone in ["o/1", "o/deep", "gone", "w/link", "w/x/1", "etc/group"] {
        assert!(!tree.contains_key(Path::new(gone)), "{gone} is back");
    }
    assert!(at("w/x").kind == 'f' && at("o/new").kind == 'f');

    // The other archives hold the same, `save` too.
    build(&["-t", "all:1", &context]);
    build(&["-t", "all:1", "-o", &format!("type=docker,dest={}", out("docker.tar")), &context]);
    host.run(["save", "-o", &out("saved.tar"), "all:1"]).expect("ran").success();
    for (name, archive) in [("docker", "docker.tar"), ("saved", "saved.tar")] {
        let bundle = unpacked(&host, &format!("docker-archive:{}", out(archive)), name);
        same(name, &settled(tree.clone()), &settled(list(&bundle.join("rootfs"))));
    }
    build(&["-o", &out("local"), &context]);
    let mut local = settled(list(Path::new(&out("local"))));
    let mut wanted = settled(tree.clone());
    // A directory output is a person's own: no device nodes, no owners, no privileges. Its content is compared.
    wanted.retain(|_, known| !matches!(known.kind, 'b' | 'c'));
    for known in wanted.values_mut().chain(local.values_mut()) {
        (known.owner, known.mode, known.xattrs, known.mtime) = ((0, 0), 0, BTreeMap::new(), 0);
    }
    same("local", &wanted, &local);

    // A build on top of it, from rhost's own store.
    let child = host.write("child/Dockerfile", "FROM all:1\nRUN test -u /t/plain && rm /w/h3\n").expect("written");
    let child = child.parent().expect("a directory").display().to_string();
    build(&["-o", &format!("type=oci,dest={}", out("child.tar")), &child]);
    let bundle_of_child = unpacked(&host, &format!("oci-archive:{}", out("child.tar")), "child");
    let mut wanted = settled(tree.clone());
    wanted.remove(Path::new("w/h3"));
    same("child", &wanted, &settled(list(&bundle_of_child.join("rootfs"))));

    // It runs.
    let file = bundle.join("config.json");
    let mut config: serde_json::Value = serde_json::from_slice(&fs::read(&file).expect("read")).expect("JSON");
    config["process"]["terminal"] = false.into();
    fs::write(&file, config.to_string()).expect("written");
    let id = format!("rhost-round-{}", std::process::id());
    let arguments = ["--root", &out("runc"), "run", "--bundle", &bundle.display().to_string(), &id];
    assert_eq!(run("runc", &arguments), "h\n4755 3000000 70000 6\n644 0 0 5000001\n");
}
