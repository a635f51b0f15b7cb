//! Contexts that are elsewhere: git repositories, archives and files at URLs, archives on stdin.
//!
//! BuildKit's frontends fetch such a context themselves, by a source operation. Here the engine does it first, by the very same operation (equal
//! vertices of a build are one, so it is fetched once): it must read the `# syntax=` line before it knows the frontend, and what it has it can also
//! show to frontends that know of directories only.
use std::io::Read as _;

use rhost_llb::{
    CopyFrom, Definition, FileActionCopy, FileChain, FileStep, GraphBuilder, Limits, Platform, SourceOp, State,
    VertexOptions, attr,
};
use rhost_registry::redact;
use rhost_rootfs::{Compression, Last, Root};

use crate::blame;
use crate::error::{BuildError, Kind};
use crate::git_url::GitUrl;
use crate::op_error::blocking;
use crate::ops::Nest;
use crate::session::Session;
use crate::uploads::Upload;
use crate::value::Value;

/// Name of the file that a context at a URL is stored as: BuildKit's.
const FILE: &str = "context";
/// Bytes that tell an archive from a build file: one header of tar.
pub const HEAD: usize = 512;
/// Largest build file that is read from a remote context, in bytes: what frontends may read at once.
const LARGEST_BUILD_FILE: u64 = 16 << 20;

/// A context that is not on this machine.
#[derive(Debug, Clone)]
pub struct RemoteUrl {
    /// As written.
    text: String,
    git: Option<GitUrl>,
}

impl RemoteUrl {
    /// Reads `text`; `None` if it is no URL.
    ///
    /// # Errors
    /// It is one, but of a kind that nobody fetches, or malformed.
    pub fn parse(text: &str) -> Result<Option<Self>, String> {
        if let Some(git) = GitUrl::parse(text)? {
            return Ok(Some(Self { text: text.to_owned(), git: Some(git) }));
        }
        match text.split_once("://") {
            Some(("http" | "https", _)) => {
                rhost_registry::UrlRequest::new(text).map_err(|error| error.to_string())?;
                if let Some((_, part)) = text.split_once('#') {
                    return Err(format!(
                        "`#{part}` would be a branch and a directory of a git repository, whose URL ends in .git; what else is at a URL is taken whole"
                    ));
                }
                Ok(Some(Self { text: text.to_owned(), git: None }))
            }
            Some((scheme, _)) => Err(format!(
                "`{scheme}` is no kind of context: there are directories, `https://…` and `http://…` (an archive, a build file, or a repository when it ends in .git), `git://…`, `ssh://…`, `USER@HOST:PATH`, `github.com/…` and `-`"
            )),
            None => Ok(None),
        }
    }

    /// As written, which is what frontends are told.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The same as the value of a named context, where the short form of GitHub's repositories is not known.
    pub(crate) fn named(&self) -> String {
        if !self.text.starts_with("github.com/") {
            return self.text.clone();
        }
        let (place, rest) = self.text.split_at(self.text.find(['?', '#']).unwrap_or(self.text.len()));
        format!("https://{}.git{rest}", place.trim_end_matches(".git").trim_end_matches('/'))
    }
}

const WANTED: &str = "wanted a tar archive with a build file in it (plain, or compressed with gzip, bzip2, xz or zstd), or a build file as plain text; the URL of a git \
     repository ends in .git";

/// Whether bytes that begin so are an archive that can be unpacked, or compressed: such a file is no build file.
pub fn looks_like_archive(head: &[u8]) -> bool {
    Compression::detect(head) != Compression::None || is_tar_header(head)
}

/// Whether `head` begins with a header of tar: its checksum is right, of bytes that are signed or not (POSIX, pax).
fn is_tar_header(head: &[u8]) -> bool {
    let Some(header) = head.get(..HEAD) else { return false };
    let field = &header[148..156];
    let digits: String = field.iter().map(|byte| char::from(*byte)).filter(|c| !matches!(c, ' ' | '\0')).collect();
    let Ok(stated) = i64::from_str_radix(&digits, 8) else { return false };
    let sum = |value: fn(u8) -> i64| -> i64 {
        header.iter().enumerate().map(|(at, byte)| if (148..156).contains(&at) { 32 } else { value(*byte) }).sum()
    };
    header[0] != 0 && (sum(i64::from) == stated || sum(|byte| i64::from(byte.cast_signed())) == stated)
}

