//! Rules from their text to their answers.
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::signature::KeyPair;

use super::key::VerifyingKey;
use super::*;
use crate::config::Settings;
use crate::entitlements::Entitlement;
use crate::error::{BuildError, Kind};

fn project(text: &str) -> Result<Arc<RuleFile>, BuildError> {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("rhost.toml");
    std::fs::write(&path, text).expect("written");
    RuleFile::of_project(&path).map(|found| found.expect("it is there"))
}

fn rules(text: &str) -> Rules {
    Rules { project: Some(project(text).expect(text)), user: None }
}

fn user(text: &str) -> Option<Arc<RuleFile>> {
    Settings::read(Path::new("/etc/x/rhost.toml"), text).expect(text).rules
}

/// A key pair, and its public key as cosign writes it.
fn key_pair() -> (ring::signature::EcdsaKeyPair, String) {
    let random = ring::rand::SystemRandom::new();
    let algorithm = &ring::signature::ECDSA_P256_SHA256_ASN1_SIGNING;
    let document = ring::signature::EcdsaKeyPair::generate_pkcs8(algorithm, &random).expect("a key");
    let pair = ring::signature::EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random).expect("a key");
    let mut der = vec![0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
    der.extend([0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00]);
    der.extend(pair.public_key().as_ref());
    (pair, format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(der)))
}

#[test]
fn names_are_aliases_then_what_they_say() {
    let rules = rules(
        "[frontend.alias]\nlang = \"registry.example/lang:1\"\nmine = \"./a/x.wasm\"\nusual = \"dockerfile\"\n[frontend.files]\n\"*.star\" = \"lang\"\n\"build/**\" = \"mine\"\n\"x.star\" = \"other.example/x\"\n",
    );
    let (source, line) = rules.named("lang");
    assert_eq!(source, FrontendSource::Image("registry.example/lang:1".into()));
    assert!(
        line.is_some_and(
            |line| line.line == 2 && line.to_string().ends_with("says `lang = \"registry.example/lang:1\"`")
        )
    );
    assert_eq!(rules.named("usual").0, FrontendSource::Stock);
    assert!(
        matches!(rules.named("mine").0, FrontendSource::File(path) if path.ends_with("a/x.wasm") && path.is_absolute())
    );
    assert_eq!(rules.named("lang:2"), (FrontendSource::Image("lang:2".into()), None));
    let root = rules.project.as_ref().and_then(|file| file.path.parent().map(Path::to_path_buf)).expect("a root");
    let of = |name: &str, path: &str| {
        rules.for_file(name, Some(&root.join(path))).map(|(source, line)| (source.to_string(), line.line))
    };
    assert_eq!(of("a.star", "a.star"), Some(("registry.example/lang:1".into(), 6)));
    assert_eq!(of("x.star", "x.star"), Some(("other.example/x".into(), 8)));
    assert!(of("y", "build/deep/y").is_some_and(|(source, line)| source.ends_with("a/x.wasm") && line == 7));
    assert_eq!((of("y", "y"), of("a.star.txt", "a.star.txt")), (None, None));
}

#[test]
fn both_files_must_agree_and_a_refusal_names_its_line() {
    let mut rules = rules(
        "[policy]\nfrontends = [\"dockerfile\", \"registry.example/lang\"]\nregistries = [\"registry.example\", \"debian\"]\nentitlements = []\n",
    );
    let image = |text: &str| FrontendSource::Image(text.into());
    assert!(rules.check_frontend(&FrontendSource::Stock).is_ok());
    assert!(rules.check_frontend(&image("registry.example/lang/x:1")).is_ok());
    let refusal = rules.check_frontend(&image("other.example/lang:1")).expect_err("refused");
    assert_eq!((refusal.key, refusal.line), ("policy.frontends", 2));
    let text = refusal.to_string();
    assert!(
        text.contains("other.example/lang:1")
            && text.contains("rhost.toml:2")
            && text.contains("allows dockerfile, registry.example/lang"),
        "{text}"
    );
    let file = FrontendSource::File(PathBuf::from("/tmp/x.wasm"));
    assert!(rules.check_frontend(&file).is_err());
    let name = |text: &str| text.parse::<rhost_registry::Reference>().expect(text).tagged();
    assert!(
        rules.check_image(&name("debian:12")).is_ok() && rules.check_image(&name("alpine")).is_err_and(|r| r.line == 3)
    );
    assert!(rules.check_entitlement(Entitlement::NetworkHost).is_err_and(|r| r.to_string().contains("allows none")));
    rules.user = user("[policy]\nregistries = [\"docker.io\"]\n");
    assert!(rules.check_image(&name("debian:12")).is_ok());
    let refusal = rules.check_image(&name("registry.example/x")).expect_err("the user's file forbids it");
    assert_eq!((refusal.file.as_path(), refusal.line), (Path::new("/etc/x/rhost.toml"), 2));
}

