//! The two builders, with one registry of base images between them.
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use rhost_kit::{Buildkitd, Registry, TestHost, busybox, debian};
use rhost_llb::Digest;
use serde_json::{Value, json};

use super::case::Case;
use super::compare::compare;
use super::image::Archive;

/// A real BuildKit and rhost.
pub struct Peers {
    registry: Registry,
    /// When they were started: what is later was made by a build.
    since: u64,
    buildkitd: Buildkitd,
    pub host: TestHost,
}

/// Which form the manifest of a base image has.
#[derive(Clone, Copy)]
enum Form {
    Oci,
    DockerSchema2,
}

impl Peers {
    /// `None`, said aloud, where the machine lacks what that takes.
    pub fn start() -> Option<Self> {
        if !rhost_kit::is_root() {
            rhost_kit::skip("a real buildkitd needs root");
            return None;
        }
        if !rhost_kit::have(&["runc", "setfattr", "setcap", "xz", "zstd", "bzip2"]) {
            return None;
        }
        let registry = bases()?;
        let buildkitd = Buildkitd::start(registry.address()).expect("buildkitd");
        let host = TestHost::new().expect("a host");
        host.mirror_docker_io(registry.address()).expect("config");
        Some(Self { registry, since: now(), buildkitd, host })
    }

    /// BuildKit's archive of `case`, or what it said.
    fn buildkit(buildkitd: &Buildkitd, case: &Case, to: &Path) -> Result<(), String> {
        let extra = case.options.iter().filter(|(k, _)| k == "output").map(|(_, v)| format!(",{v}"));
        let output = format!("type=oci,dest={}{}", to.display(), extra.collect::<String>());
        finish(&mut Self::buildctl(buildkitd, case, &output))
    }

    /// `buildctl build` of `case` to `output`.
    fn buildctl(buildkitd: &Buildkitd, case: &Case, output: &str) -> Command {
        let mut command = buildkitd.command(["build", "--frontend", "dockerfile.v0", "--progress", "plain"]);
        // No cache: what another context left there has that context's times.
        let local = |name: &str| format!("{name}={}", case.context.display());
        command.args(["--local", &local("context"), "--local", &local("dockerfile"), "--no-cache"]);
        for (key, value) in &case.options {
            if key.starts_with("context:") && !value.contains("://") {
                let name = format!("named-{}", key.trim_start_matches("context:"));
                command.arg("--local").arg(format!("{name}={}", case.context.join(value).display()));
                command.arg("--opt").arg(format!("{key}=local:{name}"));
            } else if key == "output" {
                continue;
            } else {
                command.arg("--opt").arg(format!("{key}={value}"));
            }
        }
        command.arg("--output").arg(output);
        command
    }

    /// Builds `case` with both to `type=TYPE,dest=…` and what `more` adds; answers where theirs and ours are.
    pub fn both(&self, case: &Case, work: &Path, kind: &str, more: &str) -> [std::path::PathBuf; 2] {
        ["theirs", "ours"].map(|who| {
            let to = work.join(format!("{}.{kind}.{who}", case.name));
            let output = format!("type={kind},dest={}{more}", to.display());
            let mut command = if who == "theirs" {
                Self::buildctl(&self.buildkitd, case, &output)
            } else {
                rhost_command_to(&self.host, case, &output)
            };
            finish(&mut command).unwrap_or_else(|said| panic!("{who} {output}: {said}"));
            to
        })
    }

    /// rhost's archive of `case`, or what it said.
    fn rhost(&self, case: &Case, to: &Path) -> Result<(), String> {
        finish(&mut rhost_command(&self.host, case, to))
    }

    /// Builds `case` with both: what differs; empty if nothing does, also when both refuse.
    pub fn differences(&self, case: &Case, work: &Path) -> Vec<String> {
        let faults = self.compared(&self.buildkitd, case, work);
        if faults.is_empty() {
            return faults;
        }
        // A daemon keeps one copy of all contexts that came to it, and of a directory whose time alone is new the old time. One that
        // has seen nothing else has the last word.
        let fresh = Buildkitd::start(self.registry.address()).expect("buildkitd");
        self.compared(&fresh, case, work)
    }