/// A context that was fetched.
pub(crate) struct Fetched {
    /// What it holds.
    pub root: Root,
    /// It is a build file and nothing else, under this name.
    pub only_file: Option<&'static str>,
    /// For people.
    pub shown: String,
}

/// What is fetched.
pub(crate) enum Place<'a> {
    Url(&'a RemoteUrl),
    Upload(&'a Upload),
}

impl Place<'_> {
    /// What frontends are told.
    pub fn text(&self) -> String {
        match self {
            Self::Url(url) => url.text.clone(),
            Self::Upload(upload) => upload.url(),
        }
    }

    fn shown(&self) -> String {
        match self {
            Self::Url(url) => redact(&url.text),
            Self::Upload(_) => "stdin".into(),
        }
    }
}

/// Options of the frontend that say how a repository is checked out.
pub(crate) struct Checkout {
    /// `BUILDKIT_CONTEXT_KEEP_GIT_DIR`.
    pub keep: bool,
    /// `SOURCE_DATE_EPOCH` is given.
    pub dated: bool,
}

fn definition(
    make: impl FnOnce(&mut GraphBuilder) -> Result<State, rhost_llb::BuildError>,
) -> Result<Definition, BuildError> {
    let mut builder = GraphBuilder::new(Platform::host(), Limits::HOSTILE);
    let head = make(&mut builder).and_then(|head| builder.marshal(Some(head)));
    head.map_err(|error| BuildError::new(Kind::Request, format!("the build context: {error}")))
}

fn file_source(builder: &mut GraphBuilder, url: &str, filename: &str) -> Result<State, rhost_llb::BuildError> {
    let source =
        SourceOp { identifier: url.to_owned(), attrs: Default::default() }.with_attr(attr::HTTP_FILENAME, filename);
    builder.source(source, &VertexOptions::named("[internal] load remote build context"))
}

impl Session {
    /// Fetches the context `place`.
    ///
    /// # Errors
    /// What fetching it met; it is neither archive nor build file.
    pub(crate) async fn fetch_context(&self, place: &Place<'_>, options: &Checkout) -> Result<Fetched, BuildError> {
        let (text, shown) = (place.text(), place.shown());
        let found = |root: Root, only_file: Option<&'static str>| Fetched { root, only_file, shown: shown.clone() };
        if let Place::Url(RemoteUrl { git: Some(git), text }) = place {
            let made = definition(|builder| {
                let named = VertexOptions::named(format!("[internal] load git source {text}"));
                builder.source(git.op(options.keep, options.dated), &named)
            })?;
            return Ok(found(self.root_of(&made, &shown).await?, None));
        }
        let file = self.root_of(&definition(|builder| file_source(builder, &text, FILE))?, &shown).await?;
        let head = read_file(file.clone(), FILE.into(), HEAD as u64).await?.unwrap_or_default();
        if !looks_like_archive(&head) {
            refuse_page(&shown, &head)?;
            return Ok(found(file, Some(FILE)));
        }
        let is_tar = blocking(move || Ok(rhost_rootfs::is_archive(&mut file.open_file(FILE)?)?)).await;
        if !is_tar.map_err(|error| BuildError::new(Kind::Request, format!("the build context `{shown}`: {error}")))? {
            let kind = format!("{:?}", Compression::detect(&head)).to_lowercase();
            let message =
                format!("the build context `{shown}` is compressed ({kind}), and inside is no tar archive with files");
            return Err(BuildError::new(Kind::Request, message).hint(WANTED));
        }
        let unpacked = definition(|builder| {
            let file = file_source(builder, &text, FILE)?;
            let copy = FileActionCopy {
                src: format!("/{FILE}"),
                dest: "/".into(),
                mode: -1,
                timestamp: -1,
                attempt_unpack: true,
                ..FileActionCopy::default()
            };
            let step = FileStep::Copy { from: CopyFrom::State(Some(file)), copy };
            builder.file(FileChain { base: None, steps: vec![step] }, &VertexOptions::default())
        })?;
        Ok(found(self.root_of(&unpacked, &shown).await?, None))
    }

