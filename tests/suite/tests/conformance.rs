//! `rhost frontend conformance` proved: for each check a frontend that is right but for the one thing which that check looks for. Each fails its check, for the
//! reason that is meant, and no other; the one without a fault fails none. A check that nobody here fails is found, too.
use std::collections::{BTreeMap, BTreeSet};

use rhost_kit::TestHost;

use crate::syntax::guests::guest;

/// Where a fault is.
enum Hook {
    /// Before anything is asked.
    Start,
    /// `$wanted` is the length of the request for information, 0 without one; `$last` its last character.
    Request,
    /// The build file cannot be read; `$kind` is the error's case.
    ReadError,
    /// It was read: `$length` bytes, of which `$first` is the first (256: there is none).
    Text,
    /// `$count` results will be given.
    Results,
}

use Hook::{ReadError, Request, Results, Start, Text};

/// The check, where the fault is, the fault (`REFUSE` answers with an error of its own words), and why the check fails.
const FAULTS: &[(&str, Hook, &str, &str)] = &[
    (
        "samples build",
        Text,
        "(if (i32.eq (local.get $first) (i32.const 84)) (then
        (call $wait (call $resolve (i32.const 400)) (i32.const 80))
        (if (i32.load8_u (i32.const 80)) (then (return (i32.const 80))))
        (return REFUSE)))",
        "`two`: the frontend's own words",
    ),
    (
        "the same answer each time",
        Text,
        "(if (i32.eq (local.get $first) (i32.const 79)) (then
        (local.set $list (call $resolve (i32.const 400)))
        (call $wait (call $resolve (i32.const 496)) (i32.const 80))
        (if (i32.load8_u (i32.const 80)) (then (return (i32.const 80))))
        (if (call $ready (local.get $list)) (then (local.set $config (i32.const 7))))))",
        "`one` answers differently",
    ),
    (
        "one result for each platform",
        Results,
        "(local.set $count (i32.const 1))",
        "of 6 platforms it gives no result for linux/arm64",
    ),
    ("a build file that is empty", Text, "(if (i32.eqz (local.get $length)) (then (unreachable)))", "crashed"),
    (
        "a build file that is only blank",
        Text,
        "(if (i32.eq (local.get $first) (i32.const 32)) (then (loop (br 0))))",
        "limit: compute time",
    ),
    ("a build file that is binary", Text, "(if (i32.eqz (local.get $first)) (then (unreachable)))", "crashed"),
    (
        "a build file that is no UTF-8",
        Text,
        "(if (i32.and (i32.ne (local.get $first) (i32.const 0)) (call $has (i32.const 255))) (then (unreachable)))",
        "crashed",
    ),
    (
        "a build file that is written with a NUL byte",
        Text,
        "(if (i32.and (i32.ne (local.get $first) (i32.const 0)) (call $has (i32.const 0))) (then (drop (i32.load (i32.const -8)))))",
        "memory access out of bounds",
    ),
    (
        "a build file that is written with CRLF",
        Text,
        "(if (i32.and (i32.ne (local.get $first) (i32.const 0)) (call $has (i32.const 13))) (then (unreachable)))",
        "crashed",
    ),
    (
        "a build file that is written with a byte order mark",
        Text,
        "(if (i32.eq (local.get $first) (i32.const 239)) (then (unreachable)))",
        "crashed",
    ),
    (
        "a build file that is cut in its middle",
        Text,
        "(if (i32.eq (local.get $length) (i32.const 10)) (then (return (i32.const 4))))",
        "unknown handle index",
    ),
    (
        "a build file that is one line of 100 KiB",
        Text,
        "(if (i32.and (i32.gt_u (local.get $length) (i32.const 100000)) (i32.lt_u (local.get $length) (i32.const 1000000))) (then (unreachable)))",
        "crashed",
    ),
    (
        "a build file that is nested a thousand times",
        Text,
        "(if (i32.eq (local.get $first) (i32.const 40)) (then (return (call $build (local.get $self)))))",
        "limit: stack",
    ),
    (
        "a build file of 1 MiB",
        Text,
        "(if (i32.gt_u (local.get $length) (i32.const 1000000)) (then (drop (memory.grow (i32.const 1024))) (unreachable)))",
        "limit: 64 MiB",
    ),
    (
        "a build file that is not there",
        ReadError,
        "(if (i32.eqz (local.get $kind)) (then (return (call $ok (call $outcome_of (local.get $self))))))",
        "it answers although there is no build file",
    ),
    (
        "a build file that is not there",
        ReadError,
        "(if (i32.eqz (local.get $kind)) (then (return REFUSE)))",
        "its error does not name the file",
    ),
    (
        "errors name file and line",
        Text,
        "(if (i32.eq (local.get $first) (i32.const 37)) (then (return REFUSE)))",
        "its error has no place",
    ),
    (
        "options that it does not know",
        Start,
        "(call $raw_option (local.get $self) (i32.const 304) (i32.const 18) (i32.const 80))
        (if (i32.load8_u (i32.const 80)) (then (return REFUSE)))",
        "an option that it does not know makes it fail",
    ),
    (
        "a target that is not there",
        Start,
        "(call $target (local.get $self) (i32.const 80)) (if (i32.load8_u (i32.const 80)) (then (return REFUSE)))",
        "its error does not name the target",
    ),
    (
        "a context that is denied",
        ReadError,
        "(if (i32.eq (local.get $kind) (i32.const 1)) (then (return REFUSE)))",
        "its error does not say what the host said",
    ),
    (
        "a context that is denied",
        ReadError,
        "(if (i32.eq (local.get $kind) (i32.const 1)) (then (return (call $ok (call $outcome_of (local.get $self))))))",
        "it answers although it can read nothing",
    ),
    (
        "an image that is not found",
        Text,
        "(if (i32.eq (local.get $first) (i32.const 79)) (then
        (call $wait (call $resolve (i32.const 400)) (i32.const 80))
        (if (i32.load8_u (i32.const 80)) (then
          (if (i32.eqz (i32.load8_u (i32.const 84))) (then (return REFUSE)))
          (return (i32.const 80))))))",
        "its error does not say what the host said",
    ),
    (
        "a promise that fails",
        Text,
        "(if (i32.eq (local.get $first) (i32.const 79)) (then
        (call $wait (call $resolve (i32.const 400)) (i32.const 80))
        (if (i32.load8_u (i32.const 80)) (then
          (if (i32.load8_u (i32.const 84)) (then (unreachable)))
          (return (i32.const 80))))))",
        "crashed",
    ),
    (
        "a host without any feature",
        Start,
        "(if (i32.eqz (call $supports (local.get $self) (i32.const 328) (i32.const 14))) (then (unreachable)))",
        "crashed",
    ),
    (
        "the request frontend.lint",
        Request,
        "(if (i32.eq (local.get $wanted) (i32.const 13)) (then (local.set $wanted (i32.const 0))))",
        "it builds, as if nothing else",
    ),
    (
        "the request frontend.outline",
        Request,
        "(if (i32.eq (local.get $last) (i32.const 101)) (then (local.set $wanted (i32.const 0))))",
        "it builds, as if nothing else",
    ),
    (
        "the request frontend.targets",
        Request,
        "(if (i32.eq (local.get $last) (i32.const 115)) (then (local.set $wanted (i32.const 0))))",
        "it builds, as if nothing else",
    ),
    (
        "the request frontend.convertllb",
        Request,
        "(if (i32.eq (local.get $wanted) (i32.const 19)) (then (return REFUSE)))",
        "it neither answers nor says",
    ),
    (
        "the request frontend.conformance-nobody",
        Request,
        "(if (i32.eq (local.get $wanted) (i32.const 27)) (then (local.set $wanted (i32.const 0))))",
        "it builds, as if nothing else",
    ),
];

