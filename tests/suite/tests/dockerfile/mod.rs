//! The Dockerfile frontend against BuildKit's: for every case of `dockerfiles/cases.txt` the same vertices, digest by digest, the
//! same display names and places, and the same image config, byte for byte. The answers of BuildKit lie in `dockerfiles/golden`;
//! `dockerfiles/README.md` says how they are made.

mod adapter;
mod live;
mod recorded;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use recorded::RecordedHost;
use rhost_dockerfile::convert::graph::Op;
use rhost_dockerfile::convert::{ConvertError, Target};
use rhost_llb::{Definition, OpMetadata};
use serde_json::Value;

struct Case {
    name: String,
    file: String,
    options: Vec<(String, String)>,
    context: String,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("dockerfiles")
}

fn cases() -> Vec<Case> {
    let text = std::fs::read_to_string(folder().join("cases.txt")).unwrap();
    text.lines()
        .filter(|l| !l.starts_with('#') && !l.trim().is_empty())
        .map(|line| {
            let mut words = line.split_whitespace();
            let (name, file) = (words.next().unwrap().to_owned(), words.next().unwrap());
            let mut case =
                Case { name, file: format!("{file}.Dockerfile"), options: Vec::new(), context: "context".into() };
            for word in words {
                let (key, value) = word.split_once('=').unwrap();
                match key {
                    "@context" => value.clone_into(&mut case.context),
                    _ => case.options.push((key.to_owned(), value.to_owned())),
                }
            }
            case
        })
        .collect()
}

fn host(case: &Case, session: &str) -> RecordedHost {
    let folder = folder();
    let mut host = RecordedHost::new(&folder);
    session.clone_into(&mut host.session);
    host.options.clone_from(&case.options);
    host.options.push(("filename".into(), case.file.clone()));
    host.locals.insert("dockerfile".into(), folder.clone());
    host.locals.insert("context".into(), folder.join(&case.context));
    for name in case.options.iter().filter_map(|(_, v)| v.strip_prefix("local:")) {
        host.locals.insert(name.to_owned(), folder.join("context-ignore"));
    }
    host
}

/// What differs, as text; empty if nothing does.
fn check(case: &Case) -> Vec<String> {
    let golden = std::fs::read(folder().join("golden").join(format!("{}.json", case.name))).unwrap();
    let golden: Value = serde_json::from_slice(&golden).unwrap();
    let host = host(case, golden["session"].as_str().unwrap());
    let mut faults = Vec::new();
    let wanted_error = golden["error"].as_str().unwrap_or_default();
    let built = match rhost_dockerfile::convert::build(&host) {
        Ok(built) if wanted_error.is_empty() => built,
        Ok(_) => return vec![format!("should fail: {wanted_error}")],
        Err(_) if !wanted_error.is_empty() => return faults,
        Err(error) => return vec![format!("fails: {error}")],
    };
    for target in &built.targets {
        let key = if built.multi_platform { target.id.as_str() } else { "" };
        let suffix = if built.multi_platform { format!("/{key}") } else { String::new() };
        let metadata = |name: &str| golden["metadata"].get(format!("{name}{suffix}")).and_then(Value::as_str);
        let mut same = |what: &str, ours: Option<&str>, wanted: Option<&str>| {
            if ours != wanted {
                faults.push(format!("{key} {what}\n   ours {ours:?}\n wanted {wanted:?}"));
            }
        };
        // On purpose unlike BuildKit's: what a URL says before `@` may be a token, and does not go into an image.
        let masked = |config: &str| config.replace("https://user@", "https://xxxxx:xxxxx@");
        same("config", Some(&target.config), metadata("containerimage.config").map(masked).as_deref());
        same("base config", target.base_config.as_deref(), metadata("containerimage.base.config"));
        same("epoch", target.epoch.map(|e| e.to_string()).as_deref(), metadata("source.date.epoch"));
        let definition = adapter::marshal(target, &built.source, &target.platform).unwrap();
        compare(target, &definition, &golden["defs"][key], &mut faults);
    }
    faults
}

