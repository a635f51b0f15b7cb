//! Whose fault a failure is: the rooms' typed errors become kind, place and way out, in one place for all of them.
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use rhost_frontend::RunError;
use rhost_registry::{Error as RegistryError, ErrorKind, Reference, UrlError};
use rhost_solver::SolveError;

use crate::error::{BuildError, Kind, Place};
use crate::op_error::OpFailure;
use crate::rules::{Refusal, SignatureError};
use crate::session::Session;

pub(crate) fn missing_build_file(path: &Path, error: &std::io::Error) -> BuildError {
    let message = format!("cannot read the build file `{}`: {error}", path.display());
    let found = BuildError::new(Kind::Request, message);
    if error.kind() == std::io::ErrorKind::NotFound {
        match path.parent().and_then(|directory| other_build_file(directory, 2)) {
            Some(other) => found.hint(format!("there is `{0}`: name it with -f {0}", other.display())),
            None => found.hint("name another with -f, or write one: `FROM` an image, then `RUN` and `COPY`"),
        }
    } else {
        found
    }
}

/// What looks like a build file below `directory`, the nearest first; of a large tree only the beginning is looked at.
fn other_build_file(directory: &Path, depth: usize) -> Option<PathBuf> {
    let mut entries: Vec<_> = std::fs::read_dir(directory).ok()?.flatten().take(500).collect();
    entries.sort_by_key(std::fs::DirEntry::file_name);
    let is_one = |name: &str| {
        let name = name.to_lowercase();
        ["dockerfile", "containerfile"].iter().any(|usual| name.starts_with(usual) || name.ends_with(usual))
    };
    let here = entries.iter().find(|entry| {
        entry.file_type().is_ok_and(|kind| kind.is_file()) && entry.file_name().to_str().is_some_and(is_one)
    });
    if let Some(found) = here {
        return Some(found.path());
    }
    let deeper = entries.iter().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    if depth > 1 { deeper.take(50).find_map(|entry| other_build_file(&entry.path(), depth - 1)) } else { None }
}

/// A registry's failure, for whatever it was asked. A name that is not there is the fault of who wrote it, which is `wrong_name`.
pub(crate) fn registry(error: &RegistryError, message: String, wrong_name: Kind) -> BuildError {
    let kind = match error.kind() {
        ErrorKind::Local => Kind::Store,
        ErrorKind::Usage => Kind::Request,
        ErrorKind::NotFound | ErrorKind::NoPlatform => wrong_name,
        _ => Kind::Network,
    };
    let mut found = BuildError::new(kind, message);
    found.hints.extend(error.hint());
    found
}

/// A frontend that cannot be had from its registry.
pub(crate) fn frontend_pull(error: &RegistryError, reference: &Reference) -> BuildError {
    let mut found = registry(error, format!("frontend `{reference}`: {error}"), Kind::Frontend);
    if let RegistryError::NotWasm { .. } | RegistryError::TooLarge { .. } = error {
        found.kind = Kind::Frontend;
    }
    found
}

/// What a rule forbids.
pub(crate) fn policy(refusal: &Refusal, message: String) -> BuildError {
    let hint = format!(
        "rules are made to be kept; where this one is too strict, change `{}` in `{}`",
        refusal.key,
        refusal.file.display()
    );
    BuildError::new(Kind::Policy, message).hint(hint)
}

/// An image without the signature that a rule wants.
pub(crate) fn signature(error: &SignatureError, message: String) -> BuildError {
    match error {
        SignatureError::Missing(refusal) => BuildError::new(Kind::Policy, message).hint(format!(
            "sign it (`cosign sign --key cosign.key NAME@DIGEST`), or add the key that it is signed by to `{}` in `{}`",
            refusal.key,
            refusal.file.display()
        )),
        SignatureError::Registry { error, .. } => registry(error, message, Kind::Network),
    }
}

/// The way out of a full disk.
pub(crate) const MAKE_ROOM: &str =
    "free some space on the file system that holds the store (--root); `rhost prune` removes what no build uses";

/// The same for a store that is known.
pub(crate) fn make_room(store: &rhost_store::Store) -> String {
    let place = store.root().display();
    format!(
        "the file system that holds the store `{place}` is full: free some space; `rhost prune` removes what no build uses"
    )
}

/// Whether a full disk or a used-up quota is the cause, however deep.
pub(crate) fn is_no_space(error: &(dyn std::error::Error + 'static)) -> bool {
    if let Some(error) = error.downcast_ref::<std::io::Error>() {
        return match error.get_ref() {
            Some(inner) => is_no_space(inner),
            None => matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT)),
        };
    }
    error.downcast_ref::<rhost_store::Error>().is_some_and(rhost_store::Error::is_no_space)
        || error.downcast_ref::<rhost_rootfs::Error>().is_some_and(rhost_rootfs::Error::is_no_space)
        || error.source().is_some_and(is_no_space)
}

