//! Credential files of docker and podman, and helpers.
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use rhost_registry::{Credential, CredentialSource as _, DockerConfig, HelperEnvironment};

async fn find(files: &[&str], registry: &str, repository: &str) -> Result<Option<Credential>, String> {
    let dir = tempfile::tempdir().unwrap();
    let mut paths = vec![dir.path().join("absent.json")];
    for (index, text) in files.iter().enumerate() {
        let path = dir.path().join(format!("{index}.json"));
        fs::write(&path, text).unwrap();
        paths.push(path);
    }
    let bin = dir.path().join("bin");
    fs::create_dir(&bin).unwrap();
    let helper = bin.join("docker-credential-fake");
    let script = r#"#!/bin/sh
read -r server
case "$server" in
  token.io) echo '{"Username":"<token>","Secret":"refresh"}' ;;
  none.io) echo 'credentials not found in native keychain'; exit 1 ;;
  bad.io) echo 'the secret is hunter2' ; exit 3 ;;
  garbage.io) echo 'hunter2' ;;
  *) echo "{\"ServerURL\":\"$server\",\"Username\":\"$WHO\",\"Secret\":\"for $server\"}" ;;
esac
"#;
    fs::write(&helper, script).unwrap();
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
    let helpers = HelperEnvironment { search: vec![bin], variables: vec![("WHO".into(), "me".into())] };
    DockerConfig::new(paths, helpers).find(registry, repository).await.map_err(|e| e.to_string())
}

fn basic(username: &str, password: &str) -> Result<Option<Credential>, String> {
    Ok(Some(Credential::Basic { username: username.into(), password: password.into() }))
}

#[tokio::test]
async fn auths_of_docker() {
    // `u:p:w`: only the first colon parts.
    let file =
        r#"{"auths":{"https://index.docker.io/v1/":{"auth":"dTpwOnc="},"r.io":{"username":"a","password":"b"}}}"#;
    assert_eq!(find(&[file], "docker.io", "library/x").await, basic("u", "p:w"));
    assert_eq!(find(&[file], "r.io", "x").await, basic("a", "b"));
    assert_eq!(find(&[file], "other.io", "x").await, Ok(None));
}

#[tokio::test]
async fn auths_of_podman_are_more_specific() {
    let file = r#"{"auths":{"r.io":{"auth":"YTph"},"r.io/team":{"auth":"Yjpi"},"r.io/team/app":{"auth":"Yzpj"}}}"#;
    assert_eq!(find(&[file], "r.io", "team/app").await, basic("c", "c"));
    assert_eq!(find(&[file], "r.io", "team/other").await, basic("b", "b"));
    assert_eq!(find(&[file], "r.io", "teams").await, basic("a", "a"));
}

#[tokio::test]
async fn files_are_tried_in_order() {
    let (first, second) =
        (r#"{"auths":{"a.io":{"auth":"YTph"}}}"#, r#"{"auths":{"a.io":{"auth":"Yjpi"},"b.io":{"auth":"Yjpi"}}}"#);
    assert_eq!(find(&[first, second], "a.io", "x").await, basic("a", "a"));
    assert_eq!(find(&[first, second], "b.io", "x").await, basic("b", "b"));
}

#[tokio::test]
async fn tokens() {
    let file = r#"{"auths":{"i.io":{"auth":"YTph","identitytoken":"refresh"},"g.io":{"registrytoken":"bearer"}}}"#;
    assert_eq!(find(&[file], "i.io", "x").await, Ok(Some(Credential::IdentityToken("refresh".into()))));
    assert_eq!(find(&[file], "g.io", "x").await, Ok(Some(Credential::RegistryToken("bearer".into()))));
}

#[tokio::test]
async fn helpers_are_asked() {
    let store = r#"{"credsStore":"fake","auths":{"r.io":{}}}"#;
    assert_eq!(find(&[store], "r.io", "x").await, basic("me", "for r.io"));
    assert_eq!(find(&[store], "docker.io", "x").await, basic("me", "for https://index.docker.io/v1/"));
    assert_eq!(find(&[store], "token.io", "x").await, Ok(Some(Credential::IdentityToken("refresh".into()))));
    assert_eq!(find(&[store], "none.io", "x").await, Ok(None));
    let helpers = r#"{"credHelpers":{"h.io":"fake"},"auths":{"h.io":{"auth":"YTph"}}}"#;
    assert_eq!(find(&[helpers], "h.io", "x").await, basic("me", "for h.io"));
    assert_eq!(find(&[helpers], "r.io", "x").await, Ok(None));
}

#[tokio::test]
async fn failures_tell_no_secret() {
    for (file, registry, want) in [
        (r#"{"credsStore":"fake"}"#, "bad.io", "exit status: 3"),
        (r#"{"credsStore":"fake"}"#, "garbage.io", "not JSON"),
        (r#"{"credsStore":"absent"}"#, "r.io", "not found on the search path"),
        (r#"{"credsStore":"../bin/fake"}"#, "r.io", "letters"),
        (r#"{"auths":{"r.io":{"auth":"aHVudGVyMg=="}}}"#, "r.io", "not base64 of USER:PASSWORD"),
        (r#"{"auths":"hunter2"}"#, "r.io", "line 1"),
    ] {
        let message = find(&[file], registry, "x").await.expect_err(file);
        assert!(message.contains(want) && !message.contains("hunter2"), "{message}");
    }
    let shown = format!("{:?}", Credential::Basic { username: "u".into(), password: "hunter2".into() });
    assert!(!shown.contains("hunter2"));
}

#[test]
fn nothing_secret_is_shown() {
    let helpers = HelperEnvironment { search: Vec::new(), variables: vec![("TOKEN".into(), "hunter2".into())] };
    let proxies = rhost_registry::Proxies { http: Some("http://me:hunter2@proxy:3128".into()), ..Default::default() };
    let shown = format!("{:?} {:?}", DockerConfig::new(Vec::new(), helpers), proxies);
    assert!(shown.contains("TOKEN") && shown.contains("proxy:3128") && !shown.contains("hunter2"), "{shown}");
}
