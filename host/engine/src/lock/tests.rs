//! What is read, what is refused, what is written is read again, and which entries a name means.
use std::path::Path;

use proptest::prelude::*;

use super::file::*;
use super::near::{matching, near};

const DIGEST: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const COMMIT: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

fn parse(text: &str) -> Result<LockFile, LockError> {
    LockFile::parse(Path::new("rhost.lock"), &text.replace("DIGEST", DIGEST).replace("COMMIT", COMMIT))
}

const WHOLE: &str = r#"# a comment
version = 1

[frontend]
"r.example/lang:1" = "DIGEST"

[git]
"https://h/x.git#v1" = { commit = "COMMIT", ref = "refs/tags/v1", tag = "COMMIT" }
"ssh://git@h/x" = { commit = "COMMIT", ref = "refs/heads/main" }

[http]
"https://h/a.tar?x=1" = { digest = "DIGEST", modified = "2024-01-31T23:59:00Z", filename = "b.tar" }

[image]
"docker.io/library/debian:12" = "DIGEST"
"#;

#[test]
fn a_file_is_read_with_its_lines_and_written_again() {
    let found = parse(WHOLE).unwrap();
    assert_eq!(found.entries.len(), 5);
    let key = LockKey::new(LockKind::Image, "docker.io/library/debian:12");
    assert_eq!(found.place(&key), "rhost.lock:15");
    let text = print(&found.entries);
    assert_eq!(text.split_once("version").unwrap().1, parse_text(WHOLE).split_once("version").unwrap().1);
    assert_eq!(LockFile::parse(Path::new("x"), &text).unwrap().entries, found.entries);
}

fn parse_text(text: &str) -> String {
    text.replace("DIGEST", DIGEST).replace("COMMIT", COMMIT)
}

#[test]
fn what_is_wrong_is_told_with_its_line() {
    for (text, wanted) in [
        ("", "rhost.lock: it has no version"),
        ("version = 2\n[what]\n", "rhost.lock:1: it is of version 2"),
        (
            "version = 1\n[image]\n\"debian\" = \"DIGEST\"\n",
            "rhost.lock:3: `debian` is written `docker.io/library/debian:latest` here",
        ),
        ("version = 1\n[image]\n\"a@DIGEST\" = \"DIGEST\"\n", "rhost.lock:3: `a@"),
        (
            "version = 1\n[image]\n\"docker.io/library/a:1\" = \"sha256:1\"\n",
            "rhost.lock:3: `sha256:1` is not a digest",
        ),
        ("version = 1\n[image]\n\"UPPER\" = \"DIGEST\"\n", "rhost.lock:3: "),
        ("version = 1\n[images]\n", "rhost.lock:2: unknown field `images`"),
        ("version = 1\n\n[image\n", "rhost.lock:3: "),
        ("version = 1\n[image]\n\"a\" = 1\n\"a\" = 2\n", "rhost.lock:4: "),
        ("version = 1\n<<<<<<< HEAD\n", "rhost.lock:2: a merge left a conflict here"),
        (
            "version = 1\n[git]\n\"https://h/x\" = { commit = \"abc\", ref = \"HEAD\" }\n",
            "rhost.lock:3: `abc` is no commit",
        ),
        (
            "version = 1\n[git]\n\"https://h/x\" = { commit = \"COMMIT\", ref = \"--upload-pack=id\" }\n",
            "rhost.lock:3: ",
        ),
        (
            "version = 1\n[git]\n\"https://h/x\" = { commit = \"COMMIT\", ref = \"main\" }\n",
            "rhost.lock:3: `ref = \"main\"` is no whole name",
        ),
        ("version = 1\n[git]\n\"file:///etc\" = { commit = \"COMMIT\", ref = \"HEAD\" }\n", "rhost.lock:3: "),
        (
            "version = 1\n[git]\n\"https://me:hush@h/x\" = { commit = \"COMMIT\", ref = \"HEAD\" }\n",
            "is written `https://h/x` here",
        ),
        (
            "version = 1\n[git]\n\"https://h/x#HEAD\" = { commit = \"COMMIT\", ref = \"HEAD\" }\n",
            "is written `https://h/x` here",
        ),
        ("version = 1\n[http]\n\"https://me:hush@h/x\" = { digest = \"DIGEST\" }\n", "is written `https://h/x` here"),
        (
            "version = 1\n[http]\n\"https://h/x\" = { digest = \"DIGEST\", filename = \"../x\" }\n",
            "rhost.lock:3: `filename",
        ),
        (
            "version = 1\n[http]\n\"https://h/x\" = { digest = \"DIGEST\", modified = \"soon\" }\n",
            "rhost.lock:3: `modified",
        ),
        ("version = 1\n[http]\n\"ftp://h/x\" = { digest = \"DIGEST\" }\n", "rhost.lock:3: "),
    ] {
        let error = parse(text).unwrap_err().to_string();
        assert!(error.contains(wanted) && !error.contains("hush"), "{text}\n{error}");
    }
}

