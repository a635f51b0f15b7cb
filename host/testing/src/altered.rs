//! `Altered`: a test's world in which one thing is otherwise: another build file, contexts that are denied, images that are gone.
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use rhost_frontend::{
    ByteRange, FileKind, FileStat, FrontendHost, HostError, ImageQuery, Report, ResolvedImage, SolvedTree,
};
use rhost_llb::Definition;

use crate::case::Case;
use crate::fake::FakeHost;

/// What is otherwise; `None` and `false` are as in the test.
#[derive(Debug, Clone, Default)]
pub struct Alteration {
    /// What the build file holds; the inner `None`: it is not there.
    pub build_file: Option<Option<Vec<u8>>>,
    /// What every question on contexts is answered with.
    pub contexts: Option<HostError>,
    /// What every image and solve is answered with.
    pub promises: Option<HostError>,
    /// The first promise takes its time, so that later ones are kept before it.
    pub first_is_late: bool,
    /// No feature is there.
    pub no_features: bool,
}

/// A host for one run.
pub struct Altered {
    inner: FakeHost,
    build_file: String,
    alteration: Alteration,
    /// Nothing was promised yet, and the first is late.
    is_late: AtomicBool,
}

/// How long a late answer takes: much longer than one that is at hand.
const LATE: Duration = Duration::from_millis(50);

impl Altered {
    /// The world of `case`, altered.
    pub fn new(case: Case, alteration: Alteration) -> Self {
        let is_late = AtomicBool::new(alteration.first_is_late);
        Self { build_file: case.invocation.build_file.clone(), inner: FakeHost::new(case), alteration, is_late }
    }

    /// What was reported.
    pub fn reports(&self) -> Vec<Report> {
        self.inner.reports()
    }

    fn denied(&self) -> Result<(), HostError> {
        self.alteration.contexts.clone().map_or(Ok(()), Err)
    }

    /// What every promise waits for.
    async fn promise(&self) -> Result<(), HostError> {
        if self.is_late.swap(false, Ordering::Relaxed) {
            tokio::time::sleep(LATE).await;
        }
        self.alteration.promises.clone().map_or(Ok(()), Err)
    }

    /// The build file, if it is that and altered.
    fn file(&self, context: &str, path: &str) -> Option<Result<&[u8], HostError>> {
        let is = matches!(context, "dockerfile" | "context")
            && path.trim_start_matches("./").trim_start_matches('/') == self.build_file;
        let altered = self.alteration.build_file.as_ref().filter(|_| is)?;
        let gone = || HostError::NotFound(format!("`{path}`: no such file or directory"));
        Some(altered.as_deref().ok_or_else(gone))
    }
}

fn slice(bytes: &[u8], range: Option<ByteRange>) -> Vec<u8> {
    let Some(range) = range else { return bytes.to_vec() };
    let at = |number: u64| usize::try_from(number).unwrap_or(usize::MAX).min(bytes.len());
    bytes[at(range.offset)..at(range.offset.saturating_add(range.length))].to_vec()
}

#[async_trait]
impl FrontendHost for Altered {
    fn contexts(&self) -> Vec<String> {
        self.inner.contexts()
    }

    async fn read_file(
        &self,
        context: &str,
        path: &str,
        range: Option<ByteRange>,
        limit: u64,
    ) -> Result<Vec<u8>, HostError> {
        self.denied()?;
        match self.file(context, path) {
            Some(bytes) => bytes.map(|bytes| slice(bytes, range)),
            None => self.inner.read_file(context, path, range, limit).await,
        }
    }

    async fn stat(&self, context: &str, path: &str) -> Result<FileStat, HostError> {
        self.denied()?;
        let Some(bytes) = self.file(context, path) else { return self.inner.stat(context, path).await };
        let size = bytes?.len() as u64;
        let name = path.rsplit('/').next().unwrap_or_default().to_owned();
        let kind = FileKind::Regular;
        Ok(FileStat { name, kind, mode: 0o644, uid: 0, gid: 0, size, modified: 0, link_target: String::new() })
    }

    async fn read_dir(&self, context: &str, path: &str, pattern: Option<&str>) -> Result<Vec<FileStat>, HostError> {
        self.denied()?;
        self.inner.read_dir(context, path, pattern).await
    }

    async fn resolve_image(&self, query: ImageQuery) -> Result<ResolvedImage, HostError> {
        self.promise().await?;
        self.inner.resolve_image(query).await
    }

    async fn solve(&self, definition: Definition) -> Result<Arc<dyn SolvedTree>, HostError> {
        self.promise().await?;
        self.inner.solve(definition).await
    }

    fn supports(&self, feature: &str) -> bool {
        !self.alteration.no_features && self.inner.supports(feature)
    }

    fn report(&self, report: Report) {
        self.inner.report(report);
    }
}