    /// The bytes of a file at a URL.
    ///
    /// # Errors
    /// What fetching it met.
    pub(crate) async fn fetch_file(&self, url: &str) -> Result<Vec<u8>, BuildError> {
        let shown = redact(url);
        let root = self.root_of(&definition(|builder| file_source(builder, url, FILE))?, &shown).await?;
        let text = read_file(root, FILE.into(), LARGEST_BUILD_FILE).await?.unwrap_or_default();
        refuse_page(&shown, &text)?;
        Ok(text)
    }

    async fn root_of(&self, definition: &Definition, shown: &str) -> Result<Root, BuildError> {
        let nest = Nest { session: self.me.clone(), depth: 0 };
        let told = |mut error: BuildError| {
            if !error.message.contains(shown) {
                error.message = format!("the build context `{shown}`: {}", error.message);
            }
            error
        };
        let (_, graph, target) = self.load_as(definition, "the build context", Kind::Request, nest).map_err(told)?;
        let solved = self.solver.solve(&graph, &[target]).await;
        let value = solved.map_err(|error| told(blame::solve(error)))?.remove(0);
        let failed = |error| told(BuildError::new(Kind::Store, error));
        self.shared.present(&value).await.map_err(failed)?;
        let shared = self.shared.clone();
        let root = blocking(move || match &value {
            Value::Snapshot(id) => Ok(Some(shared.view(*id)?)),
            Value::Context(tree) => Ok(tree.root().cloned()),
            Value::Scratch => Ok(None),
        });
        root.await
            .map_err(failed)?
            .ok_or_else(|| BuildError::new(Kind::Request, format!("the build context `{shown}` is empty")))
    }
}

/// What a web server sends to people is no build file.
fn refuse_page(shown: &str, head: &[u8]) -> Result<(), BuildError> {
    let begin = head.trim_ascii_start();
    let begin = begin.strip_prefix(b"\xef\xbb\xbf").unwrap_or(begin).trim_ascii_start();
    let wrong = match begin {
        [] => "is empty",
        _ if head.iter().all(|byte| *byte == 0) => "is an archive without files",
        [b'<', ..] => "is a web page",
        _ if head.contains(&0) => "is binary, and no archive",
        _ => return Ok(()),
    };
    Err(BuildError::new(Kind::Request, format!("the build context `{shown}` {wrong}")).hint(WANTED))
}

/// The first bytes of `path`, at most `limit`; `None` where there is no such file.
async fn read_file(root: Root, path: String, limit: u64) -> Result<Option<Vec<u8>>, BuildError> {
    let shown = path.clone();
    let read = blocking(move || {
        let file = match root.open_file(&path) {
            Err(rhost_rootfs::Error::NotFound { .. }) => return Ok(None),
            other => other?,
        };
        let mut bytes = Vec::new();
        file.take(limit).read_to_end(&mut bytes).map_err(|source| rhost_rootfs::Error::Stream { source })?;
        Ok(Some(bytes))
    });
    read.await.map_err(|error| BuildError::new(Kind::Request, format!("`{shown}`: {error}")))
}