/// A frontend that takes any build file for one, and gives nothing for each platform.
const GOOD: &str = r#"
(import "rhost:frontend/llb@0.1.0" "scratch" (func $scratch (result i32)))
(import "rhost:frontend/context@0.1.0" "read-file" (func $read_file (param i32 i32 i32 i32 i32 i64 i64 i32)))
(import "rhost:frontend/images@0.1.0" "resolve" (func $resolve (param i32) (result i32)))
(import "rhost:frontend/images@0.1.0" "[method]pending-image.ready" (func $ready (param i32) (result i32)))
(import "rhost:frontend/images@0.1.0" "[method]pending-image.wait" (func $wait (param i32 i32)))
(import "rhost:frontend/invocation@0.1.0" "[method]invocation.build-file" (func $build_file (param i32 i32)))
(import "rhost:frontend/invocation@0.1.0" "[method]invocation.target" (func $target (param i32 i32)))
(import "rhost:frontend/invocation@0.1.0" "[method]invocation.platforms" (func $platforms (param i32 i32)))
(import "rhost:frontend/invocation@0.1.0" "[method]invocation.raw-option" (func $raw_option (param i32 i32 i32 i32)))
(import "rhost:frontend/invocation@0.1.0" "[method]invocation.supports" (func $supports (param i32 i32 i32) (result i32)))
(import "rhost:frontend/outcome@0.1.0" "[constructor]outcome" (func $outcome (result i32)))
(import "rhost:frontend/outcome@0.1.0" "[method]outcome.add" (func $add (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)))
(memory (export "memory") 2)
(data (i32.const 256) "dockerfile") (data (i32.const 272) "requestid") (data (i32.const 288) "one") (data (i32.const 296) "two")
(data (i32.const 304) "conformance-nobody") (data (i32.const 328) "exec.mount.ssh")
;; What `resolve` takes: a name, and neither platform nor mode, store, words for the progress.
(data (i32.const 400) "\20\01\00\00\03\00\00\00") (data (i32.const 496) "\28\01\00\00\03\00\00\00")
(data (i32.const 1024) "{\"a\":1}") (data (i32.const 1040) "requests for information are not supported here")
(data (i32.const 1104) "the frontend's own words")
(global $next (mut i32) (i32.const 8192))
(global $text (mut i32) (i32.const 0)) (global $size (mut i32) (i32.const 0))
(func (export "cabi_realloc") (param i32 i32 i32) (param $size i32) (result i32) (local $at i32)
  (local.set $at (i32.and (i32.add (global.get $next) (i32.const 15)) (i32.const -16)))
  (global.set $next (i32.add (local.get $at) (local.get $size)))
  (loop $more
    (if (i32.gt_u (global.get $next) (i32.mul (memory.size) (i32.const 65536))) (then
      (br_if $more (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))))
  (local.get $at))
;; An error of the kind, with the words.
(func $refuse (param $kind i32) (param $words i32) (param $length i32) (result i32)
  (i32.store (i32.const 16) (i32.const 1)) (i32.store (i32.const 20) (local.get $kind))
  (i32.store (i32.const 24) (local.get $words)) (i32.store (i32.const 28) (local.get $length)) (i32.const 16))
(func $ok (param $outcome i32) (result i32)
  (i32.store (i32.const 16) (i32.const 0)) (i32.store (i32.const 20) (local.get $outcome)) (i32.const 16))
;; Whether the build file has the byte.
(func $has (param $byte i32) (result i32) (local $at i32)
  (local.set $at (global.get $size))
  (loop $on (if (local.get $at) (then
    (local.set $at (i32.sub (local.get $at) (i32.const 1)))
    (if (i32.eq (i32.load8_u (i32.add (global.get $text) (local.get $at))) (local.get $byte)) (then (return (i32.const 1))))
    (br $on))))
  (i32.const 0))
;; An empty tree for each platform.
(func $outcome_of (param $self i32) (result i32)
  (call $platforms (local.get $self) (i32.const 48))
  (call $results (i32.load (i32.const 52)) (i32.const 0)))
;; The same for the first of them; so many bytes are the configuration.
(func $results (param $count i32) (param $config i32) (result i32) (local $made i32) (local $at i32)
  (local.set $made (call $outcome))
  (local.set $at (i32.load (i32.const 48)))
  (loop $next
    (call $add (local.get $made) (i32.load (local.get $at)) (i32.load offset=4 (local.get $at)) (i32.load offset=8 (local.get $at))
      (i32.load offset=12 (local.get $at)) (i32.load offset=16 (local.get $at)) (i32.load offset=20 (local.get $at))
      (i32.load offset=24 (local.get $at)) (i32.load offset=28 (local.get $at)) (i32.load offset=32 (local.get $at))
      (i32.load offset=36 (local.get $at)) (call $scratch) (i32.const 1024) (local.get $config))
    (local.set $at (i32.add (local.get $at) (i32.const 40)))
    (br_if $next (local.tee $count (i32.sub (local.get $count) (i32.const 1)))))
  (local.get $made))
(func $build (export "build") (param $self i32) (result i32)
  (local $wanted i32) (local $last i32) (local $kind i32) (local $length i32) (local $first i32)
  (local $list i32) (local $count i32) (local $config i32)
  START
  (call $raw_option (local.get $self) (i32.const 272) (i32.const 9) (i32.const 80))
  (if (i32.load8_u (i32.const 80)) (then
    (local.set $wanted (i32.load (i32.const 88)))
    (local.set $last (i32.load8_u (i32.sub (i32.add (i32.load (i32.const 84)) (local.get $wanted)) (i32.const 1))))))
  REQUEST
  (if (local.get $wanted) (then (return (call $refuse (i32.const 3) (i32.const 1040) (i32.const 47)))))
  (call $build_file (local.get $self) (i32.const 80))
  (call $read_file (i32.const 256) (i32.const 10) (i32.load (i32.const 80)) (i32.load (i32.const 84))
    (i32.const 0) (i64.const 0) (i64.const 0) (i32.const 64))
  (if (i32.load8_u (i32.const 64)) (then
    (local.set $kind (i32.load8_u (i32.const 68)))
    READERROR
    (return (i32.const 64))))
  (global.set $text (i32.load (i32.const 68)))
  (global.set $size (local.tee $length (i32.load (i32.const 72))))
  (local.set $first (i32.const 256))
  (if (local.get $length) (then (local.set $first (i32.load8_u (global.get $text)))))
  TEXT
  (call $platforms (local.get $self) (i32.const 48))
  (local.set $count (i32.load (i32.const 52)))
  RESULTS
  (call $ok (call $results (local.get $count) (local.get $config))))
"#;

fn frontend(fault: Option<(&Hook, &str)>) -> Vec<u8> {
    let mut body = GOOD.to_owned();
    for (hook, mark) in
        [(Start, "START"), (Request, "REQUEST"), (ReadError, "READERROR"), (Text, "TEXT"), (Results, "RESULTS")]
    {
        let same = |other: &Hook| std::mem::discriminant(other) == std::mem::discriminant(&hook);
        let code = fault.filter(|(other, _)| same(other)).map_or("", |(_, code)| code);
        body = body.replace(&format!("\n  {mark}\n"), &format!("\n  {code}\n"));
        body = body.replace(&format!("\n    {mark}\n"), &format!("\n    {code}\n"));
    }
    guest(&body.replace("REFUSE", "(call $refuse (i32.const 5) (i32.const 1104) (i32.const 24))"))
}

/// What each check found: `pass`, `fail` or `n/a`, and why.
fn check(host: &TestHost, component: &[u8]) -> BTreeMap<String, (String, String)> {
    let file = host.write("checked.wasm", component).expect("written").display().to_string();
    let told = host.run(["frontend", "conformance", "--json", "--frontend", &file]).expect("ran");
    let told: serde_json::Value = serde_json::from_str(&told.stdout).unwrap_or_else(|_| panic!("{told:?}"));
    let text = |check: &serde_json::Value, key: &str| check[key].as_str().expect("text").to_owned();
    let checks = told["checks"].as_array().expect("checks").iter();
    checks.map(|check| (text(check, "check"), (text(check, "result"), text(check, "reason")))).collect()
}

#[test]
fn each_check_has_a_frontend_that_fails_it_and_nothing_else() {
    let host = TestHost::new().expect("a host");
    let images = "[images.one]\nconfig = {}\n[images.two]\nconfig = {}\n";
    // The faults know the samples: 14 bytes from `O`, and what begins with `T`.
    for (name, text) in [("one", "One\nTwo\nThree\n"), ("two", "Two\n")] {
        host.write(&format!("tests/{name}/case.toml"), images).expect("written");
        host.write(&format!("tests/{name}/Dockerfile"), text).expect("written");
    }
    let good = check(&host, &frontend(None));
    let failing: Vec<_> = good.iter().filter(|(_, (result, _))| result == "fail").collect();
    assert!(failing.is_empty(), "without a fault: {failing:?}");
    let proved: BTreeSet<&str> = FAULTS.iter().map(|(name, ..)| *name).collect();
    let checks: BTreeSet<&str> = good.keys().map(String::as_str).collect();
    assert_eq!(proved, checks, "each check, and what is proved here");
    let mut wrong = Vec::new();
    for (name, hook, fault, why) in FAULTS {
        let found = check(&host, &frontend(Some((hook, fault))));
        let failing: Vec<_> = found.iter().filter(|(_, (result, _))| result == "fail").collect();
        match failing[..] {
            [(check, (_, reason))] if check == name && reason.contains(why) => {}
            _ => wrong.push(format!("{name}, because of `{why}`: {failing:#?}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
