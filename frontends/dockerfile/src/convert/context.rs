//! Where files come from that are not images: the main build context, and contexts that the client named.
//!
//! A local context is a node that is allocated at once and filled in last, when it is known which of its paths are used.

use std::collections::{BTreeMap, BTreeSet};

use crate::convert::error::ConvertError;
use crate::convert::git::GitRef;
use crate::convert::golang;
use crate::convert::graph::{Copy, File, FileAction, Graph, Meta, NodeId, Op, Output, Platform, Source};
use crate::convert::image::Image;
use crate::convert::options::Options;
use crate::convert::paths;
use crate::convert::reference::Reference;
use crate::convert::state::State;
use crate::dockerignore;
use crate::host::{Host, ImageConfigRequest, ResolveMode, Ticket};

const DOCKERIGNORE: &str = ".dockerignore";

/// Attributes of a `local://` source.
#[derive(Debug, Clone, Default)]
pub struct Local {
    pub name: String,
    pub session: Option<String>,
    pub follow: Vec<String>,
    pub exclude: Vec<String>,
    pub shared_key: String,
    pub no_differ: bool,
}

fn json_list(items: &[String]) -> String {
    golang::escape_json(&serde_json::Value::from(items.to_vec()).to_string())
}

impl Local {
    /// The source operation.
    pub fn op(&self) -> Op {
        let mut attrs = BTreeMap::new();
        if let Some(session) = self.session.as_ref().filter(|s| !s.is_empty()) {
            attrs.insert("local.session".to_owned(), session.clone());
        }
        if !self.follow.is_empty() {
            attrs.insert("local.followpaths".to_owned(), json_list(&self.follow));
        }
        if !self.exclude.is_empty() {
            attrs.insert("local.excludepatterns".to_owned(), json_list(&self.exclude));
        }
        if !self.shared_key.is_empty() {
            attrs.insert("local.sharedkeyhint".to_owned(), self.shared_key.clone());
        }
        if self.no_differ {
            attrs.insert("local.differ".to_owned(), "none".to_owned());
        }
        Op::Source(Source { identifier: format!("local://{}", self.name), attrs, platform: None })
    }
}

/// The session for a local source.
pub fn session(host: &dyn Host, options: &Options, local: &str) -> Option<String> {
    options.local_session(local).map(str::to_owned).or_else(|| host.session())
}

/// Paths of a context that are used, as `local.followpaths` wants them; none when all of it is used.
pub fn follow_paths(used: &BTreeSet<String>) -> Vec<String> {
    if used.contains("/") {
        return Vec::new();
    }
    let mut out: Vec<String> = used.iter().map(|p| paths::join(&[".", p])).collect();
    out.sort();
    out
}

/// The main build context.
#[derive(Debug, Clone)]
pub enum MainContext {
    /// A directory of the client.
    Local {
        /// Name of the local source.
        name: String,
    },
    /// An `http(s)` URL: a file, or an archive to be unpacked.
    Http {
        /// The URL.
        url: String,
        /// It is an archive.
        archive: bool,
    },
    /// A git repository.
    Git {
        /// Which.
        git: Box<GitRef>,
        /// As the client wrote it.
        text: String,
    },
    /// A result that the client lent.
    Input,
}

/// Name of the file that an `http` context is stored as.
pub const HTTP_FILE: &str = "context";

impl MainContext {
    /// Finds out what the context is. An `http` context is fetched here.
    ///
    /// # Errors
    /// When it cannot be had, or is of a kind that is not supported.
    pub fn detect(host: &dyn Host, options: &Options) -> Result<Self, ConvertError> {
        let key = options.raw("contextkey").unwrap_or("context");
        let value = options.raw(key).unwrap_or_default();
        if let Some(git) = GitRef::parse_context(value)? {
            return Ok(Self::Git { git: Box::new(git), text: value.to_owned() });
        }
        if value.starts_with("http://") || value.starts_with("https://") {
            let mut graph = Graph::default();
            let root = http(&mut graph, value);
            let head = host
                .read_head(&graph, root, HTTP_FILE, TAR_HEADER)
                .map_err(|e| ConvertError::host("cannot read the build context", e))?
                .ok_or_else(|| ConvertError::option(key, "the downloaded context is empty"))?;
            return Ok(Self::Http { url: value.to_owned(), archive: is_archive(&head) });
        }
        if host.has_input("context") {
            return Ok(Self::Input);
        }
        Ok(Self::Local { name: "context".into() })
    }

