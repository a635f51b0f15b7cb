//! Graph operations and lazy images through the binary: what is rebased, what is not downloaded, what survives damage.
use std::fs;
use std::path::PathBuf;

use rhost_kit::{Registry, TestHost, busybox};
use serde_json::Value;

fn write(host: &TestHost, files: &[(&str, &str)]) -> String {
    for (path, text) in files {
        host.write(path, text).expect("written");
    }
    host.work().join("ctx").display().to_string()
}

/// The plain log of a build that must succeed.
fn build(host: &TestHost, arguments: &[&str]) -> String {
    let ran = host.run(["build", "--progress", "plain"].iter().chain(arguments)).expect("ran");
    let log = ran.stderr.clone();
    ran.success();
    log
}

/// Whether the vertex whose name contains `name` was answered by the cache.
fn is_cached(log: &str, name: &str) -> bool {
    let line = log.lines().find(|line| line.contains(name)).unwrap_or_else(|| panic!("no `{name}` in {log}"));
    let number = line.split(' ').next().expect("a number");
    log.contains(&format!("{number} CACHED\n"))
}

/// The layers of an OCI layout directory with one image, the base first.
fn layers(layout: &str) -> Vec<Value> {
    let read = |path: PathBuf| -> Value { serde_json::from_slice(&fs::read(path).expect("there")).expect("JSON") };
    let blob = |value: &Value| {
        let digest = value["digest"].as_str().expect("a digest").trim_start_matches("sha256:");
        read(PathBuf::from(layout).join("blobs/sha256").join(digest))
    };
    let mut manifest = blob(&read(PathBuf::from(layout).join("index.json"))["manifests"][0]);
    if manifest.get("layers").is_none() {
        manifest = blob(&manifest["manifests"][0]);
    }
    manifest["layers"].as_array().expect("layers").clone()
}

/// The file of busybox's one layer in the registry.
fn layer_file(registry: &Registry) -> PathBuf {
    let layout = busybox().expect("busybox").layout;
    let read = |digest: &str| -> Value {
        let path = layout.join("blobs/sha256").join(digest.trim_start_matches("sha256:"));
        serde_json::from_slice(&fs::read(path).expect("there")).expect("JSON")
    };
    let index: Value = serde_json::from_slice(&fs::read(layout.join("index.json")).expect("there")).expect("JSON");
    let index = read(index["manifests"][0]["digest"].as_str().expect("a digest"));
    let architecture = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
    let mine = index["manifests"].as_array().expect("manifests").iter();
    let mut mine = mine.filter(|entry| entry["platform"]["architecture"] == architecture);
    let manifest = read(mine.next().expect("this machine's").get("digest").and_then(Value::as_str).expect("a digest"));
    registry.blob_path(manifest["layers"][0]["digest"].as_str().expect("a digest"))
}

#[test]
fn a_linked_copy_stays_as_it_is_when_its_base_changes() {
    let Some((host, _registry)) = rhost_kit::host_with_busybox() else { return };
    let dockerfile = "ARG BASE=busybox\nFROM $BASE\nCOPY --link a /x/a\nCOPY --link --from=busybox /etc/passwd /y/\nRUN cat /x/a /y/passwd >/seen\n";
    let context = write(
        &host,
        &[
            ("ctx/Dockerfile", dockerfile),
            ("ctx/a", "1\n"),
            ("ctx/other", "FROM busybox\nRUN mkdir -m 700 /x && echo old > /x/old\n"),
        ],
    );
    build(&host, &["-t", "other:1", "-f", &format!("{context}/other"), &context]);
    let out = |name: &str| host.dir().join(name).display().to_string();
    let (first, second) = (out("first"), out("second"));
    build(&host, &["-o", &format!("type=oci,tar=false,dest={first}"), &context]);
    let arguments = ["--build-arg", "BASE=other:1", "-o", &format!("type=oci,tar=false,dest={second}"), &context];
    let log = build(&host, &arguments);
    assert!(is_cached(&log, "] COPY --link a /x/a") && is_cached(&log, "] COPY --link --from=busybox"), "{log}");
    assert!(!is_cached(&log, "RUN cat"), "{log}");
    let (first, second) = (layers(&first), layers(&second));
    assert_eq!((first.len(), second.len()), (4, 5));
    assert_eq!(first[0], second[0], "the base's blob as it came");
    assert_eq!(first[1..3], second[2..4], "the same blobs on another base");
    // Files of base and link lie beside each other, and the link's directory wins.
    let tree = out("tree");
    build(&host, &["--build-arg", "BASE=other:1", "-o", &tree, &context]);
    assert_eq!(fs::read_to_string(format!("{tree}/x/old")).expect("of the base"), "old\n");
    assert!(fs::read_to_string(format!("{tree}/seen")).expect("of the step").starts_with("1\nroot:"));
}

