//! Names: docker's normalisation, and what is no name.
use rhost_registry::Reference;

fn check(text: &str, full: &str, familiar: &str) {
    let reference: Reference = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
    assert_eq!((reference.to_string().as_str(), reference.familiar().as_str()), (full, familiar), "{text}");
    assert_eq!(full.parse::<Reference>().unwrap(), reference);
    assert_eq!(familiar.parse::<Reference>().unwrap(), reference);
}

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

#[test]
fn names_are_normalised() {
    check("alpine", "docker.io/library/alpine", "alpine");
    check("alpine:3.20", "docker.io/library/alpine:3.20", "alpine:3.20");
    check("team/app", "docker.io/team/app", "team/app");
    check("index.docker.io/team/app", "docker.io/team/app", "team/app");
    check("docker.io/alpine", "docker.io/library/alpine", "alpine");
    check("localhost/app", "localhost/app", "localhost/app");
    check("localhost:5000/a/b:c", "localhost:5000/a/b:c", "localhost:5000/a/b:c");
    check("127.0.0.1:5000/dsl:1", "127.0.0.1:5000/dsl:1", "127.0.0.1:5000/dsl:1");
    check("[::1]:5000/a", "[::1]:5000/a", "[::1]:5000/a");
    check(
        "r.example.com/a__b/c-d.e--f:T_1.x-y",
        "r.example.com/a__b/c-d.e--f:T_1.x-y",
        "r.example.com/a__b/c-d.e--f:T_1.x-y",
    );
    check("Host/app", "Host/app", "Host/app");
    let pinned = format!("alpine:3@{DIGEST}");
    check(&pinned, &format!("docker.io/library/alpine:3@{DIGEST}"), &pinned);
}

#[test]
fn latest_only_where_nothing_is_said() {
    let tagged = |text: &str| text.parse::<Reference>().unwrap().tagged().familiar();
    assert_eq!(tagged("a"), "a:latest");
    assert_eq!(tagged("a:1"), "a:1");
    assert_eq!(tagged(&format!("a@{DIGEST}")), format!("a@{DIGEST}"));
}

#[test]
fn nonsense_is_refused() {
    let long = "a".repeat(256);
    let long_tag = format!("a:{}", "t".repeat(129));
    for (text, want) in [
        ("", "empty"),
        ("https://r.io/a", "scheme"),
        ("Alpine", "lower case; try `alpine`"),
        ("r.io/Team/app", "lower case"),
        ("a:", "not a tag"),
        ("a:-x", "not a tag"),
        (&long_tag, "not a tag"),
        ("a@sha256:12", "not a digest"),
        ("a@sha512:12", "not a digest"),
        ("a//b", "not a path component"),
        ("a/b/", "not a path component"),
        ("a___b", "not a path component"),
        ("a..b", "not a path component"),
        ("-a", "not a path component"),
        ("r.io/", "missing"),
        ("r.io:99999/a", "not a registry"),
        ("r.io:+1/a", "not a registry"),
        ("-r.io/a", "not a registry"),
        ("[::1/a", "not a registry"),
        ("a b", "not a path component"),
        ("../etc.x/passwd", "not a registry"),
        ("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "ambiguous"),
        (&long, "longer than 255"),
    ] {
        let message = text.parse::<Reference>().expect_err(text).to_string();
        assert!(message.contains(want), "{text}: {message}");
    }
}

#[test]
fn refused_urls_show_no_password() {
    let message = "https://me:hunter2@r.io/a".parse::<Reference>().unwrap_err().to_string();
    assert!(!message.contains("hunter2"), "{message}");
}
