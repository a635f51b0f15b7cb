//! A compiler with a cache of its own, and a host that records.
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use rhost_frontend::*;
use rhost_llb::{Definition, Platform};

pub struct Kit {
    pub engine: Engine,
    pub compiler: Compiler,
    _directory: tempfile::TempDir,
}

pub fn kit() -> Kit {
    let directory = tempfile::tempdir().unwrap();
    let compiler = Compiler {
        cache: directory.path().join("guests-v1"),
        command: env!("CARGO_BIN_EXE_rhost-frontend-compile").into(),
        arguments: Vec::new(),
        limits: CompileLimits::default(),
    };
    Kit { engine: Engine::new(Allocation::OnDemand).unwrap(), compiler, _directory: directory }
}

impl Kit {
    pub async fn load(&self, bytes: &[u8]) -> Result<Frontend, LoadError> {
        self.engine.compile("x.wasm", bytes, &self.compiler).await
    }

    pub async fn run(&self, bytes: &[u8]) -> Result<Outcome, RunError> {
        let frontend = self.load(bytes).await.unwrap();
        let invocation = Invocation::new("build", Platform::new("linux", "amd64", ""));
        frontend.build(Host::new(&[]), invocation, &Limits::HOSTILE).await
    }
}

#[derive(Default)]
pub struct Host {
    pub files: BTreeMap<String, Vec<u8>>,
    pub reports: Mutex<Vec<Report>>,
}

impl Host {
    pub fn new(files: &[(&str, &str)]) -> Arc<Self> {
        let files = files.iter().map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec())).collect();
        Arc::new(Self { files, reports: Mutex::default() })
    }
}

#[async_trait]
impl FrontendHost for Host {
    fn contexts(&self) -> Vec<String> {
        vec!["context".into(), "dockerfile".into()]
    }
    async fn read_file(
        &self,
        _context: &str,
        path: &str,
        _range: Option<ByteRange>,
        _limit: u64,
    ) -> Result<Vec<u8>, HostError> {
        let found = self.files.get(path.trim_start_matches('/')).cloned();
        found.ok_or_else(|| HostError::NotFound(format!("{path}: no such file")))
    }
    async fn stat(&self, _context: &str, path: &str) -> Result<FileStat, HostError> {
        Err(HostError::NotFound(path.into()))
    }
    async fn read_dir(&self, _context: &str, _path: &str, _pattern: Option<&str>) -> Result<Vec<FileStat>, HostError> {
        Ok(Vec::new())
    }
    async fn resolve_image(&self, query: ImageQuery) -> Result<ResolvedImage, HostError> {
        let config = format!(
            r#"{{"architecture":"{}","os":"linux","config":{{"Env":["PATH=/bin"]}},"rootfs":{{"type":"layers","diff_ids":["sha256:{}"]}}}}"#,
            query.platform.architecture,
            "b".repeat(64)
        );
        let reference = query.reference.trim_start_matches("docker-image://").to_owned();
        Ok(ResolvedImage { reference, digest: format!("sha256:{}", "a".repeat(64)), config: config.into_bytes() })
    }
    async fn solve(&self, _definition: Definition) -> Result<Arc<dyn SolvedTree>, HostError> {
        Err(HostError::Unsupported("nothing is solved here".into()))
    }
    fn supports(&self, _feature: &str) -> bool {
        false
    }
    fn report(&self, report: Report) {
        self.reports.lock().unwrap().push(report);
    }
}