#[test]
fn layers_come_when_somebody_needs_them_and_not_before() {
    let Some((host, registry)) = rhost_kit::host_with_busybox() else { return };
    let context = write(&host, &[("ctx/Dockerfile", "FROM busybox\nCOPY --link a /a\nLABEL a=b\n"), ("ctx/a", "1\n")]);
    let file = layer_file(&registry);
    let kept = fs::read(&file).expect("the registry has it");
    fs::remove_file(&file).expect("removed");
    for _ in 0..2 {
        // Nothing here reads a file of the base: nobody notices that its layer cannot be had.
        let log = build(&host, &["-o", "type=cacheonly", &context]);
        assert!(!log.contains("extracting"), "{log}");
    }
    write(&host, &[("ctx/run", "FROM busybox\nRUN echo ran > /ran\n")]);
    let run = format!("{context}/run");
    let text = host.run(["build", "--progress", "plain", "-f", &run, &context]).expect("ran").failure(5);
    assert!(text.contains("busybox") && text.contains("sha256:"), "{text}");
    fs::write(&file, &kept).expect("put back");
    let log = build(&host, &["-f", &run, &context]);
    assert!(log.contains("extracting sha256:") && log.contains(" done\n"), "{log}");
    let total = format!("{:.2}MB / {:.2}MB", kept.len() as f64 / 1e6, kept.len() as f64 / 1e6);
    assert!(log.contains(&total), "wanted {total} in {log}");
    // Everything is cached: the registry's layer may go again. So may the directories of the store: they are made from its blob.
    fs::remove_file(&file).expect("removed");
    let log = build(&host, &["-f", &run, &context]);
    assert!(is_cached(&log, "RUN echo ran") && !log.contains("extracting"), "{log}");
    for bucket in ["snapshots-v1", "snapshots-user-v1"] {
        for entry in fs::read_dir(host.root().join(bucket)).into_iter().flatten() {
            fs::remove_dir_all(entry.expect("an entry").path()).expect("removed");
        }
    }
    let tree = host.dir().join("tree").display().to_string();
    let log = build(&host, &["-f", &run, "-o", &tree, &context]);
    assert!(is_cached(&log, "RUN echo ran") && log.contains("extracting"), "{log}");
    assert_eq!(fs::read_to_string(format!("{tree}/ran")).expect("of the step's blob"), "ran\n");
}

#[test]
fn a_damaged_layer_of_the_store_is_fetched_again() {
    let Some((host, registry)) = rhost_kit::host_with_busybox() else { return };
    let context =
        write(&host, &[("ctx/Dockerfile", "FROM busybox\nLABEL a=b\n"), ("ctx/run", "FROM busybox\nRUN ls / > /ls\n")]);
    build(&host, &["-t", "a", &context]);
    let name = layer_file(&registry).parent().and_then(|dir| dir.file_name().map(ToOwned::to_owned)).expect("a name");
    let blob = host.root().join("blobs-v1/blobs/sha256").join(name);
    let mut bytes = fs::read(&blob).expect("exported, so fetched");
    let middle = bytes.len() / 2;
    bytes[middle..middle + 100].fill(0);
    fs::write(&blob, &bytes).expect("damaged");
    let log = build(&host, &["-t", "b", "-f", &format!("{context}/run"), &context]);
    assert!(log.contains("extracting"), "{log}");
    assert_ne!(fs::read(&blob).expect("there again"), bytes);
}

#[test]
fn progress_is_told_to_programs_too() {
    let Some((host, _registry)) = rhost_kit::host_with_busybox() else { return };
    let context = write(&host, &[("ctx/Dockerfile", "FROM busybox\nRUN true\n")]);
    let ran = host.run(["build", "--progress", "rawjson", &context]).expect("ran");
    let log = ran.stderr.clone();
    ran.success();
    let statuses: Vec<Value> = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter_map(|value| value["statuses"].as_array().cloned())
        .flatten()
        .collect();
    let of = |prefix: &str| -> Vec<&Value> {
        statuses.iter().filter(|status| status["id"].as_str().is_some_and(|id| id.starts_with(prefix))).collect()
    };
    let (download, unpack) = (of("sha256:"), of("extracting sha256:"));
    let last = download.last().expect("a download");
    assert_eq!(last["current"], last["total"]);
    assert!(last["completed"].is_string() && last["started"].is_string() && last["timestamp"].is_string(), "{last}");
    assert!(unpack.last().expect("an unpack")["completed"].is_string());
    assert_eq!(last["vertex"], unpack[0]["vertex"], "both are the source's");
}

