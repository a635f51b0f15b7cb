//! Where a build's files come from: the context (a directory, a URL, stdin), its build file, and contexts by name. Which is which is told as buildx
//! tells it: a directory that is there is one, whatever its name looks like.
use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};

use crate::project::Project;
use rhost_engine::{BuildError, BuildFile, Context, Engine, HEAD, Kind, NamedContext, RemoteUrl, looks_like_archive};

fn wrong(message: impl std::fmt::Display) -> BuildError {
    BuildError::new(Kind::Request, message)
}

/// The context, and the build file that `-f` names for it.
///
/// # Errors
/// Neither directory nor URL; nothing on stdin; two things wanted of stdin.
pub fn main(
    engine: &Engine,
    context: &Path,
    file: Option<PathBuf>,
    project: &Project,
) -> Result<(Context, BuildFile), BuildError> {
    let text = context.to_string_lossy();
    let from_stdin = file.as_ref().is_some_and(|file| file.as_os_str() == "-");
    if text == "-" {
        if from_stdin {
            return Err(wrong("both the context and the build file are wanted from stdin")
                .hint("put the build file into the archive, or name a directory: `rhost build -f - .`"));
        }
        return stdin_context(engine, file);
    }
    if !context.is_dir()
        && let Some(url) = RemoteUrl::parse(&text).map_err(|reason| wrong(format!("context `{text}`: {reason}")))?
    {
        let file = match file {
            None => BuildFile::InContext(None),
            Some(_) if from_stdin => stdin_build_file()?,
            Some(path) => match url_of_build_file(&path)? {
                Some(found) => found,
                None if path.is_absolute() => BuildFile::Path(path),
                None => BuildFile::InContext(Some(relative(&path)?)),
            },
        };
        return Ok((Context::Remote(url), file));
    }
    let context = directory(context)?;
    let file = match file {
        Some(_) if from_stdin => stdin_build_file()?,
        Some(path) => match url_of_build_file(&path)? {
            Some(found) => found,
            None => local_build_file(&context, path)?,
        },
        None => BuildFile::Path(usual(&context, project)?),
    };
    Ok((Context::Directory(context), file))
}

/// The build file of a directory that nobody names: a `Dockerfile`, as BuildKit's clients want it, else what other builders call theirs, else the
/// one file that a pattern of `rhost.toml` is for.
fn usual(context: &Path, project: &Project) -> Result<PathBuf, BuildError> {
    let usual = context.join("Dockerfile");
    let there = ["Dockerfile", "dockerfile", "Containerfile"].into_iter().map(|name| context.join(name));
    if let Some(found) = there.into_iter().find(|path| path.exists()) {
        return Ok(found);
    }
    let Some(rules) = project.file.as_ref().filter(|rules| !rules.patterns().is_empty()) else { return Ok(usual) };
    let entries = std::fs::read_dir(context).map_err(|error| wrong(format!("`{}`: {error}", context.display())))?;
    let files = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| !kind.is_dir()));
    let mut found: Vec<_> =
        files.filter(|entry| entry.file_name().to_str().is_some_and(|name| rules.reads(name))).collect();
    found.sort_by_key(std::fs::DirEntry::file_name);
    match &found[..] {
        [] => Ok(usual),
        [only] => Ok(only.path()),
        several => {
            let names: Vec<_> = several.iter().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
            let message = format!("`{}` has several build files: {}", context.display(), names.join(", "));
            Err(wrong(message).hint(format!("name one with -f, as in `-f {}`", several[0].path().display())))
        }
    }
}

/// `-`: an archive is the context, anything else a build file without one.
fn stdin_context(engine: &Engine, file: Option<PathBuf>) -> Result<(Context, BuildFile), BuildError> {
    let (head, rest) = stdin("context `-`")?;
    if looks_like_archive(&head) {
        let upload = engine.receive(&mut std::io::Cursor::new(head).chain(rest))?;
        let file = match file {
            None => BuildFile::InContext(None),
            Some(path) => match url_of_build_file(&path)? {
                Some(found) => found,
                None => BuildFile::InContext(Some(relative(&path)?)),
            },
        };
        return Ok((Context::Archive(upload), file));
    }
    if let Some(path) = file {
        let message = format!("-f {}: stdin is a build file, too (it is no tar archive)", path.display());
        return Err(wrong(message).hint("leave out one of them"));
    }
    Ok((Context::Empty, BuildFile::Text(whole(head, rest, "context `-`")?)))
}

fn stdin_build_file() -> Result<BuildFile, BuildError> {
    let (head, rest) = stdin("-f -")?;
    Ok(BuildFile::Text(whole(head, rest, "-f -")?))
}

fn whole(mut head: Vec<u8>, mut rest: impl Read, what: &str) -> Result<Vec<u8>, BuildError> {
    rest.read_to_end(&mut head).map_err(|error| wrong(format!("{what}: stdin: {error}")))?;
    Ok(head)
}

/// The beginning of stdin, and the rest of it.
fn stdin(what: &str) -> Result<(Vec<u8>, impl Read + 'static), BuildError> {
    let mut stdin = std::io::stdin().lock();
    if stdin.is_terminal() {
        return Err(wrong(format!("{what}: stdin is a terminal")).hint(
            "write `rhost build - < Dockerfile`, `rhost build - < context.tar.gz` or `rhost build -f - . < Dockerfile`",
        ));
    }
    let mut head = Vec::with_capacity(HEAD);
    (&mut stdin).take(HEAD as u64).read_to_end(&mut head).map_err(|error| wrong(format!("{what}: stdin: {error}")))?;
    if head.is_empty() {
        return Err(
            wrong(format!("{what}: stdin is empty")).hint("wanted a build file, or (for the context) a tar archive")
        );
    }
    Ok((head, stdin))
}

