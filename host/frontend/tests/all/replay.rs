//! A guest's answer is believed again while all that it was told is as it was.
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use rhost_frontend::*;
use rhost_llb::{Definition, Platform};

use crate::kit::Host;

/// A host whose answers can be changed, and counted.
struct Asked {
    inner: Arc<Host>,
    image: &'static str,
    images: AtomicUsize,
}

fn host(files: &[(&str, &str)], image: &'static str) -> Arc<Asked> {
    Arc::new(Asked { inner: Host::new(files), image, images: AtomicUsize::new(0) })
}

#[async_trait]
impl FrontendHost for Asked {
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
        self.inner.read_file(context, path, range, limit).await
    }
    async fn stat(&self, context: &str, path: &str) -> Result<FileStat, HostError> {
        self.inner.stat(context, path).await
    }
    async fn read_dir(&self, context: &str, path: &str, pattern: Option<&str>) -> Result<Vec<FileStat>, HostError> {
        self.inner.read_dir(context, path, pattern).await
    }
    async fn resolve_image(&self, query: ImageQuery) -> Result<ResolvedImage, HostError> {
        self.images.fetch_add(1, Ordering::Relaxed);
        if self.image.is_empty() {
            return Err(HostError::Failed("the registry is away".into()));
        }
        let found = self.inner.resolve_image(query).await?;
        Ok(ResolvedImage { digest: format!("sha256:{}", self.image.repeat(64)), ..found })
    }
    async fn solve(&self, _: Definition) -> Result<Arc<dyn SolvedTree>, HostError> {
        Err(HostError::Unsupported("nothing is solved here".into()))
    }
    fn supports(&self, feature: &str) -> bool {
        self.inner.supports(feature)
    }
    fn report(&self, report: Report) {
        self.inner.report(report);
    }
}

fn query() -> ImageQuery {
    ImageQuery {
        reference: "busybox".into(),
        platform: Platform::new("linux", "amd64", ""),
        mode: ResolveMode::Default,
        store: None,
        progress_name: None,
    }
}

fn outcome() -> Outcome {
    let target = Target {
        platform: Platform::new("linux", "arm", "v7"),
        definition: Definition::default(),
        config: br#"{"os":"linux"}"#.to_vec(),
    };
    Outcome { targets: vec![target], metadata: [("k".to_owned(), b"v".to_vec())].into() }
}

fn warning() -> Report {
    Report::Log { level: Level::Warn, message: "mind the gap".into() }
}

/// What a guest does that reads a file and an image, as a transcript that was stored and read again.
async fn record(host: Arc<Asked>) -> Arc<Transcript> {
    let recorder = Recorder::new(host);
    let _ = recorder.read_file("context", "a", None, 100).await;
    let _ = recorder.read_file("context", "gone", None, 100).await;
    recorder.contexts();
    recorder.supports("x");
    recorder.resolve_image(query()).await.unwrap();
    recorder.report(warning());
    let transcript = recorder.transcript(&outcome()).unwrap();
    Arc::new(Transcript::decode(&transcript.encode().unwrap()).unwrap())
}

#[tokio::test]
async fn the_same_answers_give_the_same_outcome_and_reports() {
    let transcript = record(host(&[("a", "1")], "a")).await;
    let again = host(&[("a", "1")], "a");
    let replayed = Recorder::new(again.clone()).replay(&transcript).await.expect("is believed");
    assert_eq!(format!("{replayed:?}"), format!("{:?}", outcome()));
    assert_eq!(*again.inner.reports.lock().unwrap(), [warning()]);
}

#[tokio::test]
async fn another_answer_is_not_believed() {
    let transcript = record(host(&[("a", "1")], "a")).await;
    let cases = [
        (host(&[("a", "2")], "a"), "another file", 0),
        (host(&[("a", "1"), ("gone", "")], "a"), "a file that was not there", 0),
        (host(&[("a", "1")], "b"), "another image", 1),
        (host(&[("a", "1")], ""), "no image", 1),
    ];
    for (host, what, images) in cases {
        let recorder = Recorder::new(host.clone());
        assert!(recorder.replay(&transcript).await.is_none(), "{what}");
        assert!(host.inner.reports.lock().unwrap().is_empty(), "{what}");
        assert_eq!(host.images.load(Ordering::Relaxed), images, "images come last: {what}");
        // The guest that runs now is told the same, and the image is not asked for again.
        let _ = recorder.resolve_image(query()).await;
        assert_eq!(host.images.load(Ordering::Relaxed), 1, "{what}");
    }
}

#[tokio::test]
async fn a_guest_that_had_something_solved_has_no_transcript() {
    let recorder = Recorder::new(host(&[], "a"));
    let _ = recorder.solve(Definition::default()).await;
    assert!(recorder.transcript(&outcome()).is_none());
}

#[test]
fn damaged_transcripts_are_none() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let bytes = runtime.block_on(record(host(&[], "a"))).encode().unwrap();
    for length in 0..bytes.len() {
        assert!(Transcript::decode(&bytes[..length]).is_none(), "{length} bytes");
    }
}

/// Of a graph of ten thousand vertices: what is kept is small, and the same when it is read again.
#[tokio::test]
async fn a_long_answer_is_kept_in_few_bytes() {
    let recorder = Recorder::new(host(&[], "a"));
    let definition = Definition {
        def: (0..10_000)
            .map(|number| format!("an op with number {number}, {}", "and much the same ".repeat(20)).into())
            .collect(),
        ..Definition::default()
    };
    let mut outcome = outcome();
    outcome.targets[0].definition = definition;
    let kept = recorder.transcript(&outcome).unwrap().encode().expect("it is worth keeping");
    assert!(kept.len() < 400_000, "{} bytes", kept.len());
    let read = Arc::new(Transcript::decode(&kept).expect("it is read again"));
    let again = Recorder::new(host(&[], "a")).replay(&read).await.expect("nothing was asked");
    assert_eq!(format!("{again:?}"), format!("{outcome:?}"));
    assert!(Transcript::decode(&kept[..kept.len() / 2]).is_none(), "cut short");
}