    /// Adds the node that stands for the context; the local one is still to be filled in.
    pub fn add(&self, graph: &mut Graph, options: &Options) -> Output {
        let root = match self {
            Self::Local { name } => {
                return graph.add(Local { name: name.clone(), ..Local::default() }.op(), Meta::default());
            }
            Self::Http { url, archive } => {
                let file = http(graph, url);
                if *archive {
                    let copy = Copy { attempt_unpack: true, ..copy(file, &format!("/{HTTP_FILE}"), "/") };
                    let op = Op::File(File { base: None, actions: vec![FileAction::Copy(Box::new(copy))] });
                    graph.add(op, Meta::default())
                } else {
                    file
                }
            }
            Self::Git { git, text } => {
                let keep = options.raw("build-arg:BUILDKIT_CONTEXT_KEEP_GIT_DIR").and_then(golang::parse_bool);
                let dated = options.raw("build-arg:SOURCE_DATE_EPOCH").is_some_and(|v| !v.is_empty());
                git.add_context(graph, text, keep == Some(true), dated)
            }
            Self::Input => graph.add(Op::Input("context".into()), Meta::default()),
        };
        match options.raw("contextsubdir") {
            Some(dir) => {
                let copy =
                    Copy { dir_copy_contents: true, ..copy(root, &paths::clean(&paths::join(&["/", dir])), "/") };
                let op = Op::File(File { base: None, actions: vec![FileAction::Copy(Box::new(copy))] });
                graph.add(op, Meta::default())
            }
            None => root,
        }
    }
}

fn http(graph: &mut Graph, url: &str) -> Output {
    let attrs = BTreeMap::from([("http.filename".to_owned(), HTTP_FILE.to_owned())]);
    let op = Op::Source(Source { identifier: url.to_owned(), attrs, platform: None });
    graph.add(op, Meta::named("[internal] load remote build context"))
}

fn copy(from: Output, src: &str, dest: &str) -> Copy {
    Copy {
        from: Some(from),
        src: src.to_owned(),
        dest: dest.to_owned(),
        owner: None,
        mode: -1,
        mode_str: String::new(),
        follow_symlink: false,
        dir_copy_contents: false,
        attempt_unpack: false,
        create_dest_path: false,
        allow_wildcard: false,
        allow_empty_wildcard: false,
        timestamp: -1,
        include_patterns: Vec::new(),
        exclude_patterns: Vec::new(),
        required_paths: Vec::new(),
    }
}

/// Bytes of a header of tar.
const TAR_HEADER: u64 = 512;

/// Whether the bytes begin like an archive that can be unpacked: compressed, or with a header of tar, whose checksum is right (of bytes that are
/// signed or not).
fn is_archive(bytes: &[u8]) -> bool {
    const MAGIC: &[&[u8]] =
        &[b"BZh", &[0x1f, 0x8b, 0x08], &[0xfd, b'7', b'z', b'X', b'Z', 0], &[0x28, 0xb5, 0x2f, 0xfd]];
    let skippable = |b: &[u8]| matches!(b, [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..]);
    if MAGIC.iter().any(|m| bytes.starts_with(m)) || skippable(bytes) {
        return true;
    }
    let Some(header) = bytes.get(..TAR_HEADER as usize) else { return false };
    let digits: String = header[148..156].iter().map(|b| char::from(*b)).filter(|c| !matches!(c, ' ' | '\0')).collect();
    let Ok(stated) = i64::from_str_radix(&digits, 8) else { return false };
    let sum = |value: fn(u8) -> i64| -> i64 {
        header.iter().enumerate().map(|(i, b)| if (148..156).contains(&i) { 32 } else { value(*b) }).sum()
    };
    header[0] != 0 && (sum(i64::from) == stated || sum(|b| i64::from(b.cast_signed())) == stated)
}

