//! What the fuzzers call, one function for each parser of bytes that a stranger may have written. They live outside `fuzz/` so that
//! the ordinary tests run the seeds through the same functions: a target that no longer compiles or finds its seeds is noticed.
//!
//! A function returns; what it must not do is panic, hang, or touch anything outside the directory it was given.
use rhost_dockerfile::shell::Lexer;
use rhost_llb::{Definition, Graph, Limits};
use rhost_registry::{Reference, RegistryConfig};
use rhost_rootfs::{Apply, Lowers, OverlayXattrs, OwnerPolicy, Root};

/// A target and its entry.
pub type Target = (&'static str, fn(&[u8]));

/// All targets; `fuzz/fuzz_targets` has a file and `fuzz/seeds` a folder for each.
pub const TARGETS: &[Target] = &[
    ("llb", llb),
    ("dockerfile", dockerfile),
    ("shell", shell),
    ("dockerignore", dockerignore),
    ("reference", reference),
    ("manifest", manifest),
    ("challenge", challenge),
    ("layer", layer),
    ("config", config),
    ("lock", lock),
    ("about", about),
];

/// The LLB decoder and validator, and all that reads what they let through. What was decoded is encoded to the same bytes' meaning.
///
/// # Panics
/// When a graph that was accepted does not survive being written and read again.
pub fn llb(data: &[u8]) {
    let Ok(definition) = Definition::decode(data, &Limits::HOSTILE) else { return };
    let _ = definition.to_json();
    if let Ok(graph) = Graph::load(&definition, &Limits::HOSTILE) {
        let _ = graph.to_dot();
        let again =
            Definition::decode(&definition.encode(), &Limits::HOSTILE).expect("what was accepted is read again");
        assert!(Graph::load(&again, &Limits::HOSTILE).is_ok(), "what was accepted is accepted again");
    }
}

/// The Dockerfile parser; each trigger that it finds is parsed too.
pub fn dockerfile(data: &[u8]) {
    let Ok(file) = rhost_dockerfile::parse(data) else { return };
    for instruction in file.stages.iter().flat_map(|stage| &stage.instructions) {
        if let rhost_dockerfile::Kind::Onbuild(text) = &instruction.kind {
            let _ = rhost_dockerfile::parse_trigger(text);
        }
    }
}

/// Expansion of variables, in every mode.
pub fn shell(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (env, word) = text.split_once('\n').unwrap_or(("A=1 B= C=a/b.c", &text));
    let env: Vec<String> = env.split(' ').map(str::to_owned).collect();
    for escape in ['\\', '`'] {
        for bits in 0..16u8 {
            let on = |bit: u8| bits & 1 << bit != 0;
            let lexer =
                Lexer { escape, raw_quotes: on(0), raw_escapes: on(1), ignore_quotes: on(2), keep_unset: on(3) };
            let _ = lexer.expand(word, &env);
        }
    }
}

/// Ignore files, and the two matchers of their patterns: the host's on every line of the text as a path.
pub fn dockerignore(data: &[u8]) {
    let Ok(patterns) = rhost_dockerfile::dockerignore::read(data) else { return };
    if let Ok(matcher) = rhost_rootfs::PatternMatcher::new(&patterns) {
        for path in String::from_utf8_lossy(data).lines().take(50) {
            let _ = matcher.matches(path.trim_start_matches(['!', '/']));
        }
    }
}

/// Image references; one that was read is written and read again to itself.
///
/// # Panics
/// When it is not.
pub fn reference(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(found) = text.parse::<Reference>() {
        let again: Reference = found.to_string().parse().expect("a reference that was written is read");
        assert_eq!(again, found);
        let _ = found.tagged().familiar();
    }
}

/// Manifests and indexes as a registry sends them.
pub fn manifest(data: &[u8]) {
    let Ok(image) = "registry.example/team/app:1".parse::<Reference>() else { return };
    let bytes = bytes::Bytes::copy_from_slice(data);
    if let Ok(raw) = rhost_registry::RawManifest::new(&image, bytes, None, None) {
        let _ = raw.parse(&image);
    }
}

/// `WWW-Authenticate` of a registry.
pub fn challenge(data: &[u8]) {
    let _ = rhost_registry::parse_challenges(&String::from_utf8_lossy(data));
}

/// Layers of a base image, laid down in a directory of their own: nothing may appear outside it.
///
/// # Panics
/// When something does, or there is no temporary directory.
pub fn layer(data: &[u8]) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let inside = dir.path().join("root");
    std::fs::create_dir(&inside).expect("a directory");
    if let Ok(root) = Root::open(&inside) {
        let options = Apply { xattrs: OverlayXattrs::User, owners: OwnerPolicy::BestEffort, lowers: Lowers::Here(&[]) };
        let _ = rhost_rootfs::apply_layer(&root, data, options);
    }
    let left = std::fs::read_dir(dir.path()).expect("readable").count();
    assert_eq!(left, 1, "the layer wrote outside its directory");
}

/// Configuration files.
pub fn config(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let _ = rhost_engine::Settings::parse(&text);
    let _ = RegistryConfig::from_toml(&text);
}

/// Lock files; one that was read is written and read again to itself.
///
/// # Panics
/// When it is not.
pub fn lock(data: &[u8]) {
    let path = std::path::Path::new("rhost.lock");
    if let Ok(found) = rhost_engine::LockFile::parse(path, &String::from_utf8_lossy(data)) {
        let text = rhost_engine::print_lock(&found.entries);
        let again = rhost_engine::LockFile::parse(path, &text).expect("a lock file that was written is read");
        assert_eq!(again.entries, found.entries);
    }
}

/// What a component says of itself: one that is read has nothing that a terminal would obey.
///
/// # Panics
/// When it has.
pub fn about(data: &[u8]) {
    if let Ok(Some(found)) = rhost_engine::About::read(data) {
        for text in rhost_engine::annotations_of(&found).values() {
            assert!(!text.is_empty() && !text.chars().any(char::is_control), "{text:?}");
        }
    }
}