#[test]
fn a_repository_lowers_limits_and_the_user_sets_them() {
    let low = "[policy]\nlimits = { memory = \"32MiB\" }\n";
    let high = "[policy]\nlimits = { memory = \"512MiB\", compute = \"5s\" }\n";
    let limits = |project: Option<&str>, own: Option<&str>| {
        let project = project.map(|text| super::tests::project(text).expect(text));
        let found = Rules { project, user: own.and_then(user) }.guest_limits();
        (found.memory >> 20, found.compute.as_secs())
    };
    let (memory, compute) = limits(None, None);
    assert_eq!(limits(Some(high), None), (memory, compute));
    assert_eq!(limits(Some(low), None), (32, compute));
    assert_eq!(limits(None, Some(high)), (512, 5));
    assert_eq!((limits(Some(low), Some(high)), limits(Some(high), Some(low))), ((32, 5), (32, compute)));
}

#[test]
fn what_is_wrong_is_named_with_its_line() {
    for (text, line, words) in [
        ("[registry.\"a\"]\nhttp = true\n", 1, "registry"),
        ("\n[frontend]\nignore_syntax = true\n", 3, "ignore_syntax"),
        ("[frontend.files]\n\"a//b\" = \"x\"\n", 2, "between two `/`"),
        ("[policy]\nentitlements = [\"device\"]\n", 2, "device"),
        ("[policy]\nregistries = [\"https://x\"]\n", 2, "without scheme"),
        ("[policy]\nlimits = { memory = \"10%\" }\n", 2, "memory"),
        ("[policy]\nlimits = { compute = \"1d\" }\n", 2, "up to 10m"),
        ("[[policy.signed]]\nnames = [\"x\"]\nkeys = [\"none.pub\"]\n", 1, "none.pub"),
        ("[[policy.signed]]\nnames = []\nkeys = []\n", 1, "wanted names and keys"),
        ("[frontend.alias]\na = \"\"\n", 2, "empty"),
        ("x", 1, "key"),
    ] {
        let error = project(text).expect_err(text);
        let place = error.place.as_ref().expect(text);
        assert_eq!((error.kind, place.first_line), (Kind::Request, line), "{text}: {error}");
        assert!(error.message.contains(words), "{text}: {error}");
    }
    let own = project("[git]\ntimeout = 1\n").expect_err("the user's");
    assert!(own.hints.iter().any(|hint| hint.contains("user's configuration")), "{own:?}");
    assert!(Settings::read(Path::new("/x"), "[policy]\nfrontends = \"all\"\n").is_err());
}

#[test]
fn keys_are_read_and_verify_what_they_signed() {
    let (pair, pem) = key_pair();
    let key = VerifyingKey::parse("k.pub", &pem).expect("a key");
    let signature = pair.sign(&ring::rand::SystemRandom::new(), b"message").expect("signed");
    assert!(key.verifies(b"message", signature.as_ref()));
    assert!(!key.verifies(b"massage", signature.as_ref()) && !key.verifies(b"message", b""));
    let other = VerifyingKey::parse("o.pub", &key_pair().1).expect("a key");
    assert!(!other.verifies(b"message", signature.as_ref()) && other.id() != key.id());
    let private = "-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\nAAAA\n-----END";
    assert!(VerifyingKey::parse("k", private).is_err_and(|error| error.contains("is a private key")));
    for wrong in [
        "",
        "-----BEGIN PUBLIC KEY-----\n!\n-----END PUBLIC KEY-----",
        "-----BEGIN PUBLIC KEY-----\nMAA=\n-----END PUBLIC KEY-----",
    ] {
        assert!(VerifyingKey::parse("k", wrong).is_err(), "{wrong}");
    }
}