    fn compared(&self, buildkitd: &Buildkitd, case: &Case, work: &Path) -> Vec<String> {
        let file = |who: &str| work.join(format!("{}.{who}.tar", case.name));
        let (theirs, ours) = (file("buildkit"), file("rhost"));
        let faults = match (Self::buildkit(buildkitd, case, &theirs), self.rhost(case, &ours)) {
            (Ok(()), Ok(())) => compare(&Archive::read(&theirs), &Archive::read(&ours), self.since),
            (Ok(()), Err(said)) => vec![format!("only rhost fails: {said}")],
            (Err(said), Ok(())) => vec![format!("only BuildKit fails: {said}")],
            (Err(theirs), Err(ours)) => {
                if std::env::var_os("RHOST_IMAGES_SHOW_ERRORS").is_some() {
                    eprintln!("{}: both refuse\n  {theirs}\n  {ours}", case.name);
                }
                Vec::new()
            }
        };
        for file in [&theirs, &ours] {
            if let Some(folder) = std::env::var_os("RHOST_IMAGES_KEEP").filter(|_| !faults.is_empty()) {
                let _ = fs::copy(file, Path::new(&folder).join(file.file_name().expect("a name")));
            }
            let _ = fs::remove_file(file);
        }
        faults
    }
}

/// Runs `command`; what it said at the end if it failed.
pub fn finish(command: &mut Command) -> Result<(), String> {
    let out = command.output().expect("started");
    if out.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    Err(lines[lines.len().saturating_sub(12)..].join("\n     "))
}

/// Base images whose configs have more, or less, than those of every day.
fn odd_configs() -> Vec<(&'static str, Form, Value)> {
    vec![
        (
            "odd-full",
            Form::Oci,
            json!({
                "author": "A. Uthor <a@example.com>",
                "os.version": "10.0.1",
                "os.features": ["one", "two"],
                "variant": "v2",
                "x-unknown": {"b": [1, 2.5, null], "a": "<&>"},
                "config": {
                    "User": "nobody", "Env": ["PATH=/bin:/usr/bin", "EMPTY=", "B=1", "A=2"], "Entrypoint": ["/bin/sh", "-c"],
                    "Cmd": ["echo base"], "WorkingDir": "/srv", "Volumes": {"/vol": {}}, "ExposedPorts": {"80/tcp": {}, "53/udp": {}},
                    "Labels": {"base": "1", "z": "last", "a": "first"}, "StopSignal": "SIGQUIT", "ArgsEscaped": true,
                    "Healthcheck": {"Test": ["CMD-SHELL", "true"], "Interval": 3_000_000_000_i64, "StartInterval": 1_000_000_000_i64},
                    "Shell": ["/bin/ash", "-ec"], "OnBuild": null, "Hostname": "h", "Domainname": "d", "Tty": true, "Image": "sha256:0",
                    "Memory": 5, "MacAddress": "00:00:00:00:00:00", "StopTimeout": 7,
                },
            }),
        ),
        (
            "odd-onbuild",
            Form::Oci,
            json!({"config": {"OnBuild": ["ENV ON=build", "RUN echo $ON > /onbuild", "COPY f* /from-onbuild/", "LABEL on=build"]}}),
        ),
        (
            "odd-schema2",
            Form::DockerSchema2,
            json!({"config": {"Env": ["PATH=/bin"], "Cmd": ["sh"]}, "docker_version": "20.10.1", "container": "c0ffee", "container_config": {"Cmd": ["x"]}}),
        ),
        ("odd-bare", Form::Oci, json!({"config": null, "history": null, "created": null})),
        (
            "odd-history",
            Form::Oci,
            json!({"history": [
            {"created": "2025-01-01T00:00:00.123456789Z", "created_by": "one", "author": "me", "comment": "c", "empty_layer": true},
            {"created_by": "two"}, {"created": "2025-01-02T00:00:00+01:00", "created_by": "three", "empty_layer": true}]}),
        ),
        ("odd-short-history", Form::Oci, json!({"history": []})),
        (
            "odd-long-history",
            Form::Oci,
            json!({"history": [{"created_by": "a"}, {"created_by": "b"}, {"created_by": "c"}]}),
        ),
        ("odd-user", Form::Oci, json!({"config": {"User": "12:34", "WorkingDir": "relative/dir", "Env": null}})),
    ]
}