fn compare(target: &Target, ours: &Definition, golden: &Value, faults: &mut Vec<String>) {
    let Some(wanted) = golden["ops"].as_object() else {
        if !ours.is_empty() {
            faults.push(format!("{}: an empty result was wanted", target.id));
        }
        return;
    };
    let json = ours.to_json().unwrap();
    let have: BTreeSet<&str> = json["def"].as_object().unwrap().keys().map(String::as_str).collect();
    for digest in have.iter().filter(|d| !wanted.contains_key(**d)) {
        let name = &json["metadata"][digest]["description"]["llb.customname"];
        faults.push(format!("only ours   {digest} {name} {}", json["def"][digest]));
    }
    for (digest, op) in wanted.iter().filter(|(d, _)| !have.contains(d.as_str())) {
        let name = &golden["metadata"][digest]["description"]["llb.customname"];
        faults.push(format!("only BuildKit {digest} {name} {op}"));
    }
    for (digest, metadata) in &ours.metadata {
        let digest = digest.to_string();
        let theirs = &golden["metadata"][&digest];
        if wanted.contains_key(&digest) {
            said(&digest, metadata, theirs, faults);
        }
    }
    let locations: BTreeMap<String, Vec<Vec<(i32, i32)>>> = ours
        .source
        .iter()
        .flat_map(|s| &s.locations)
        .map(|(digest, all)| {
            let line = |p: &Option<rhost_llb::Position>| p.as_ref().map_or(0, |p| p.line);
            let all = all.locations.iter().map(|l| l.ranges.iter().map(|r| (line(&r.start), line(&r.end))).collect());
            (digest.to_string(), all.collect())
        })
        .collect();
    for (digest, ours) in locations.iter().filter(|(d, _)| wanted.contains_key(*d)) {
        let theirs: Vec<Vec<(i32, i32)>> =
            serde_json::from_value(golden["locations"][digest].clone()).unwrap_or_default();
        if *ours != theirs {
            faults.push(format!("places of {digest}\n   ours {ours:?}\n wanted {theirs:?}"));
        }
    }
}

/// Compares what is said about a vertex. Ids of progress groups are random.
fn said(digest: &str, ours: &OpMetadata, theirs: &Value, faults: &mut Vec<String>) {
    let description: BTreeMap<String, String> =
        serde_json::from_value(theirs["description"].clone()).unwrap_or_default();
    if ours.description != description {
        faults.push(format!("description of {digest}\n   ours {:?}\n wanted {description:?}", ours.description));
    }
    let group = theirs
        .get("progress_group")
        .map(|g| (g["name"].as_str().unwrap_or_default().to_owned(), g["weak"].as_bool().unwrap_or_default()));
    let our_group = ours.progress_group.as_ref().map(|g| (g.name.clone(), g.weak));
    if our_group != group {
        faults.push(format!("progress group of {digest}\n   ours {our_group:?}\n wanted {group:?}"));
    }
    if ours.ignore_cache != theirs["ignore_cache"].as_bool().unwrap_or_default() {
        faults.push(format!("ignore_cache of {digest} is {}", ours.ignore_cache));
    }
    let limited = theirs.get("linux_resources").is_some();
    if ours.linux_resources.is_some() != limited {
        faults.push(format!("limits of {digest}: BuildKit has {}", theirs["linux_resources"]));
    }
}

#[test]
fn equals_buildkit() {
    let mut report = String::new();
    let all = cases();
    for case in &all {
        let faults = check(case);
        if !faults.is_empty() {
            report.push_str(&format!("== {}\n{}\n", case.name, faults.join("\n")));
        }
    }
    let count = report.matches("== ").count();
    assert!(report.is_empty(), "{report}\n{count} of {} cases differ", all.len());
}

#[test]
fn every_golden_answer_has_a_case() {
    let cases: BTreeSet<String> = cases().into_iter().map(|c| format!("{}.json", c.name)).collect();
    let files =
        std::fs::read_dir(folder().join("golden")).unwrap().map(|f| f.unwrap().file_name().into_string().unwrap());
    assert_eq!(files.collect::<BTreeSet<_>>(), cases);
}