impl Fetched {
    /// The build file's path and text: `wanted`, else `Dockerfile` or `dockerfile`.
    ///
    /// # Errors
    /// There is none.
    pub async fn build_file(&self, wanted: Option<&str>) -> Result<(String, Vec<u8>), BuildError> {
        if let Some(only) = self.only_file {
            if let Some(wanted) = wanted {
                let message = format!(
                    "-f {wanted}: what is at `{}` is itself a build file, and not a context that has one",
                    self.shown
                );
                return Err(BuildError::new(Kind::Request, message).hint("leave out -f"));
            }
            let text = read_file(self.root.clone(), only.into(), LARGEST_BUILD_FILE).await?;
            return Ok((only.to_owned(), text.unwrap_or_default()));
        }
        let name = wanted.unwrap_or("Dockerfile");
        if let Some(text) = read_file(self.root.clone(), name.to_owned(), LARGEST_BUILD_FILE).await? {
            return Ok((name.to_owned(), text));
        }
        let (directory, base) = name.rsplit_once('/').map_or(("", name), |(directory, base)| (directory, base));
        if base == "Dockerfile" {
            let lower = if directory.is_empty() { "dockerfile".to_owned() } else { format!("{directory}/dockerfile") };
            if let Some(text) = read_file(self.root.clone(), lower, LARGEST_BUILD_FILE).await? {
                return Ok((name.to_owned(), text));
            }
        }
        Err(self.no_build_file(name))
    }

    fn no_build_file(&self, name: &str) -> BuildError {
        let error =
            BuildError::new(Kind::Request, format!("the build context `{}` has no build file `{name}`", self.shown));
        match self.other_build_file("", 2) {
            Some(other) => {
                error.hint(format!("it has `{other}`: name it with -f {other} (paths are relative to the context)"))
            }
            None => error
                .hint("name it with -f, relative to the context; a file of this machine is named by its absolute path"),
        }
    }

    /// What looks like a build file below `directory`, the nearest first.
    fn other_build_file(&self, directory: &str, depth: usize) -> Option<String> {
        let is_one = |name: &str| {
            let name = name.to_lowercase();
            ["dockerfile", "containerfile"].iter().any(|usual| name.starts_with(usual) || name.ends_with(usual))
        };
        let entries = self.root.read_dir(format!("/{directory}")).ok()?;
        let below = |name: &str| if directory.is_empty() { name.to_owned() } else { format!("{directory}/{name}") };
        let mut names: Vec<String> =
            entries.iter().take(500).filter_map(|entry| Some(below(entry.name.to_str()?))).collect();
        names.sort();
        let stat = |path: &str| self.root.try_stat(format!("/{path}"), Last::Keep).ok().flatten();
        let here = names.iter().find(|path| {
            is_one(path.rsplit('/').next().unwrap_or_default()) && stat(path).is_some_and(|stat| stat.is_file())
        });
        if let Some(here) = here {
            return Some(here.clone());
        }
        if depth < 2 {
            return None;
        }
        let deeper = names.iter().take(50).filter(|path| stat(path).is_some_and(|stat| stat.is_dir()));
        deeper.into_iter().find_map(|path| self.other_build_file(path, depth - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_and_what_is_none() {
        let kind = |text: &str| RemoteUrl::parse(text).map(|found| found.map(|found| found.git.is_some()));
        assert_eq!(kind("https://h/ctx.tar.gz"), Ok(Some(false)));
        assert_eq!(kind("https://h/x.git#main"), Ok(Some(true)));
        assert_eq!(kind("github.com/a/b"), Ok(Some(true)));
        assert_eq!((kind("."), kind("a/b")), (Ok(None), Ok(None)));
        assert!(kind("ftp://h/x").is_err_and(|error| error.contains("`ftp` is no kind of context")));
        assert!(kind("https://").is_err());
        assert!(kind("https://h/x.tgz#dir").is_err_and(|error| error.contains("`#dir`")));
    }

    #[test]
    fn archives_are_told_from_build_files() {
        let mut header = [0u8; HEAD];
        header[..4].copy_from_slice(b"file");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum::<u32>() + 8 * 32;
        header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        header[155] = b' ';
        assert!(looks_like_archive(&header), "an old tar without a magic word");
        header[0] = b'g';
        assert!(!looks_like_archive(&header));
        assert!(!looks_like_archive(b"FROM scratch\n") && !looks_like_archive(&[0; HEAD]) && !looks_like_archive(b""));
        for magic in [&b"\x1f\x8b\x08..."[..], b"BZh9...", b"\xfd7zXZ\0..", b"\x28\xb5\x2f\xfd..."] {
            assert!(looks_like_archive(magic));
        }
    }
}