/// Writes the layout `to`: the amd64 image of layout `from` with `change` over its config.
fn odd_image(from: &Path, to: &Path, change: &Value) {
    let blob =
        |digest: &Value| -> PathBuf { from.join("blobs").join(digest.as_str().expect("a digest").replace(':', "/")) };
    let read = |path: PathBuf| -> Value { serde_json::from_slice(&fs::read(path).expect("read")).expect("JSON") };
    let put = |document: &Value| -> Value {
        let bytes = document.to_string();
        let digest = Digest::of(&bytes).to_string();
        fs::write(to.join("blobs").join(digest.replace(':', "/")), &bytes).expect("written");
        json!({"digest": digest, "size": bytes.len()})
    };
    fs::create_dir_all(to.join("blobs/sha256")).expect("made");
    let index = read(blob(&read(from.join("index.json"))["manifests"][0]["digest"]));
    let wanted = |m: &&Value| m["platform"]["architecture"] == "amd64";
    let mut manifest =
        read(blob(&index["manifests"].as_array().expect("a list").iter().find(wanted).expect("amd64")["digest"]));
    let mut config = read(blob(&manifest["config"]["digest"]));
    for (key, value) in change.as_object().expect("an object") {
        if value.is_null() && key != "config" {
            config.as_object_mut().expect("an object").remove(key);
        } else {
            config[key] = value.clone();
        }
    }
    for layer in manifest["layers"].as_array().expect("a list") {
        let name = layer["digest"].as_str().expect("a digest").replace(':', "/");
        fs::copy(blob(&layer["digest"]), to.join("blobs").join(name)).expect("copied");
    }
    let mut descriptor = put(&config);
    descriptor["mediaType"] = "application/vnd.oci.image.config.v1+json".into();
    manifest["config"] = descriptor;
    let mut descriptor = put(&manifest);
    descriptor["mediaType"] = "application/vnd.oci.image.manifest.v1+json".into();
    descriptor["annotations"] = json!({"org.opencontainers.image.ref.name": "latest"});
    fs::write(to.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("written");
    fs::write(to.join("index.json"), json!({"schemaVersion": 2, "manifests": [descriptor]}).to_string())
        .expect("written");
}

/// `rhost build` of `case` to the archive `to`.
pub fn rhost_command(host: &TestHost, case: &Case, to: &Path) -> Command {
    let extra = case.options.iter().filter(|(k, _)| k == "output").map(|(_, v)| format!(",{v}"));
    rhost_command_to(host, case, &format!("type=oci,dest={}{}", to.display(), extra.collect::<String>()))
}

/// `rhost build` of `case` to `output`.
fn rhost_command_to(host: &TestHost, case: &Case, output: &str) -> Command {
    let mut command = host.command(["build", "--progress", "plain", "--no-cache"]);
    for (key, value) in &case.options {
        let value = value.as_str();
        match key.split_once(':') {
            Some(("build-arg", name)) => command.arg("--build-arg").arg(format!("{name}={value}")),
            Some(("label", name)) => command.arg("--label").arg(format!("{name}={value}")),
            Some(("context", name)) if value.contains("://") => {
                command.arg("--build-context").arg(format!("{name}={value}"))
            }
            Some(("context", name)) => {
                command.arg("--build-context").arg(format!("{name}={}", case.context.join(value).display()))
            }
            _ if key == "filename" => command.arg("--file").arg(case.context.join(value)),
            _ if key == "output" => &mut command,
            _ => command.arg(format!("--{key}")).arg(value),
        };
    }
    command.arg("-o").arg(output).arg(&case.context);
    command
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

/// A registry with all base images that contexts stand on.
pub fn bases() -> Option<Registry> {
    if !rhost_kit::have(&["docker-registry", "skopeo"]) {
        return None;
    }
    let registry = Registry::start().expect("a registry");
    let base = busybox().expect("busybox");
    registry.push(&base, "library/busybox:latest").expect("pushed");
    registry.push(&debian().expect("debian"), "library/debian:bookworm").expect("pushed");
    let odd = tempfile::tempdir().expect("a directory");
    for (name, form, change) in odd_configs() {
        let layout = odd.path().join(name);
        odd_image(&base.layout, &layout, &change);
        let mut copy = Command::new("skopeo");
        copy.args(["copy", "--quiet", "--insecure-policy", "--dest-tls-verify=false"]);
        if matches!(form, Form::DockerSchema2) {
            copy.args(["--format", "v2s2"]);
        }
        copy.arg(format!("oci:{}:latest", layout.display()));
        copy.arg(format!("docker://{}", registry.name(&format!("library/{name}:latest"))));
        finish(&mut copy).expect(name);
    }
    Some(registry)
}
