//! The binary with its embedded guest beside a real BuildKit: for every build file and every case the same graph, vertex by vertex
//! with names, places and capabilities, the same findings, and the same verdict on what is wrong. BuildKit is asked as people ask
//! it: `buildx build --call=convertllb` and `--call=check`.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use rhost_kit::{Buildkitd, Platform, Ran, Registry, TestHost, write_layout};
use serde_json::Value;
use sha2::Digest as _;

use super::{cases, folder};

/// A BuildKit daemon whose docker.io is the registry of the test, and buildx with a builder for it.
struct BuildKit {
    daemon: Buildkitd,
    dir: tempfile::TempDir,
}

impl BuildKit {
    fn start(registry: &Registry) -> Self {
        let daemon = Buildkitd::start(registry.address()).expect("a daemon");
        let dir = tempfile::Builder::new().prefix("rhost-live-").tempdir().unwrap();
        let kit = Self { dir, daemon };
        let address = kit.daemon.address();
        let created = Ran::of(kit.buildx().args(["create", "--name", "live", "--driver", "remote", &address]));
        created.expect("buildx starts").success();
        kit
    }

    fn buildx(&self) -> Command {
        let mut command = Command::new(rhost_kit::peer("buildx").expect("buildx"));
        command.env("HOME", self.dir.path()).env("BUILDX_CONFIG", self.dir.path().join("buildx")).stdin(Stdio::null());
        command
    }

    fn call(&self, method: &str, job: &Job) -> Ran {
        let mut command = self.buildx();
        command.args(["build", "--builder", "live", "--progress", "quiet"]);
        command.arg(format!("--call={method},format=json")).arg("-f").arg(&job.file).args(&job.flags);
        Ran::of(command.arg(&job.context)).unwrap()
    }
}

/// One build file with flags that both understand.
struct Job {
    name: String,
    file: PathBuf,
    context: PathBuf,
    flags: Vec<String>,
}

/// The flags for the frontend options of a case; `None` where one has no flag that means the same to both.
fn flags(options: &[(String, String)]) -> Option<Vec<String>> {
    let mut flags = Vec::new();
    for (key, value) in options {
        let mut put = |flag: &str, value: String| flags.extend([flag.to_owned(), value]);
        match key.split_once(':').unwrap_or((key, "")) {
            ("build-arg", name) => put("--build-arg", format!("{name}={value}")),
            ("label", name) => put("--label", format!("{name}={value}")),
            ("target", _) => put("--target", value.clone()),
            ("shm-size", _) => put("--shm-size", value.clone()),
            ("ulimit", _) => put("--ulimit", value.clone()),
            ("cgroup-parent", _) => put("--cgroup-parent", value.clone()),
            ("force-network-mode", _) => put("--network", value.clone()),
            ("no-cache", _) if value.is_empty() => flags.push("--no-cache".into()),
            ("no-cache", _) => value.split(',').for_each(|stage| put("--no-cache-filter", stage.to_owned())),
            ("context", name) if !name.contains(':') && value.starts_with("docker-image://") => {
                put("--build-context", format!("{name}={value}"));
            }
            // A named directory is called by another name in each client's graph; convertllb knows no platform.
            _ => return None,
        }
    }
    Some(flags)
}

fn jobs() -> Vec<Job> {
    let mut jobs = Vec::new();
    for case in cases() {
        if let Some(flags) = flags(&case.options) {
            let (file, context) = (folder().join(&case.file), folder().join(&case.context));
            jobs.push(Job { name: case.name, file, context, flags });
        }
    }
    let mut live: Vec<PathBuf> = fs::read_dir(folder().join("live")).unwrap().map(|f| f.unwrap().path()).collect();
    live.sort();
    for file in live.into_iter().filter(|f| f.extension().is_some_and(|e| e == "Dockerfile")) {
        let text = String::from_utf8_lossy(&fs::read(&file).unwrap()).into_owned();
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        let context = text.lines().find_map(|l| l.strip_prefix("# context: ")).unwrap_or("context-ignore");
        // `# run: FLAGS` lines ask for further runs.
        let runs =
            text.lines().filter_map(|l| l.strip_prefix("# run: ")).map(|l| l.split(' ').map(str::to_owned).collect());
        for (index, flags) in std::iter::once(Vec::new()).chain(runs).enumerate() {
            jobs.push(Job {
                name: format!("live/{name}#{index}"),
                file: file.clone(),
                context: folder().join(context),
                flags,
            });
        }
    }
    jobs
}