/// The path of a build file in a context that is elsewhere.
fn relative(path: &Path) -> Result<String, BuildError> {
    let text = path.to_str().ok_or_else(|| wrong(format!("-f {}: the name is not UTF-8", path.display())))?;
    let text = text.trim_start_matches('/').trim_start_matches("./");
    if text.is_empty() || path.components().any(|part| part == std::path::Component::ParentDir) {
        return Err(wrong(format!("-f {}: wanted the path of a file in the context", path.display())));
    }
    Ok(text.to_owned())
}

fn url_of_build_file(path: &Path) -> Result<Option<BuildFile>, BuildError> {
    let text = path.to_string_lossy();
    if !text.starts_with("http://") && !text.starts_with("https://") {
        return Ok(None);
    }
    let url = RemoteUrl::parse(&text).map_err(|reason| wrong(format!("-f {text}: {reason}")))?;
    Ok(url.map(BuildFile::Remote))
}

fn directory(context: &Path) -> Result<PathBuf, BuildError> {
    let text = context.to_string_lossy();
    let context = std::path::absolute(context).map_err(wrong)?;
    match std::fs::metadata(&context) {
        Ok(found) if found.is_dir() => Ok(context),
        Ok(_) => Err(wrong(format!("context `{}` is no directory", context.display())).hint(format!(
            "the context is the directory that COPY and ADD read from; a build file is named with -f: `rhost build -f {text} .`, an archive is given on stdin: `rhost build - < {text}`"
        ))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let failed = wrong(format!("context `{}`: there is no such directory", context.display()));
            let host = text.split('/').next().unwrap_or_default();
            Err(if text.contains('/') && host.contains('.') && !text.starts_with('.') {
                failed.hint(format!("if it is a URL, write its scheme: `https://{text}`"))
            } else {
                failed.hint("for the directory you are in, write `rhost build .`")
            })
        }
        Err(error) => Err(wrong(format!("context `{}`: {error}", context.display()))),
    }
}

/// `-f` beside a directory: relative to the working directory.
fn local_build_file(context: &Path, path: PathBuf) -> Result<BuildFile, BuildError> {
    if !path.exists() && path.is_relative() && context.join(&path).is_file() {
        let message = format!("-f {}: there is no such file; -f is relative to the working directory", path.display());
        let there = context.join(&path);
        let there = std::env::current_dir()
            .ok()
            .and_then(|here| Some(there.strip_prefix(here).ok()?.to_owned()))
            .unwrap_or(there);
        return Err(wrong(message).hint(format!("the context has one: `-f {}`", there.display())));
    }
    Ok(BuildFile::Path(std::path::absolute(path).map_err(wrong)?))
}

/// The value of `--build-context NAME=value`; `text` is all of it.
///
/// # Errors
/// Neither directory nor URL.
pub fn named(text: &str, value: &str) -> Result<NamedContext, BuildError> {
    if let Some(reference) = value.strip_prefix("docker-image://") {
        return Ok(NamedContext::Image(reference.to_owned()));
    }
    if let Some(rest) = value.strip_prefix("oci-layout://") {
        let (directory, reference) = match rest.split_once('@') {
            Some((directory, digest)) => (directory, Some(digest)),
            None => match rest.rsplit_once(':') {
                Some((directory, tag)) if !tag.contains('/') => (directory, Some(tag)),
                _ => (rest, None),
            },
        };
        let directory = std::path::absolute(directory).map_err(wrong)?;
        return Ok(NamedContext::OciLayout { directory, reference: reference.map(str::to_owned) });
    }
    let directory = std::path::absolute(value).map_err(wrong)?;
    if directory.is_dir() {
        return Ok(NamedContext::Directory(directory));
    }
    match RemoteUrl::parse(value).map_err(|reason| {
        wrong(format!("--build-context {text}: {reason}"))
            .hint("`docker-image://REF` and `oci-layout://DIR` are contexts, too")
    })? {
        Some(url) => Ok(NamedContext::Remote(url)),
        None => Err(wrong(format!("--build-context {text}: `{}` is no directory", directory.display()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn build_files_of_remote_contexts_are_inside() {
        let name = |text: &str| relative(Path::new(text)).ok();
        assert_eq!(name("sub/Dockerfile").as_deref(), Some("sub/Dockerfile"));
        assert_eq!(name("./Dockerfile").as_deref(), Some("Dockerfile"));
        assert_eq!(name("/Dockerfile").as_deref(), Some("Dockerfile"));
        assert_eq!((name("../x"), name("a/../../x"), name("/")), (None, None, None));
    }

    #[test]
    fn named_contexts_are_directories_images_layouts_or_urls() {
        let kind = |value: &str| named("n=v", value);
        assert!(matches!(kind("docker-image://a"), Ok(NamedContext::Image(_))));
        assert!(matches!(kind("/"), Ok(NamedContext::Directory(_))));
        assert!(matches!(kind("https://h/a.git#v1"), Ok(NamedContext::Remote(_))));
        assert!(matches!(kind("https://h/a.tar"), Ok(NamedContext::Remote(_))));
        assert!(kind("s3://h/a").is_err_and(|error| error.message.contains("`s3` is no kind of context")));
        assert!(kind("/no/such/directory").is_err());
    }
}
