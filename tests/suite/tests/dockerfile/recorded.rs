//! A host that answers with what a BuildKit daemon had: files of a folder, recorded image configs, its session id.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rhost_dockerfile::convert::graph::{Graph, Op, Output, Platform};
use rhost_dockerfile::host::{Host, HostError, ImageConfigRequest, ResolvedImage, Ticket, Warning};
use serde::Deserialize;

#[derive(Deserialize)]
struct Recorded {
    digest: String,
    config: String,
}

/// Answers from a folder.
pub struct RecordedHost {
    pub options: Vec<(String, String)>,
    pub session: String,
    /// Where local sources lie.
    pub locals: BTreeMap<String, PathBuf>,
    images: BTreeMap<String, BTreeMap<String, Recorded>>,
    requests: RefCell<Vec<ImageConfigRequest>>,
    /// How many resolutions had been started when the first was waited for.
    pub started_before_first_wait: Cell<Option<usize>>,
    /// Results that the client lends.
    pub inputs: Vec<String>,
    /// Files behind anything that is not local, by its identifier or input name.
    pub remote: BTreeMap<String, Vec<u8>>,
    /// Dates of what is not local, by its identifier.
    pub dates: BTreeMap<String, i64>,
    /// What was reported.
    pub warnings: RefCell<Vec<Warning>>,
}

impl RecordedHost {
    pub fn new(folder: &Path) -> Self {
        let images = std::fs::read(folder.join("golden-images.json")).unwrap();
        Self {
            options: Vec::new(),
            session: String::new(),
            locals: BTreeMap::new(),
            images: serde_json::from_slice(&images).unwrap(),
            requests: RefCell::default(),
            started_before_first_wait: Cell::default(),
            inputs: Vec::new(),
            remote: BTreeMap::new(),
            dates: BTreeMap::new(),
            warnings: RefCell::default(),
        }
    }
}

impl Host for RecordedHost {
    fn options(&self) -> Vec<(String, String)> {
        self.options.clone()
    }

    fn build_platform(&self) -> Platform {
        Platform { os: "linux".into(), architecture: "amd64".into(), ..Platform::default() }
    }

    fn session(&self) -> Option<String> {
        Some(self.session.clone())
    }

    fn read_head(&self, graph: &Graph, root: Output, path: &str, length: u64) -> Result<Option<Vec<u8>>, HostError> {
        let mut file = self.read_files(graph, root, &[path])?.pop().flatten();
        if let Some(file) = &mut file {
            file.truncate(usize::try_from(length).unwrap_or(usize::MAX));
        }
        Ok(file)
    }

    fn read_files(&self, graph: &Graph, root: Output, paths: &[&str]) -> Result<Vec<Option<Vec<u8>>>, HostError> {
        let key = match &graph.node(root.node).op {
            Op::Source(source) => &source.identifier,
            Op::Input(name) => name,
            _ => return Err(HostError::new("not recorded")),
        };
        let Some(name) = key.strip_prefix("local://") else {
            let file = self.remote.get(key).ok_or_else(|| HostError::new(format!("`{key}` is not recorded")))?;
            // A remote source has one file, under any name that has no dot.
            return Ok(paths.iter().map(|p| (!p.contains('.')).then(|| file.clone())).collect());
        };
        let folder = self.locals.get(name).ok_or_else(|| HostError::new(format!("no local source `{name}`")))?;
        Ok(paths.iter().map(|p| std::fs::read(folder.join(p)).ok()).collect())
    }

    fn modified(&self, graph: &Graph, root: Output, _: Option<&str>) -> Result<Option<i64>, HostError> {
        let Op::Source(source) = &graph.node(root.node).op else { return Ok(None) };
        Ok(self.dates.get(&source.identifier).copied())
    }

    fn start_image_config(&self, request: &ImageConfigRequest) -> Ticket {
        let mut requests = self.requests.borrow_mut();
        requests.push(request.clone());
        Ticket(u32::try_from(requests.len() - 1).unwrap())
    }

    fn wait_image_config(&self, ticket: Ticket) -> Result<ResolvedImage, HostError> {
        let request = self.requests.borrow()[ticket.0 as usize].clone();
        let started = self.started_before_first_wait.get().unwrap_or(self.requests.borrow().len());
        self.started_before_first_wait.set(Some(started));
        let missing = || HostError::new(format!("{}: not found", request.reference));
        let platforms = self.images.get(&request.reference).ok_or_else(missing)?;
        let found = platforms.get(&request.platform.normalize().format()).ok_or_else(missing)?;
        Ok(ResolvedImage {
            reference: request.reference.clone(),
            digest: Some(found.digest.clone()),
            config: found.config.clone().into_bytes(),
        })
    }

    fn has_input(&self, name: &str) -> bool {
        self.inputs.iter().any(|n| n == name)
    }

    fn warn(&self, warning: &Warning) {
        self.warnings.borrow_mut().push(warning.clone());
    }

    fn log(&self, _: &str) {}
}