/// The base images of the cases, made anew: configs as recorded, one layer.
fn push_images(registry: &Registry) {
    let dir = tempfile::tempdir().unwrap();
    let tar = dir.path().join("layer.tar");
    fs::create_dir(dir.path().join("etc")).unwrap();
    Ran::of(Command::new("tar").arg("-C").arg(dir.path()).arg("-cf").arg(&tar).arg("etc")).unwrap().success();
    let recorded: BTreeMap<String, BTreeMap<String, Value>> =
        serde_json::from_slice(&fs::read(folder().join("golden-images.json")).unwrap()).unwrap();
    for (reference, platforms) in &recorded {
        let Some(name) = reference.strip_prefix("docker.io/library/").and_then(|r| r.strip_suffix(":latest")) else {
            continue;
        };
        let configs: Vec<(String, Value)> = platforms
            .iter()
            .map(|(platform, image)| {
                let config: Value = serde_json::from_str(image["config"].as_str().unwrap()).unwrap();
                (platform.strip_prefix("linux/").unwrap().to_owned(), config["config"].clone())
            })
            .collect();
        let images: Vec<Platform<'_>> = configs
            .iter()
            .map(|(architecture, config)| Platform { architecture, variant: "", tar: &tar, config: config.clone() })
            .collect();
        let layout = dir.path().join(name);
        fs::create_dir(&layout).unwrap();
        write_layout(&layout, "latest", &images).unwrap();
        registry.push_layout(&layout, "latest", &format!("library/{name}:latest")).unwrap();
    }
    push_liar(registry, dir.path(), &tar);
}

/// An image that says of itself that it is for another machine than its index says.
fn push_liar(registry: &Registry, dir: &Path, tar: &Path) {
    let layout = dir.join("liar");
    fs::create_dir(&layout).unwrap();
    let here = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let image = Platform { architecture: "riscv64", variant: "", tar, config: serde_json::json!({}) };
    write_layout(&layout, "latest", &[image]).unwrap();
    // The index names the manifest for this machine; nothing but the index changes.
    let list: Value = serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap();
    let blob = |digest: &str| layout.join("blobs/sha256").join(digest.trim_start_matches("sha256:"));
    let old = blob(list["manifests"][0]["digest"].as_str().unwrap());
    let mut index: Value = serde_json::from_slice(&fs::read(old).unwrap()).unwrap();
    index["manifests"][0]["platform"]["architecture"] = here.into();
    let bytes = index.to_string();
    let digest = hex::encode(sha2::Sha256::digest(&bytes));
    fs::write(blob(&digest), &bytes).unwrap();
    let mut list = list;
    list["manifests"][0]["digest"] = format!("sha256:{digest}").into();
    list["manifests"][0]["size"] = bytes.len().into();
    fs::write(layout.join("index.json"), list.to_string()).unwrap();
    registry.push_layout(&layout, "latest", "library/liar:latest").unwrap();
}

/// Numbers for vertices that are the same: everything but the session counts, inputs by their own numbers.
#[derive(Default)]
struct Numbers(HashMap<String, usize>);