/// A context that the client named and that the build file refers to.
#[derive(Debug, Clone)]
pub struct NamedContext {
    /// Option value: `docker-image://…`, `local:…`, …
    input: String,
    /// Name as the option has it, maybe with `::platform`.
    name: String,
    shared_key: String,
    platform: Platform,
}

/// A named context under way.
pub enum Loading {
    /// Known at once.
    Ready(Box<Loaded>),
    /// An image whose config is being resolved.
    Image { ticket: Ticket, context: NamedContext, reference: Reference, shown: String, store: Option<String> },
}

/// A named context that is there.
pub struct Loaded {
    pub state: State,
    pub image: Option<Image>,
    /// A local node to be filled in once the uses are known.
    pub pending: Option<PendingLocal>,
}

/// A local node to be filled in once the uses are known.
#[derive(Debug, Clone)]
pub struct PendingLocal {
    pub node: NodeId,
    pub local: Local,
    pub title: String,
}

impl NamedContext {
    /// The context that the client named `name`, if there is one.
    ///
    /// # Errors
    /// When `name` cannot be the name of a context.
    pub fn find(options: &Options, name: &str, platform: &Platform) -> Result<Option<Self>, ConvertError> {
        if name.eq_ignore_ascii_case("scratch") || name.eq_ignore_ascii_case("context") {
            return Ok(None);
        }
        let reference = Reference::parse(name)
            .map_err(|e| ConvertError::instruction(format!("`{name}` cannot be the name of a context: {e}")))?;
        let familiar = reference.familiar();
        let familiar = familiar.strip_suffix(":latest").unwrap_or(&familiar);
        let with_platform = format!("{familiar}::{}", platform.normalize().format_all());
        Ok([with_platform.as_str(), familiar].into_iter().find_map(|key| {
            Some(Self {
                input: options.raw(&format!("context:{key}"))?.to_owned(),
                name: key.to_owned(),
                shared_key: options.raw(&format!("sharedkey:localdir:{key}")).unwrap_or_default().to_owned(),
                platform: platform.clone(),
            })
        }))
    }

    /// Option value.
    pub fn input(&self) -> &str {
        &self.input
    }

    fn request(
        &self,
        host: &dyn Host,
        reference: String,
        shown: &str,
        store: Option<String>,
        mode: ResolveMode,
    ) -> Ticket {
        host.start_image_config(&ImageConfigRequest {
            reference,
            platform: self.platform.clone(),
            mode,
            log_name: format!("[context {}] load metadata for {shown}", self.name),
            oci_layout_store: store,
        })
    }

