//! `rhost.lock`, `--locked`, `--offline`, `rhost fetch` and `rhost vendor`, each with real servers that tell what they were asked.
mod locked;
mod offline;
mod vendor;

use std::path::PathBuf;

use rhost_kit::{GitServer, Proxy, Ran, Registry, TestHost, busybox};

/// A host, and servers of images, repositories and files behind proxies that note what is asked.
struct Stage {
    host: TestHost,
    registry: Registry,
    images: Proxy,
    repositories: GitServer,
    git: Proxy,
    files: Proxy,
}

fn stage() -> Option<Stage> {
    if !rhost_kit::have(&["docker-registry", "skopeo", "git"]) {
        return None;
    }
    let registry = Registry::start().expect("a registry");
    registry.push(&busybox().expect("busybox"), "base:1").expect("pushed");
    let images = Proxy::start(registry.address()).expect("a proxy");
    let repositories = GitServer::start().expect("a git server");
    let git = Proxy::start(repositories.address()).expect("a proxy");
    let files = serve("one");
    Some(Stage { host: TestHost::new().expect("a host"), registry, images, repositories, git, files })
}

/// A server whose every file holds `text`, with a date and a name for it.
fn serve(text: &'static str) -> Proxy {
    Proxy::alone(answer(text)).expect("a server")
}

fn answer(text: &'static str) -> impl Fn(&rhost_kit::Asked) -> rhost_kit::Answer {
    move |asked| {
        let named = if asked.path.contains("named") { "attachment; filename=\"sent.txt\"" } else { "inline" };
        rhost_kit::Answer::reply(200, text)
            .header("last-modified", "Wed, 21 Oct 2015 07:28:00 GMT")
            .header("content-disposition", named)
    }
}

impl Stage {
    fn context(&self) -> String {
        self.host.work().join("ctx").display().to_string()
    }

    fn write(&self, dockerfile: &str) -> String {
        self.host.write("ctx/Dockerfile", dockerfile).expect("written");
        self.context()
    }

    fn run(&self, command: &str, more: &[&str]) -> Ran {
        let context = self.context();
        self.host.run([command, "--progress", "plain"].iter().chain(more).chain(&[context.as_str()])).expect("ran")
    }

    /// `rhost lock --update`, whose context stands where names end.
    fn update(&self, names: &[&str]) -> Ran {
        let context = self.context();
        self.host.run(["lock", "--update"].iter().chain(names).chain(&[context.as_str()])).expect("ran")
    }

    fn lock_path(&self) -> PathBuf {
        self.host.work().join("ctx/rhost.lock")
    }

    fn lock(&self) -> String {
        std::fs::read_to_string(self.lock_path()).expect("a lock file")
    }

    /// What a build of the context leaves in a directory.
    fn build_to(&self, name: &str, more: &[&str]) -> PathBuf {
        let out = self.host.dir().join(name);
        self.run("build", &[&["-o", &out.display().to_string()], more].concat()).success();
        out
    }

    /// All that was asked of anybody since the last call.
    fn asked(&self) -> Vec<String> {
        [&self.images, &self.git, &self.files].into_iter().flat_map(Proxy::take).collect()
    }

    fn git_url(&self, name: &str) -> String {
        format!("http://{}/{name}.git", self.git.address())
    }

    /// Another image takes the tag `base:1`. Gives its digest.
    fn move_tag(&self) -> String {
        let layout = self.host.dir().join("moved");
        if !layout.exists() {
            let file = self
                .host
                .write("moved/Dockerfile", format!("FROM {}\nLABEL moved=yes\n", self.registry.name("base:1")));
            let context = file.expect("written").parent().expect("a directory").display().to_string();
            let to = format!("type=oci,tar=false,dest={}", layout.display());
            self.host.run(["build", "-t", "moved:1", "-o", &to, &context]).expect("ran").success();
        }
        let tag = "docker.io/library/moved:1";
        let index = std::fs::read_to_string(layout.join("index.json")).expect("an index");
        let index: serde_json::Value = serde_json::from_str(&index).expect("JSON");
        let annotations = &index["manifests"][0]["annotations"];
        let name = annotations["org.opencontainers.image.ref.name"].as_str().unwrap_or(tag).to_owned();
        self.registry.push_layout(&layout, &name, "base:1").expect("pushed");
        index["manifests"][0]["digest"].as_str().expect("a digest").to_owned()
    }
}