impl Numbers {
    /// Number and content of each vertex of a graph in convertllb's form.
    fn of(&mut self, graph: &Value) -> BTreeMap<usize, (String, Value, Value)> {
        let mut memo = HashMap::new();
        let mut out = BTreeMap::new();
        for digest in graph["def"].as_object().into_iter().flatten().map(|(digest, _)| digest) {
            let (number, text) = self.number(graph, digest, &mut memo);
            let mut said = graph["metadata"][digest].clone();
            if let Some(caps) = said["caps"].as_object_mut() {
                // Only a client with a session says which.
                caps.remove("source.local.sessionid");
            }
            if let Some(group) = said.get_mut("progress_group").and_then(Value::as_object_mut) {
                group.remove("id");
            }
            out.insert(number, (text, said, graph["source"]["locations"][digest].clone()));
        }
        out
    }

    fn number(&mut self, graph: &Value, digest: &str, memo: &mut HashMap<String, (usize, String)>) -> (usize, String) {
        if let Some(known) = memo.get(digest) {
            return known.clone();
        }
        let mut op = graph["def"][digest].clone();
        for input in op["inputs"].as_array_mut().into_iter().flatten() {
            let digest = input["digest"].as_str().unwrap_or_default().to_owned();
            input["digest"] = self.number(graph, &digest, memo).0.into();
        }
        if let Some(attrs) = op.pointer_mut("/source/attrs").and_then(Value::as_object_mut) {
            attrs.remove("local.session");
            attrs.remove("local.unique");
        }
        op.sort_all_objects();
        let text = op.to_string();
        let next = self.0.len();
        let number = *self.0.entry(text.clone()).or_insert(next);
        memo.insert(digest.to_owned(), (number, text.clone()));
        (number, text)
    }
}

/// What differs between two graphs.
fn compare(ours: &Value, theirs: &Value) -> Vec<String> {
    let mut numbers = Numbers::default();
    let (ours, theirs) = (numbers.of(ours), numbers.of(theirs));
    let mut faults = Vec::new();
    for (number, (text, said, places)) in &ours {
        match theirs.get(number) {
            None => faults.push(format!("only ours     {text}\n              {said}")),
            Some((_, their_said, _)) if said != their_said => {
                faults.push(format!("{text}\n ours     {said}\n BuildKit {their_said}"));
            }
            Some((_, _, their_places)) if places != their_places => {
                faults.push(format!("{text}\n ours     {places}\n BuildKit {their_places}"));
            }
            Some(_) => {}
        }
    }
    for (text, said, _) in theirs.iter().filter(|(number, _)| !ours.contains_key(number)).map(|(_, vertex)| vertex) {
        faults.push(format!("only BuildKit {text}\n              {said}"));
    }
    faults
}

/// The findings of a lint answer, in order of place.
fn findings(answer: &Value) -> Vec<(String, String, String, String, String)> {
    let mut out: Vec<_> = answer["warnings"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|w| {
            let text = |key: &str| w[key].as_str().unwrap_or_default().to_owned();
            (w["location"].to_string(), text("ruleName"), text("detail"), text("description"), text("url"))
        })
        .collect();
    out.sort();
    out
}

fn check(buildkit: &BuildKit, host: &TestHost, job: &Job) -> Vec<String> {
    let rhost = |method: &str| {
        let mut args = vec!["build".to_owned(), format!("--call={method},format=json"), "-f".to_owned()];
        args.push(job.file.display().to_string());
        args.extend(job.flags.iter().cloned());
        args.push(job.context.display().to_string());
        host.run(args).unwrap()
    };
    let json = |ran: &Ran| serde_json::from_str::<Value>(&ran.stdout).ok();
    let (ours, theirs) = (rhost("convertllb"), buildkit.call("convertllb", job));
    let mut faults = match (ours.code, theirs.code) {
        (0, 0) => compare(&json(&ours).expect("our JSON"), &json(&theirs).expect("BuildKit's JSON")),
        (0, _) => vec![format!("should be refused: {}", theirs.stderr)],
        (_, 0) => vec![format!("should not be refused: {}", ours.stderr)],
        _ => Vec::new(),
    };
    let (ours, theirs) = (rhost("check"), buildkit.call("check", job));
    // An unreadable file has no findings that could be compared.
    if let (Some(ours), Some(theirs)) = (json(&ours), json(&theirs)) {
        match (ours["buildError"].is_object(), theirs["buildError"].is_object()) {
            (false, false) if findings(&ours) != findings(&theirs) => {
                let ours = findings(&ours).into_iter().map(|f| format!("  {f:?}\n")).collect::<String>();
                let theirs = findings(&theirs).into_iter().map(|f| format!("  {f:?}\n")).collect::<String>();
                faults.push(format!("findings: ours\n{ours} BuildKit\n{theirs}"));
            }
            (ours_fails, theirs_fail) if ours_fails != theirs_fail => {
                faults.push(format!("check: ours {} BuildKit {}", ours["buildError"], theirs["buildError"]));
            }
            _ => {}
        }
    }
    faults
}

