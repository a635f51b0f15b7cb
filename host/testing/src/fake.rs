//! `FakeHost`: the world of one test. What the test does not say is not there, and asking for it fails the test with the lines to add.
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use rhost_engine::{LentDirectory, full_name};
use rhost_frontend::{
    ByteRange, FileKind, FileStat, FrontendHost, HostError, ImageQuery, Report, ResolvedImage, SolvedTree,
};
use rhost_llb::{Definition, Digest, Graph, Limits, Platform};
use serde_json::Value;

use crate::case::{Case, FakeImage};

/// Something that a frontend wanted and the test does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// What, as in `the image busybox:latest`.
    pub what: String,
    /// The lines of `case.toml` that would give it.
    pub lines: String,
}

/// A host that knows what a [`Case`] says, and writes down what is reported.
pub struct FakeHost {
    case: Case,
    solves: AtomicUsize,
    reports: Mutex<Vec<Report>>,
    missing: Mutex<Vec<Missing>>,
}

impl FakeHost {
    /// Of one run.
    pub fn new(case: Case) -> Self {
        Self { case, solves: AtomicUsize::new(0), reports: Mutex::default(), missing: Mutex::default() }
    }

    /// What was reported, in order.
    pub fn reports(&self) -> Vec<Report> {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What was wanted in vain, in order, each once.
    pub fn missing(&self) -> Vec<Missing> {
        self.missing.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn wanted(&self, missing: Missing) -> HostError {
        let text = format!("the test does not have {}", missing.what);
        let mut all = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
        if !all.contains(&missing) {
            all.push(missing);
        }
        HostError::Failed(text)
    }

    /// The directory of a context, if `path` is not one of the test's own files in it.
    fn context(&self, context: &str, path: &str) -> Result<LentDirectory, HostError> {
        let directory = self.case.contexts.get(context);
        let directory =
            directory.ok_or_else(|| HostError::NotFound(format!("there is no local context `{context}`")))?;
        let mut parts = path.split('/').filter(|part| !part.is_empty() && *part != ".");
        if let (Some(name), None) = (parts.next(), parts.next())
            && self.case.hides(directory, name)
        {
            return Err(HostError::NotFound(format!("`{path}` is not there")));
        }
        LentDirectory::open(directory)
    }

    fn image(&self, query: &ImageQuery) -> Result<ResolvedImage, HostError> {
        let wanted = query.reference.strip_prefix("docker-image://").unwrap_or(&query.reference);
        let same = |name: &str| whole(name) == whole(wanted);
        let Some((_, image)) = self.case.images.iter().find(|(name, _)| same(name)) else {
            return Err(self.wanted(Missing {
                what: format!("the image {wanted} (for {})", query.platform),
                lines: format!("[images.\"{wanted}\"]\nconfig = {{ config = {{ Env = [\"PATH=/bin\"] }} }}"),
            }));
        };
        if let Some(error) = &image.error {
            return Err(HostError::NotFound(error.clone()));
        }
        let has = |text: &String| text.parse::<Platform>().is_ok_and(|platform| platform == query.platform);
        if !image.platforms.is_empty() && !image.platforms.iter().any(has) {
            let offered = image.platforms.join(", ");
            return Err(HostError::NotFound(format!(
                "{wanted} is not there for {} (it has {offered})",
                query.platform
            )));
        }
        let config = self.config(image)?;
        let digest = match &image.digest {
            Some(digest) => digest.clone(),
            None => Digest::of(config.to_string()).to_string(),
        };
        let config = filled_in(config, &digest, &query.platform);
        let (reference, _) = whole(wanted);
        Ok(ResolvedImage { reference, digest, config: config.to_string().into_bytes() })
    }

    fn config(&self, image: &FakeImage) -> Result<Value, HostError> {
        let wrong = |reason: String| HostError::Failed(reason);
        match &image.config {
            Some(toml::Value::String(name)) => {
                let text = std::fs::read(self.case.directory.join(name));
                let text = text.map_err(|error| wrong(format!("cannot read `{name}` of the test: {error}")))?;
                serde_json::from_slice(&text).map_err(|error| wrong(format!("`{name}` of the test: {error}")))
            }
            Some(table) => serde_json::to_value(table).map_err(|error| wrong(error.to_string())),
            None => Ok(Value::Null),
        }
    }

    fn solved(&self, definition: &Definition) -> Result<LentDirectory, HostError> {
        let number = self.solves.fetch_add(1, Ordering::Relaxed) + 1;
        let graph = Graph::load(definition, &Limits::HOSTILE).map_err(|error| HostError::Invalid(error.to_string()))?;
        let text = graph.to_text();
        // The last operation is the one that is solved.
        let op = text.split("\n\n").filter(|block| block.starts_with('%')).last().unwrap_or_default();
        let name = graph.get(graph.head().vertex).map(|vertex| vertex.name.clone()).unwrap_or_default();
        let fits =
            |wanted: &Option<String>| wanted.as_ref().is_none_or(|part| op.contains(part) || name.contains(part));
        let found = self.case.solves.iter();
        let found = found.filter(|solve| solve.order.is_none_or(|order| order == number));
        let Some(solve) = found.into_iter().find(|solve| fits(&solve.op)) else {
            return Err(self.wanted(Missing {
                what: format!("the result of solve {number}, `{name}`"),
                lines: format!("[[solves]]\nop = {}\ntree = \"a folder of the test\"", Value::from(name)),
            }));
        };
        match (&solve.tree, &solve.error) {
            (Some(tree), _) => LentDirectory::open(&self.case.directory.join(tree)),
            (None, error) => Err(HostError::Failed(error.clone().unwrap_or_default())),
        }
    }
}

/// The full name of an image without its digest, and the digest that its name has.
fn whole(name: &str) -> (String, Option<&str>) {
    let (name, digest) = name.split_once('@').map_or((name, None), |(name, digest)| (name, Some(digest)));
    (full_name(name).unwrap_or_else(|| name.to_owned()), digest)
}

/// Fills in the platform and a layer, where the configuration does not say: an image without layers is an empty one to many frontends.
fn filled_in(mut config: Value, digest: &str, platform: &Platform) -> Value {
    if let Value::Object(config) = &mut config {
        let mut say = |key: &str, value: &str| {
            if !value.is_empty() && !config.contains_key(key) {
                config.insert(key.to_owned(), Value::from(value));
            }
        };
        say("architecture", &platform.architecture);
        say("os", &platform.os);
        say("variant", &platform.variant);
        if !config.contains_key("rootfs") {
            let layer = Digest::of(format!("the layer of {digest}")).to_string();
            config.insert("rootfs".to_owned(), serde_json::json!({ "type": "layers", "diff_ids": [layer] }));
        }
    }
    config
}

/// As on any machine: checkouts differ in times, owners and umasks.
fn plain(mut stat: FileStat) -> FileStat {
    let executable = stat.mode & 0o100 != 0;
    stat.mode = match stat.kind {
        FileKind::Symlink => 0o777,
        FileKind::Regular if !executable => 0o644,
        _ => 0o755,
    };
    FileStat { uid: 0, gid: 0, modified: 0, ..stat }
}

#[async_trait]
impl FrontendHost for FakeHost {
    fn contexts(&self) -> Vec<String> {
        self.case.contexts.keys().cloned().collect()
    }

    async fn read_file(
        &self,
        context: &str,
        path: &str,
        range: Option<ByteRange>,
        limit: u64,
    ) -> Result<Vec<u8>, HostError> {
        self.context(context, path)?.read_file(path, range, limit).await
    }

    async fn stat(&self, context: &str, path: &str) -> Result<FileStat, HostError> {
        self.context(context, path)?.stat(path).await.map(plain)
    }

    async fn read_dir(&self, context: &str, path: &str, pattern: Option<&str>) -> Result<Vec<FileStat>, HostError> {
        let entries = self.context(context, path)?.read_dir(path, pattern).await?;
        let directory = self.case.contexts.get(context).map_or(Path::new(""), |directory| directory.as_path());
        let top = path.split('/').all(|part| part.is_empty() || part == ".");
        let hidden = |stat: &FileStat| top && self.case.hides(directory, &stat.name);
        Ok(entries.into_iter().filter(|stat| !hidden(stat)).map(plain).collect())
    }

    async fn resolve_image(&self, query: ImageQuery) -> Result<ResolvedImage, HostError> {
        self.image(&query)
    }

    async fn solve(&self, definition: Definition) -> Result<Arc<dyn SolvedTree>, HostError> {
        Ok(Arc::new(PlainTree(self.solved(&definition)?)))
    }

    fn supports(&self, feature: &str) -> bool {
        let known = feature == "rhost.solve" || rhost_llb::caps::supported(feature);
        known && !self.case.unsupported.iter().any(|name| name == feature)
    }

    fn report(&self, report: Report) {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner).push(report);
    }
}

/// A solved tree whose facts are the same on any machine.
struct PlainTree(LentDirectory);

#[async_trait]
impl SolvedTree for PlainTree {
    async fn read_file(&self, path: &str, range: Option<ByteRange>, limit: u64) -> Result<Vec<u8>, HostError> {
        self.0.read_file(path, range, limit).await
    }

    async fn stat(&self, path: &str) -> Result<FileStat, HostError> {
        self.0.stat(path).await.map(plain)
    }

    async fn read_dir(&self, path: &str, pattern: Option<&str>) -> Result<Vec<FileStat>, HostError> {
        Ok(self.0.read_dir(path, pattern).await?.into_iter().map(plain).collect())
    }
}