    /// Starts to load the context.
    ///
    /// # Errors
    /// When its specifier is malformed or of a kind that is not supported, or the host cannot read it.
    pub fn start(self, host: &dyn Host, options: &Options, graph: &mut Graph) -> Result<Loading, ConvertError> {
        let key = format!("context:{}", self.name);
        let Some((scheme, rest)) = self.input.split_once(':') else {
            return Err(ConvertError::option(key, format!("`{}` has no `:`", self.input)));
        };
        let ready = |state, image, pending| Ok(Loading::Ready(Box::new(Loaded { state, image, pending })));
        match scheme {
            "docker-image" => {
                let text = rest.trim_start_matches("//");
                if text == "scratch" {
                    return ready(State::new(None, None), None, None);
                }
                let reference = Reference::parse(text).map_err(|e| ConvertError::option(&key, e.to_string()))?.tagged();
                let ticket = self.request(host, reference.to_string(), text, None, options.resolve_mode);
                let shown = text.to_owned();
                Ok(Loading::Image { ticket, context: self, reference, shown, store: None })
            }
            "oci-layout" => {
                let text = rest.trim_start_matches("//");
                let (store, digest) = text
                    .split_once('@')
                    .ok_or_else(|| ConvertError::option(&key, format!("the OCI layout `{text}` has no digest")))?;
                let store = store.split_once(':').map_or(store, |(name, _)| name).to_owned();
                let plain = self.name.split_once("::").map_or(self.name.as_str(), |(name, _)| name);
                let reference = Reference::parse(plain)
                    .and_then(|r| r.with_digest(digest))
                    .map_err(|e| ConvertError::option(&key, e.to_string()))?;
                let text = reference.to_string();
                let ticket = self.request(host, text.clone(), &text, Some(store.clone()), ResolveMode::Default);
                Ok(Loading::Image { ticket, context: self, reference, shown: text, store: Some(store) })
            }
            "local" => {
                let session = session(host, options, rest);
                let ignore = Local {
                    name: rest.to_owned(),
                    session: session.clone(),
                    follow: vec![DOCKERIGNORE.into()],
                    shared_key: format!("context:{}-{DOCKERIGNORE}", self.name),
                    no_differ: true,
                    ..Local::default()
                };
                let title = format!("[context {}] load {DOCKERIGNORE}", self.name);
                let exclude = read_ignore(host, &ignore, &title)?;
                let local = Local {
                    name: rest.to_owned(),
                    session,
                    exclude,
                    shared_key: format!("context:{}-{}", self.name, self.shared_key),
                    ..Local::default()
                };
                let title = format!("[context {}] load from client", self.name);
                let output = graph.add(local.op(), Meta::named(title.clone()));
                let pending = PendingLocal { node: output.node, local, title };
                ready(State::new(Some(output), None), None, Some(pending))
            }
            "input" => {
                if !host.has_input(rest) {
                    return Err(ConvertError::option(key, format!("the client lent no result `{rest}`")));
                }
                let output = graph.add(Op::Input(rest.to_owned()), Meta::default());
                let mut state = State::new(Some(output), None);
                let image = match options.raw(&format!("input-metadata:{rest}")) {
                    Some(metadata) => {
                        input_image(metadata).map_err(|e| ConvertError::option(format!("input-metadata:{rest}"), e))?
                    }
                    None => None,
                };
                if let Some(image) = &image {
                    apply_config(&mut state, image);
                }
                ready(state, image, None)
            }
            s if matches!(s, "git" | "ssh" | "http" | "https") || s.contains('@') => {
                if let Some(git) = GitRef::parse_context(&self.input)? {
                    let output = git.add_context(graph, &self.input, false, false);
                    return ready(State::new(Some(output), None), None, None);
                }
                if !matches!(s, "http" | "https") {
                    return Err(ConvertError::option(key, format!("`{}` is no git repository", self.input)));
                }
                let attrs = BTreeMap::from([("http.filename".to_owned(), HTTP_FILE.to_owned())]);
                let op = Op::Source(Source { identifier: self.input.clone(), attrs, platform: None });
                let output = graph.add(op, Meta::named(format!("[context {}] {}", self.name, self.input)));
                ready(State::new(Some(output), None), None, None)
            }
            other => Err(ConvertError::option(
                key,
                format!(
                    "`{other}` is no kind of context: there are docker-image, oci-layout, local, input, git, http, https"
                ),
            )),
        }
    }
}