#[test]
fn equals_a_real_buildkit() {
    if !rhost_kit::is_root() {
        return rhost_kit::skip("a BuildKit daemon with an OCI worker needs root");
    }
    if !rhost_kit::have(&["docker-registry", "skopeo", "tar", "runc"]) {
        return;
    }
    if let Some(missing) = ["buildkitd", "buildx"].into_iter().find_map(|program| rhost_kit::peer(program).err()) {
        return rhost_kit::skip(&missing.to_string());
    }
    let registry = Registry::start().expect("a registry");
    push_images(&registry);
    let buildkit = BuildKit::start(&registry);
    let host = TestHost::new().expect("a host");
    host.mirror_docker_io(registry.address()).expect("config");
    let jobs = jobs();
    assert!(jobs.len() > 60, "{} jobs", jobs.len());
    let (next, report) = (Mutex::new(jobs.iter()), Mutex::new(BTreeMap::new()));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let Some(job) = next.lock().unwrap().next() else { return };
                    let faults = check(&buildkit, &host, job);
                    if !faults.is_empty() {
                        report.lock().unwrap().insert(&job.name, faults.join("\n"));
                    }
                }
            });
        }
    });
    let report = report.into_inner().unwrap();
    let text: String = report.iter().map(|(name, faults)| format!("== {name}\n{faults}\n")).collect();
    assert!(report.is_empty(), "{text}\n{} of {} jobs differ", report.len(), jobs.len());
}

/// Every rule is met by one of the files at least, so that the comparison says something about each.
#[test]
fn the_files_meet_every_rule() {
    let all: String = fs::read_dir(folder().join("live"))
        .unwrap()
        .map(|f| fs::read_to_string(f.unwrap().path()).unwrap_or_default())
        .collect();
    for rule in [
        "StageNameCasing",
        "FromAsCasing",
        "NoEmptyContinuation",
        "ConsistentInstructionCasing",
        "DuplicateStageName",
        "ReservedStageName",
        "JSONArgsRecommended",
        "MaintainerDeprecated",
        "UndefinedArgInFrom",
        "WorkdirRelativePath",
        "UndefinedVar",
        "MultipleInstructionsDisallowed",
        "LegacyKeyValueFormat",
        "InvalidBaseImagePlatform",
        "RedundantTargetPlatform",
        "SecretsUsedInArgOrEnv",
        "InvalidDefaultArgInFrom",
        "FromPlatformFlagConstDisallowed",
        "CopyIgnoredFile",
        "InvalidDefinitionDescription",
        "ExposeProtoCasing",
        "ExposeInvalidFormat",
    ] {
        let meets = |line: &str| line.strip_prefix("# meets ").is_some_and(|list| list.split(", ").any(|r| r == rule));
        assert!(all.lines().any(meets), "no file under live/ meets {rule}");
    }
}

#[test]
fn vertices_are_told_apart_by_what_they_stand_on() {
    let graph = |image: &str| {
        serde_json::json!({"def": {
            "a": {"source": {"identifier": image, "attrs": {"local.session": image}}},
            "b": {"inputs": [{"digest": "a"}], "file": {}},
        }, "metadata": {}})
    };
    assert!(compare(&graph("x"), &graph("x")).is_empty());
    assert_eq!(compare(&graph("x"), &graph("y")).len(), 4);
}
