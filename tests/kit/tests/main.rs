//! The kit's own tests: what all other tests stand on must stand itself.
use std::process::Command;

use rhost_kit::{LOGIN, Registry, TestHost, busybox, busybox_everywhere, debian, have, is_root, skip};

fn skopeo(args: &[&str]) -> String {
    let out = Command::new("skopeo").args(args).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

#[test]
fn busybox_has_two_platforms() {
    if !have(&["docker-registry", "skopeo", "apt-get", "busybox"]) {
        return;
    }
    let registry = Registry::start().unwrap();
    let name = registry.push(&busybox().unwrap(), "library/busybox:latest").unwrap();
    for architecture in ["amd64", "arm64"] {
        let arch = format!("--override-arch={architecture}");
        let told = skopeo(&[&arch, "inspect", "--tls-verify=false", &format!("docker://{name}")]);
        assert!(told.contains(&format!("\"Architecture\": \"{architecture}\"")), "{told}");
    }
}

#[test]
fn busybox_is_everywhere() {
    if !have(&["docker-registry", "skopeo", "apt-get", "busybox"]) {
        return;
    }
    let registry = Registry::start().unwrap();
    let name = registry.push(&busybox_everywhere().unwrap(), "library/busybox:latest").unwrap();
    let index = skopeo(&["inspect", "--raw", "--tls-verify=false", &format!("docker://{name}")]);
    for part in ["amd64", "arm64", "386", "riscv64", "ppc64le", "s390x", "\"variant\":\"v7\""] {
        assert!(index.contains(part), "{part}: {index}");
    }
}

#[test]
fn login_is_wanted() {
    if !have(&["docker-registry", "skopeo", "apt-get", "busybox"]) {
        return;
    }
    let registry = Registry::start_with_login().unwrap();
    let name = registry.push(&busybox().unwrap(), "private/busybox:1").unwrap();
    let url = format!("docker://{name}");
    let without = Command::new("skopeo").args(["inspect", "--no-creds", "--tls-verify=false", &url]).output().unwrap();
    assert!(!without.status.success());
    skopeo(&["inspect", &format!("--creds={}:{}", LOGIN.0, LOGIN.1), "--tls-verify=false", &url]);
}

#[test]
fn debian_is_made() {
    if !have(&["mmdebstrap", "dpkg"]) {
        return;
    }
    if !is_root() {
        return skip("mmdebstrap without root needs subordinate ids");
    }
    let image = debian().unwrap();
    assert!(image.layout.join("index.json").is_file());
    assert_eq!(debian().unwrap(), image);
}

#[test]
fn a_dropped_registry_is_gone() {
    if !have(&["docker-registry"]) {
        return;
    }
    let registry = Registry::start().unwrap();
    let address = registry.address().to_owned();
    std::net::TcpStream::connect(&address).unwrap();
    drop(registry);
    assert!(std::net::TcpStream::connect(&address).is_err());
}

#[test]
fn hosts_are_private() {
    let host = TestHost::with_binary("/usr/bin/env".into()).unwrap();
    let told = host.run(["-u", "PATH"]).unwrap().success();
    assert!(told.contains(&format!("RHOST_ROOT={}", host.root().display())), "{told}");
    assert!(!told.contains("CARGO"), "{told}");
    assert_eq!(host.run(["false"]).unwrap().code, 1);
}