/// The store's failure.
pub(crate) fn store(error: &rhost_store::Error) -> BuildError {
    let found = BuildError::new(Kind::Store, error);
    if error.is_no_space() {
        found.hint(MAKE_ROOM)
    } else if error.is_not_writable() {
        found.hint("the store must be a directory that you own and can write: name another with --root")
    } else {
        found
    }
}

/// Whose fault it is that a file at a URL was not had.
fn url_kind(error: &UrlError) -> Kind {
    match error {
        UrlError::Wrong { .. } | UrlError::Client(_) => Kind::Request,
        UrlError::Local { .. } => Kind::Store,
        UrlError::Forbidden { .. } => Kind::Policy,
        _ => Kind::Network,
    }
}

/// A failed solve.
pub(crate) fn solve(error: SolveError) -> BuildError {
    let SolveError::Op { vertex, error } = error else { return BuildError::new(Kind::Build, error) };
    let message = error.to_string();
    let mut found = match error.0.downcast_ref::<OpFailure>() {
        Some(OpFailure::Nested(inner)) => (**inner).clone(),
        Some(failure) if is_no_space(failure) => BuildError::new(Kind::Store, message).hint(MAKE_ROOM),
        Some(OpFailure::NotHere(..) | OpFailure::NotAsLocked { .. }) => BuildError::new(Kind::Sources, message),
        Some(failure) if failure.is_offline() => BuildError::new(Kind::Sources, message),
        Some(OpFailure::Registry(error)) => registry(error, message, Kind::Network),
        Some(OpFailure::Git(error)) => BuildError::new(error.kind(), message),
        Some(OpFailure::Url(error)) => BuildError::new(url_kind(error), message),
        Some(OpFailure::Store(_) | OpFailure::Overlay(_)) => BuildError::new(Kind::Store, message),
        Some(OpFailure::Refused(refusal)) => policy(refusal, message),
        Some(OpFailure::Signature(error)) => signature(error, message),
        Some(OpFailure::Exit { code, .. }) => {
            let mut found = BuildError::new(Kind::Build, message);
            found.hints.extend(crate::op_error::exit_hint(*code));
            found
        }
        Some(OpFailure::NoRunner(reason)) => BuildError::new(Kind::Build, message).hint(reason.hint()),
        _ => BuildError::new(Kind::Build, message),
    };
    if let Some(failure) = error.0.downcast_ref::<OpFailure>() {
        found.hints.extend(failure.hints());
    }
    found.vertex = Some(vertex);
    found
}

/// What is not here, all of it; else `failure`.
pub(crate) fn missing(pins: &crate::lock::Pins, failure: OpFailure) -> BuildError {
    pins.refusal().unwrap_or_else(|| {
        let hints = failure.hints();
        let mut found = BuildError::new(Kind::Sources, failure);
        found.hints = hints;
        found
    })
}

/// What a frontend says about the build file. Where it only hands on what a registry told it, the registry is to blame.
fn refused(session: &Session, message: &str) -> BuildError {
    let failures = session.failures.lock().unwrap_or_else(PoisonError::into_inner);
    let cause = failures.iter().find(|failure| message.contains(&failure.message));
    let mut error = BuildError::new(cause.map_or(Kind::BuildFile, |failure| failure.kind), message);
    error.hints.extend(cause.into_iter().flat_map(|failure| failure.hints.clone()));
    error
}

/// A failed run of the frontend.
pub(crate) fn frontend(session: &Session, file: &str, error: RunError) -> BuildError {
    let findings = session.findings.lock().unwrap_or_else(PoisonError::into_inner);
    let worst = findings.iter().rfind(|finding| finding.severity == rhost_frontend::Severity::Error);
    match (error, worst) {
        (RunError::Refused { .. }, Some(finding)) => {
            let mut error = refused(session, &finding.message);
            error.hints.extend(finding.help.clone());
            error.place = finding.marks.first().map(|mark| Place {
                file: if mark.source.filename.is_empty() { file.to_owned() } else { mark.source.filename.clone() },
                first_line: mark.range.start.0,
                last_line: mark.range.end.0,
                text: String::from_utf8_lossy(&mark.source.data).into_owned(),
            });
            error
        }
        (RunError::Refused { error, .. }, None) => refused(session, &error.to_string()),
        (RunError::Stopped { identity, stop, backtrace, place }, _) => {
            let mut error = BuildError::new(Kind::Frontend, format!("{identity} {stop}"));
            if !backtrace.is_empty() {
                error.hints.push(format!("in the frontend: {}", backtrace.join(" <- ")));
            }
            if let Some((source, range)) = place.filter(|(_, range)| range.start.0 > 0) {
                let file = if source.filename.is_empty() { file.to_owned() } else { source.filename.clone() };
                error.hints.push(format!("the frontend spoke of {file}:{} last", range.start.0));
                error.place = Some(Place {
                    file,
                    first_line: range.start.0,
                    last_line: range.end.0.max(range.start.0),
                    text: String::from_utf8_lossy(&source.data).into_owned(),
                });
            }
            error.hints.push(format!("the whole digest of the frontend is {}", identity.digest));
            error
        }
        (error, _) => BuildError::new(Kind::Frontend, error),
    }
}