#[test]
fn more_layers_than_overlayfs_takes_are_built_exported_and_built_upon() {
    let Some((host, _registry)) = rhost_kit::host_with_busybox() else { return };
    let mut dockerfile = String::from("FROM busybox AS long\n");
    for number in 0..500 {
        dockerfile += &format!("COPY a /d{}/f{number}\n", number % 5);
    }
    // One layer more than can be mounted, and what it and the next see is all that is below.
    dockerfile += "RUN rm /d0/f0 && ls /d[0-4]/f* | wc -l > /seen\nRUN test ! -e /d0/f0 && test -x /bin/busybox && cp /seen /again\n";
    let context = write(&host, &[("ctx/Dockerfile", &dockerfile), ("ctx/a", "1\n")]);
    let (tree, layout) = (host.dir().join("tree"), host.dir().join("layout").display().to_string());
    build(&host, &["-o", &format!("type=oci,tar=false,dest={layout}"), "-o", &tree.display().to_string(), &context]);
    assert_eq!(layers(&layout).len(), 503, "every layer is there");
    assert_eq!(fs::read_to_string(tree.join("again")).expect("there"), "499\n");
    assert_eq!(fs::read_dir(tree.join("d0")).expect("there").count(), 99);
    let log = build(&host, &["-o", "type=cacheonly", &context]);
    assert!(is_cached(&log, "RUN test ! -e"), "{log}");
    // As a base it is laid down first, and then mounted.
    let other = TestHost::new().expect("a host");
    let index: Value = serde_json::from_slice(&fs::read(format!("{layout}/index.json")).expect("there")).expect("JSON");
    let digest = index["manifests"][0]["digest"].as_str().expect("a digest");
    let base = format!("long=oci-layout://{layout}@{digest}");
    let context = write(&other, &[("ctx/Dockerfile", "FROM long\nRUN ls /d[0-4]/f* | wc -l > /seen && rm -r /d1\n")]);
    let tree = other.dir().join("tree");
    build(&other, &["--build-context", &base, "-o", &tree.display().to_string(), &context]);
    assert_eq!(fs::read_to_string(tree.join("seen")).expect("there"), "499\n");
    assert!(!tree.join("d1").exists() && tree.join("d4/f499").exists());
    // Pruned, nothing of it is left.
    other.run(["prune", "--all"]).expect("ran").success();
    let left = fs::read_dir(other.root()).expect("there").map(|entry| entry.expect("read").path());
    let buckets =
        left.filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("snapshots")));
    assert_eq!(buckets.flat_map(|bucket| fs::read_dir(bucket).expect("there")).count(), 0);
}

#[test]
fn layouts_have_names_and_images_annotations() {
    let Some((host, _registry)) = rhost_kit::host_with_busybox() else { return };
    let context = write(&host, &[("ctx/Dockerfile", "FROM scratch\nCOPY a /\n"), ("ctx/a", "1\n")]);
    let layout = host.dir().join("layout").display().to_string();
    let output = format!("type=oci,tar=false,name=app:one,dest={layout}");
    let flags = ["--provenance=false", "--sbom=false", "--attest", "type=sbom,disabled=true"];
    let annotations = ["--annotation", "k=a,\"b\"", "--annotation", "manifest-descriptor:d=e"];
    build(&host, &[&flags[..], &annotations[..], &["-o", &output, &context]].concat());
    let read = |path: String| -> Value { serde_json::from_slice(&fs::read(path).expect("there")).expect("JSON") };
    let index = read(format!("{layout}/index.json"));
    let descriptor = &index["manifests"][0];
    assert_eq!(descriptor["annotations"]["d"], "e", "{index}");
    let digest = descriptor["digest"].as_str().expect("a digest");
    let manifest = read(format!("{layout}/blobs/sha256/{}", digest.trim_start_matches("sha256:")));
    assert_eq!(manifest["annotations"]["k"], "a,\"b\"", "{manifest}");
    // The context has a name that no layout could have.
    fs::write(format!("{context}/Dockerfile"), "FROM registry.example/base:2\nCOPY a /b\n").expect("written");
    let tree = host.dir().join("tree").display().to_string();
    for place in [":one", "", &format!("@{digest}")] {
        let base = format!("registry.example/base:2=oci-layout://{layout}{place}");
        build(&host, &["--build-context", &base, "-o", &tree, &context]);
        assert_eq!(fs::read_to_string(format!("{tree}/b")).expect("there"), "1\n", "{place}");
    }
    let base = format!("registry.example/base:2=oci-layout://{layout}:two");
    let refused = host.run(["build", "--build-context", &base, &context]).expect("ran").failure(2);
    assert!(refused.contains("context `registry.example/base:2`") && refused.contains("tag `two`"), "{refused}");
    for wanted in ["--provenance=mode=max", "--sbom", "--attest=type=provenance"] {
        let refused = host.run(["build", wanted, &context]).expect("ran").failure(2);
        assert!(refused.contains("attestations are not supported yet"), "{refused}");
    }
}
