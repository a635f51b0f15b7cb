//! SOURCE_DATE_EPOCH: outputs that are the same bytes whenever and by whomever of the two builders they are built.
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use serde_json::Value;

use super::case::{Case, age, make};
use super::image::Archive;
use super::peers::Peers;
use super::tar::entries;
use super::work;

/// Later than one file of the context, earlier than the others and than what the build makes.
const EPOCH: i64 = 1_500_000_000;

const DOCKERFILE: &str = "\
FROM busybox AS base
RUN mkdir /made && echo a > /made/a && touch -d @1400000000 /made/old && ln -s a /made/link && ln /made/a /made/hard
FROM base
WORKDIR /work/dir
COPY . /ctx/
COPY --link new /linked/new
RUN rm /made/a && touch /ctx/new && chmod 4755 /ctx/old
LABEL a=b
";

fn case(work: &Path, name: &str, options: &[(&str, &str)]) -> Case {
    let context = work.join(name);
    fs::create_dir(&context).expect("made");
    for (file, text) in [("Dockerfile", DOCKERFILE), ("new", "new\n"), ("old", "old\n"), ("sub/x", "x\n")] {
        fs::create_dir_all(context.join(file).parent().expect("a parent")).expect("made");
        fs::write(context.join(file), text).expect("written");
    }
    age(&context);
    make(&context, "touch -d @1300000000.5 old sub", name);
    let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    Case { name: name.to_owned(), context, options: options.iter().map(own).collect() }
}

/// The top of an archive: what the digest of its image is, and what it says of it.
fn top(archive: &Path) -> Value {
    Archive::read(archive).index["manifests"][0].clone()
}

#[test]
fn rewritten_images_are_buildkits_to_the_byte() {
    let Some(peers) = Peers::start() else { return };
    let work = work();
    let epoch = format!("{EPOCH}");
    let argument = ("build-arg:SOURCE_DATE_EPOCH", epoch.as_str());
    let check = |case: &Case, more: &str| -> Value {
        let [theirs, ours] = peers.both(case, work.path(), "oci", more);
        let differences =
            || super::compare::compare(&Archive::read(&theirs), &Archive::read(&ours), u64::MAX).join("\n");
        let (theirs, ours) = (top(&theirs), top(&ours));
        assert_eq!(ours, theirs, "{}{more}\n{}", case.name, differences());
        ours
    };
    // Not compressed: two implementations of gzip are two streams of bytes.
    let plain = ",compression=uncompressed,force-compression=true,rewrite-timestamp=true";
    let one = case(work.path(), "one", &[argument]);
    let first = check(&one, plain);
    // The times of another day and a store that has it all: the same image.
    make(&one.context, "touch new", "one");
    assert_eq!(check(&one, plain), first);
    let [theirs, ours] = peers.both(&one, work.path(), "oci", ",rewrite-timestamp=true");
    let diff_ids = |path: &Path| Archive::read(path).images().1[0].config["rootfs"]["diff_ids"].clone();
    assert_eq!(diff_ids(&ours), diff_ids(&theirs), "compressed, the same layers");
    let docker = ",oci-mediatypes=false";
    check(&one, &format!("{plain}{docker}"));
    // The output's own epoch goes before the argument.
    let own = check(&one, &format!("{plain},source-date-epoch=1450000000"));
    assert_ne!(own["digest"], first["digest"]);
    let both = case(work.path(), "both", &[argument, ("platform", "linux/amd64,linux/arm64")]);
    fs::write(both.context.join("Dockerfile"), "FROM busybox\nCOPY new old /\n").expect("written");
    if cfg!(target_arch = "x86_64") {
        check(&both, plain);
    }
    // Nothing of it without a time.
    let none = case(work.path(), "none", &[]);
    let [_, ours] = peers.both(&none, work.path(), "oci", plain);
    let made = |archive: &Path| {
        let layers = Archive::read(archive).images().1.remove(0).layers;
        layers.iter().flat_map(|layer| layer.entries()).filter(|entry| entry.path.starts_with(b"made/")).count()
    };
    assert!(made(&ours) > 0);
}

/// Path to time of all files.
fn times(top: &Path) -> BTreeMap<String, (i64, i64)> {
    let (mut found, mut todo) = (BTreeMap::new(), vec![top.to_owned()]);
    while let Some(at) = todo.pop() {
        for entry in fs::read_dir(&at).expect("read") {
            let path = entry.expect("read").path();
            let stat = fs::symlink_metadata(&path).expect("there");
            let name = path.strip_prefix(top).expect("below").display().to_string();
            found.insert(name, (stat.mtime(), stat.mtime_nsec()));
            if stat.is_dir() {
                todo.push(path);
            }
        }
    }
    found
}

#[test]
fn plain_files_have_the_epoch_as_buildkits_have() {
    let Some(peers) = Peers::start() else { return };
    let work = work();
    let epoch = format!("{EPOCH}");
    let argument = ("build-arg:SOURCE_DATE_EPOCH", epoch.as_str());
    let dockerfile = "FROM scratch\nCOPY . /ctx/\nCOPY new /new\n";
    for (name, platforms, more) in [
        ("local-one", "linux/amd64", ""),
        ("local-split", "linux/amd64", ",platform-split=true"),
        ("local-both", "linux/amd64,linux/arm64", ""),
        ("local-own", "linux/amd64", ",source-date-epoch=1450000000"),
    ] {
        let case = case(work.path(), name, &[argument, ("platform", platforms)]);
        fs::write(case.context.join("Dockerfile"), dockerfile).expect("written");
        let [theirs, ours] = peers.both(&case, work.path(), "local", more);
        let (theirs, ours) = (times(&theirs), times(&ours));
        assert_eq!(ours, theirs, "{name}{more}");
        let [theirs, ours] = peers.both(&case, work.path(), "tar", more);
        let of = |path: &Path| -> BTreeMap<String, String> {
            let files = entries(&fs::read(path).expect("a tar")).into_iter();
            files.map(|e| (String::from_utf8_lossy(&e.path).trim_end_matches('/').to_owned(), e.mtime)).collect()
        };
        assert_eq!(of(&ours), of(&theirs), "{name}{more}");
    }
}