/// Converts a text that is not in the folder.
fn refused(text: &str) -> ConvertError {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let dir = std::env::temp_dir().join(format!("rhost-dockerfile-{}-{number}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("Dockerfile"), text).unwrap();
    let case = Case { name: String::new(), file: "Dockerfile".into(), options: Vec::new(), context: "context".into() };
    let mut host = host(&case, "s");
    host.locals.insert("dockerfile".into(), dir.clone());
    let result = rhost_dockerfile::convert::build(&host);
    std::fs::remove_dir_all(dir).unwrap();
    result.err().unwrap_or_else(|| panic!("should be refused: {text}"))
}

#[test]
fn refusals_say_where() {
    for (text, wanted) in [
        ("FROM busybox\nRUN --device=x true", "Dockerfile:2: RUN --device=x is not supported yet"),
        (
            "FROM busybox\n\nADD git://x/y?what=1 /z",
            "Dockerfile:3: the query of the repository has an unknown key `what`",
        ),
        ("FROM busybox\nCOPY git@h:x /z", "Dockerfile:2: source can't be a git ref for COPY"),
        ("FROM busybox\nCOPY https://h/x /z", "Dockerfile:2: source can't be a URL for COPY"),
        ("FROM busybox\nCOPY --chmod=9 a /z", "Dockerfile:2: invalid chmod parameter: '9'. it should be octal"),
        ("FROM nowhere", "Dockerfile:1: cannot resolve the image `nowhere:latest`"),
        ("FROM $X", "Dockerfile:1: base name ($X) should not be blank"),
        ("FROM --platform=$X busybox", "Dockerfile:1: empty platform value from expression $X"),
        (
            "ARG MY_OS=linux\nFROM --platform=$MYOS/amd64 busybox",
            "Dockerfile:2: failed to parse platform $MYOS/amd64: \"\" is an invalid component of \"/amd64\": platform specifier \
             component must match \"^[A-Za-z0-9_.-]+$\": invalid argument (did you mean MY_OS?)",
        ),
        (
            "FROM busybox\nRUNN true",
            "Dockerfile:2: dockerfile parse error on line 2: unknown instruction: RUNN (did you mean RUN?)",
        ),
        ("FROM busybox\nSTOPSIGNAL NOPE", "Dockerfile:2: STOPSIGNAL: there is no signal `NOPE`"),
        ("FROM busybox\nEXPOSE x", "Dockerfile:2: EXPOSE x: the port is no number"),
        (
            "FROM busybox AS a\nCOPY --from=b /x /y\nFROM a AS b",
            "Dockerfile:2: cannot copy from stage \"b\", it needs to be defined before current stage \"a\"",
        ),
        ("FROM busybox AS a\nCOPY --from=a /x /y", "Dockerfile:1: circular dependency detected on stage: a"),
        ("FROM busybox\nCOPY --from=$X /x /y", "Dockerfile:2: variable expansion is not supported for --from"),
        ("FROM busybox\nCOPY --from=7 /x /y", "Dockerfile:2: invalid stage index 7"),
        ("FROM Busybox", "Dockerfile:1: `Busybox` is no image reference"),
        ("ARG X=1", "dockerfile contains no stages to build"),
    ] {
        let error = refused(text).to_string();
        assert!(error.contains(wanted), "{text}\n  wanted {wanted}\n  got    {error}");
    }
}

#[test]
fn an_unknown_target_is_refused_with_the_known_ones() {
    let refused = |target: &str| {
        let case = Case {
            name: String::new(),
            file: "stages.Dockerfile".into(),
            options: vec![("target".into(), target.into())],
            context: "context".into(),
        };
        rhost_dockerfile::convert::build(&host(&case, "s")).unwrap_err().to_string()
    };
    let error = refused("nope");
    assert!(
        error.contains("target stage \"nope\" could not be found: there are build, unused, files, final"),
        "{error}"
    );
    let error = refused("finale");
    assert!(error.contains("target stage \"finale\" could not be found (did you mean final?)"), "{error}");
}

/// A host with a build file that is not in the folder.
fn remote(options: &[(&str, &str)], key: &str, file: &str) -> RecordedHost {
    let mut host = RecordedHost::new(&folder());
    host.options = options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    host.remote.insert(key.to_owned(), file.as_bytes().to_vec());
    host
}

#[test]
fn remote_contexts_hold_the_build_file() {
    let file = "FROM scratch\nCOPY x /y\n";
    for (options, key) in [
        (&[("context", "https://h/Dockerfile")][..], "https://h/Dockerfile"),
        (&[("context", "https://h/r.git#v1")][..], "git://h/r.git#v1"),
        (&[("context", "github.com/a/b")][..], "git://github.com/a/b"),
    ] {
        let built = rhost_dockerfile::convert::build(&remote(options, key, file)).unwrap();
        let target = &built.targets[0];
        let nodes = target.graph.reachable(target.root.unwrap());
        let Op::Source(source) = &target.graph.node(nodes[0]).op else { panic!("{nodes:?}") };
        assert_eq!(source.identifier, key);
    }
}

#[test]
fn lent_results_are_contexts() {
    let mut host = remote(&[("context:base", "input:other")], "context", "FROM base\nCOPY x /y\n");
    host.inputs = vec!["context".into(), "other".into()];
    let config = r#"{"architecture":"arm64","os":"linux","config":{"Env":["A=b"]}}"#;
    host.options.push(("input-metadata:other".into(), format!(r#"{{"containerimage.config":"{}"}}"#, base64(config))));
    let built = rhost_dockerfile::convert::build(&host).unwrap();
    assert!(built.targets[0].config.contains(r#""architecture":"arm64""#) && built.targets[0].config.contains("A=b"));
    let target = &built.targets[0];
    let names: Vec<_> =
        target.graph.reachable(target.root.unwrap()).into_iter().map(|n| &target.graph.node(n).op).collect();
    assert!(
        matches!(names[..], [Op::Input(a), Op::Input(b), Op::File(_)] if a == "context" && b == "other"),
        "{names:?}"
    );
    host.inputs.pop();
    let error = rhost_dockerfile::convert::build(&host).unwrap_err().to_string();
    assert!(error.contains("the client lent no result `other`"), "{error}");
}

fn base64(text: &str) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let chunk = |c: &[u8]| {
        let bits = c.iter().fold(0u32, |n, b| n << 8 | u32::from(*b)) << (8 * (3 - c.len()));
        (0..4)
            .map(|i| if i > c.len() { '=' } else { char::from(LETTERS[(bits >> (18 - 6 * i) & 63) as usize]) })
            .collect::<String>()
    };
    text.as_bytes().chunks(3).map(chunk).collect()
}

#[test]
fn findings_are_reported_once_and_can_fail() {
    let file = "FROM scratch\nMAINTAINER x\nENV A=1 \\\n\n  B=2\n";
    let options = [("context", "https://h/x"), ("platform", "linux/amd64,linux/arm64")];
    let host = remote(&options, "https://h/x", file);
    rhost_dockerfile::convert::build(&host).unwrap();
    let rules: Vec<_> = host.warnings.borrow().iter().map(|w| (w.rule.clone(), w.ranges[0].start_line)).collect();
    assert_eq!(rules, [("NoEmptyContinuation".to_owned(), 5), ("MaintainerDeprecated".to_owned(), 2)]);
    let failing = format!("# check=skip=NoEmptyContinuation;error=true\n{file}");
    let error = rhost_dockerfile::convert::build(&remote(&options, "https://h/x", &failing)).unwrap_err().to_string();
    assert!(error.contains("context:3: lint violation found for rules: MaintainerDeprecated"), "{error}");
    let mut host = remote(&options, "https://h/x", &failing);
    host.options.push(("build-arg:BUILDKIT_DOCKERFILE_CHECK".into(), "skip=all".into()));
    rhost_dockerfile::convert::build(&host).unwrap();
    assert!(host.warnings.borrow().is_empty());
}

#[test]
fn all_image_configs_are_under_way_before_the_first_wait() {
    let case =
        Case { name: String::new(), file: "stages.Dockerfile".into(), options: Vec::new(), context: "context".into() };
    let host = host(&case, "s");
    rhost_dockerfile::convert::build(&host).unwrap();
    assert_eq!(host.started_before_first_wait.get(), Some(3), "the base, and two images that are copied from");
}

#[test]
fn a_chain_of_many_stages_is_no_danger() {
    let mut file = String::from("FROM scratch AS s0\n");
    for i in 1..2_000 {
        file.push_str(&format!("FROM scratch AS s{i}\nCOPY --from=s{} /x /x\n", i - 1));
    }
    let built = rhost_dockerfile::convert::build(&remote(&[("context", "https://h/x")], "https://h/x", &file)).unwrap();
    assert!(built.targets[0].root.is_some());
}

#[test]
fn damaged_files_are_refused_or_built_but_never_crash() {
    let files = std::fs::read_dir(folder()).unwrap().map(|f| f.unwrap().path());
    let mut outcomes = (0, 0);
    for path in files.filter(|p| p.extension().is_some_and(|e| e == "Dockerfile")) {
        let text = std::fs::read(path).unwrap();
        for at in (0..text.len()).step_by(37) {
            for (cut, put) in
                [(1, ""), (7, ""), (1, "$"), (0, "${"), (2, "\n"), (1, "\""), (0, "<<"), (3, "\u{e9}\u{0}")]
            {
                let end = (at + cut).min(text.len());
                let damaged = [&text[..at], put.as_bytes(), &text[end..]].concat();
                let mut host = remote(&[("context", "https://h/x")], "https://h/x", "");
                host.remote.insert("https://h/x".into(), damaged);
                match rhost_dockerfile::convert::build(&host) {
                    Ok(built) => {
                        let target = &built.targets[0];
                        // The host refuses what no kernel takes, a NUL in a path for one.
                        match adapter::marshal(target, &built.source, &target.platform) {
                            Ok(_) => outcomes.0 += 1,
                            Err(_) => outcomes.1 += 1,
                        }
                    }
                    Err(error) => {
                        assert!(!error.to_string().is_empty());
                        outcomes.1 += 1;
                    }
                }
            }
        }
    }
    assert!(outcomes.0 > 200 && outcomes.1 > 200, "{outcomes:?}");
}