impl Loading {
    /// Waits until the context is there.
    ///
    /// # Errors
    /// When its image cannot be resolved.
    pub fn finish(self, host: &dyn Host, graph: &mut Graph) -> Result<Loaded, ConvertError> {
        let (ticket, context, reference, shown, store) = match self {
            Self::Ready(loaded) => return Ok(*loaded),
            Self::Image { ticket, context, reference, shown, store } => (ticket, context, reference, shown, store),
        };
        let key = format!("context:{}", context.name);
        let resolved =
            host.wait_image_config(ticket).map_err(|e| ConvertError::host(format!("context `{}`", context.name), e))?;
        let mut image =
            Image::parse(&resolved.config).map_err(|e| ConvertError::option(&key, format!("image config: {e}")))?;
        let mut attrs = BTreeMap::new();
        let (identifier, title) = match store {
            Some(store) => {
                if let Some(session) = host.session().filter(|s| !s.is_empty()) {
                    attrs.insert("oci.session".to_owned(), session);
                }
                attrs.insert("oci.store".to_owned(), store);
                (format!("oci-layout://{reference}"), format!("[context {}] OCI load from client", context.name))
            }
            None => {
                image.created = None;
                (format!("docker-image://{}", resolved.reference), format!("[context {}] {shown}", context.name))
            }
        };
        let op = Op::Source(Source { identifier, attrs, platform: Some(context.platform.clone()) });
        let output = graph.add(op, Meta::named(title));
        let mut state = State::new(Some(output), Some(context.platform));
        apply_config(&mut state, &image);
        Ok(Loaded { state, image: Some(image), pending: None })
    }
}

/// Sets what an image config says about steps.
fn apply_config(state: &mut State, image: &Image) {
    for entry in &image.config.env {
        let (key, value) = entry.split_once('=').unwrap_or((entry, ""));
        if !key.is_empty() {
            state.env.set(key, value);
        }
    }
    state.dir = paths::absolute(&state.dir, &image.config.working_dir, false);
    if !image.architecture.is_empty() && !image.os.is_empty() {
        state.platform = Some(image.platform().normalize());
    }
}

/// The image config in the metadata of a lent result: a JSON object of base64 values.
fn input_image(metadata: &str) -> Result<Option<Image>, String> {
    let map: BTreeMap<String, String> = serde_json::from_str(metadata).map_err(|e| e.to_string())?;
    let Some(config) = map.get("containerimage.config") else { return Ok(None) };
    let bytes = base64(config).ok_or("containerimage.config is not base64")?;
    Image::parse(&bytes).map(Some).map_err(|e| e.to_string())
}

fn base64(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count) = (0u32, 0);
    for c in text.trim_end_matches('=').bytes() {
        let value = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count & 0xff) as u8);
        }
    }
    Some(out)
}

/// The patterns of the ignore file of a local source; none if it has no such file.
///
/// # Errors
/// When the source cannot be read or the file is malformed.
pub fn read_ignore(host: &dyn Host, local: &Local, title: &str) -> Result<Vec<String>, ConvertError> {
    let mut graph = Graph::default();
    let root = graph.add(local.op(), Meta::named(title));
    let file = host
        .read_files(&graph, root, &[DOCKERIGNORE])
        .map_err(|e| ConvertError::host(format!("cannot read {DOCKERIGNORE}"), e))?
        .pop()
        .flatten();
    parse_ignore(DOCKERIGNORE, &file.unwrap_or_default())
}

/// The patterns of an ignore file.
///
/// # Errors
/// When it is malformed.
pub fn parse_ignore(name: &str, text: &[u8]) -> Result<Vec<String>, ConvertError> {
    dockerignore::read(text).map_err(|e| ConvertError::instruction(format!("{name}: {e}")))
}

/// The ignore patterns of the main context when the build file has no ignore file of its own.
///
/// # Errors
/// As [`read_ignore`].
pub fn main_ignore(host: &dyn Host, options: &Options, name: &str) -> Result<Vec<String>, ConvertError> {
    let local = Local {
        name: name.to_owned(),
        session: session(host, options, name),
        follow: vec![DOCKERIGNORE.into()],
        shared_key: format!("{name}-{DOCKERIGNORE}"),
        no_differ: true,
        ..Local::default()
    };
    read_ignore(host, &local, &format!("[internal] load {DOCKERIGNORE}"))
}