#[test]
fn names_are_whole_short_or_without_tag() {
    let entries = parse(WHOLE).unwrap().entries;
    let names = |name: &str| matching(&entries, name).into_iter().map(|key| key.name).collect::<Vec<_>>();
    for name in ["debian:12", "debian", "docker.io/library/debian:12", "library/debian:12", "docker.io/library/debian"]
    {
        assert_eq!(names(name), ["docker.io/library/debian:12"], "{name}");
    }
    assert_eq!(names("r.example/lang"), ["r.example/lang:1"]);
    assert_eq!(names("https://h/x.git"), ["https://h/x.git#v1"]);
    assert_eq!(names("https://h/a.tar?x=1"), ["https://h/a.tar?x=1"]);
    assert!(names("debian:13").is_empty() && names("alpine").is_empty());
    assert_eq!(near(&entries, "debain:12"), ["docker.io/library/debian:12"]);
    assert!(near(&entries, "something-else-altogether").is_empty());
}

fn entry() -> impl Strategy<Value = (LockKey, Pin)> {
    let digest = "[0-9a-f]{64}".prop_map(|hex| format!("sha256:{hex}").parse::<rhost_llb::Digest>().unwrap());
    let object = "[0-9a-f]{40}";
    prop_oneof![
        ("[a-z]{1,8}/[a-z0-9]{1,8}:[A-Za-z0-9_.-]{0,8}x", digest.clone(), any::<bool>()).prop_filter_map(
            "a name",
            |(name, digest, image)| {
                let name = name.parse::<rhost_registry::Reference>().ok()?.tagged().to_string();
                let kind = if image { LockKind::Image } else { LockKind::Frontend };
                Some((LockKey::new(kind, name), Pin::Manifest(rhost_llb::BlobDigest(digest))))
            }
        ),
        ("https://h/[a-z]{1,6}", "([a-z]{1,5}(/[a-z]{1,5})?)?", object, proptest::option::of(object)).prop_filter_map(
            "a ref",
            |(url, name, commit, tag)| {
                let reference = format!("refs/heads/{}", if name.is_empty() { "main" } else { &name });
                Some((LockKey::new(LockKind::Git, git_name(&url, &name)), Pin::Git(GitPin { commit, reference, tag })))
            }
        ),
        ("http://h/[ -~]{0,12}", digest, proptest::option::of(0i64..4_000_000_000), proptest::option::of("[^/]{1,8}"))
            .prop_filter_map("a URL", |(url, digest, time, filename)| {
                let url = rhost_registry::UrlRequest::new(&url).ok()?.plain().to_owned();
                let filename = filename.map(|name| crate::file_name::of_download("", Some(&name), None));
                let modified = time.map(|time| jiff::Timestamp::from_second(time).unwrap());
                Some((LockKey::new(LockKind::Http, url), Pin::Http(HttpPin { digest, modified, filename })))
            }),
    ]
}

proptest! {
    #[test]
    fn what_is_written_is_read(entries in proptest::collection::btree_map(Just(()), entry(), 0..2), more in proptest::collection::vec(entry(), 0..12)) {
        let entries: Entries = entries.into_values().chain(more).collect();
        let text = print(&entries);
        let again = LockFile::parse(Path::new("rhost.lock"), &text);
        prop_assert_eq!(again.map(|found| found.entries), Ok(entries), "{}", text);
    }

    #[test]
    fn no_text_is_too_much(text in "\\PC{0,200}") {
        let _ = LockFile::parse(Path::new("rhost.lock"), &text);
        let _ = LockFile::parse(Path::new("rhost.lock"), &format!("version = 1\n[image]\n{text}"));
    }
}
