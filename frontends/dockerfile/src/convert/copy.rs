//! COPY and ADD: files from the context, from stages and images, from URLs, and written inline.

use std::collections::BTreeMap;

use crate::convert::converter::Converter;
use crate::convert::dispatch::owner;
use crate::convert::error::ConvertError;
use crate::convert::git::{GitRef, percent_decode, without_password};
use crate::convert::graph::{Copy, File, FileAction, Meta, Op, Output, ProgressGroup, Source};
use crate::convert::lint::rules;
use crate::convert::paths;
use crate::convert::stage::{Command, StageId, ranges};
use crate::instruction::{self, Sources};
use crate::shell::Lexer;

/// What COPY and ADD have in common, expanded.
struct Request<'a> {
    command: &'a Command,
    /// Where paths come from.
    from: Option<Output>,
    is_add: bool,
    sources: Sources,
    chown: String,
    chmod: String,
    checksum: String,
    exclude: &'a [String],
    link: bool,
    parents: bool,
    unpack: Option<bool>,
    keep_git_dir: Option<bool>,
}

fn is_url(text: &str) -> bool {
    text.starts_with("http://") || text.starts_with("https://")
}

/// Permission bits or a symbolic mode.
fn mode(text: &str) -> Result<(i32, String), ConvertError> {
    if text.is_empty() {
        return Ok((-1, String::new()));
    }
    let wrong = || {
        ConvertError::instruction(format!(
            "invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777, or symbolic as in u=rwX,go=rX"
        ))
    };
    if text.bytes().all(|b| (b'0'..=b'7').contains(&b)) {
        return match i32::from_str_radix(text, 8) {
            Ok(bits) if bits <= 0o7777 => Ok((bits, String::new())),
            _ => Err(wrong()),
        };
    }
    let clause = |clause: &str| {
        let rest = clause.trim_start_matches(['u', 'g', 'o', 'a']);
        rest.starts_with(['+', '-', '=']) && rest.bytes().all(|b| b"+-=rwxXstugo".contains(&b))
    };
    if text.split(',').all(clause) { Ok((0, text.to_owned())) } else { Err(wrong()) }
}

fn has_wildcard(text: &str) -> bool {
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '*' | '?' | '[' => return true,
            '\\' => _ = chars.next(),
            _ => {}
        }
    }
    false
}

/// Name of the file that a URL is stored as.
pub(crate) fn url_file(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let end = rest.find(['?', '#']).unwrap_or(rest.len());
    let path = rest[..end].split_once('/').map_or("", |(_, path)| path);
    let decoded = percent_decode(path);
    match decoded.as_deref().map(|p| paths::base(p).to_owned()) {
        Some(base) if base != "." && base != "/" => base,
        _ => "__unnamed__".into(),
    }
}

impl Converter<'_> {
    pub(crate) fn copy(
        &mut self,
        id: StageId,
        command: &Command,
        copy: &instruction::Copy,
    ) -> Result<(), ConvertError> {
        let from = match command.sources.first() {
            None => Some(self.context),
            Some(&source) if self.stages[source].dispatched => self.stages[source].state.output,
            Some(_) => {
                return Err(ConvertError::instruction(format!(
                    "cannot copy from stage {:?}, it needs to be defined before current stage {:?}",
                    copy.from.as_deref().unwrap_or_default(),
                    self.stages[id].name.as_deref().unwrap_or_default()
                )));
            }
        };
        let sources = self.expand_sources(id, &copy.sources)?;
        let used: Vec<String> = sources.paths.iter().map(|p| paths::join(&["/", p])).collect();
        let request = Request {
            command,
            from,
            is_add: false,
            chown: self.expand(id, copy.chown.as_deref().unwrap_or_default())?,
            chmod: self.expand(id, copy.chmod.as_deref().unwrap_or_default())?,
            checksum: String::new(),
            exclude: &copy.exclude,
            link: copy.link,
            parents: copy.parents,
            unpack: None,
            keep_git_dir: None,
            sources,
        };
        self.transfer(id, request)?;
        match command.sources.first() {
            None => self.stages[id].context_paths.extend(used),
            Some(&source) => {
                let paths = self.stages[source].paths;
                self.path_sets[paths].extend(used);
            }
        }
        Ok(())
    }

    pub(crate) fn add(&mut self, id: StageId, command: &Command, add: &instruction::Add) -> Result<(), ConvertError> {
        let sources = self.expand_sources(id, &add.sources)?;
        let used: Vec<String> = sources.paths.iter().filter(|p| !is_url(p)).map(|p| paths::join(&["/", p])).collect();
        let request = Request {
            command,
            from: Some(self.context),
            is_add: true,
            chown: self.expand(id, add.chown.as_deref().unwrap_or_default())?,
            chmod: self.expand(id, add.chmod.as_deref().unwrap_or_default())?,
            checksum: self.expand(id, add.checksum.as_deref().unwrap_or_default())?,
            exclude: &add.exclude,
            link: add.link,
            parents: false,
            unpack: add.unpack,
            keep_git_dir: add.keep_git_dir,
            sources,
        };
        self.transfer(id, request)?;
        self.stages[id].context_paths.extend(used);
        Ok(())
    }

    fn expand_sources(&self, id: StageId, sources: &Sources) -> Result<Sources, ConvertError> {
        let mut out = sources.clone();
        for path in &mut out.paths {
            *path = self.expand(id, path)?;
        }
        out.dest = self.expand(id, &sources.dest)?;
        let raw = Lexer { ignore_quotes: true, ..Lexer::new('\\') };
        for file in out.inline.iter_mut().filter(|f| f.expand) {
            file.content = self.expand_with(id, &raw, &file.content)?;
        }
        Ok(out)
    }

    fn transfer(&mut self, id: StageId, mut request: Request<'_>) -> Result<(), ConvertError> {
        let keyword = if request.is_add { "ADD" } else { "COPY" };
        let dest = match request.sources.dest.as_str() {
            "" | "." => "./",
            dest => dest,
        };
        let dest = paths::clean_keep_slash(&paths::absolute(&self.stages[id].state.dir, dest, true));
        let (mode, mode_str) = mode(&request.chmod)?;
        let template = Copy {
            from: None,
            src: String::new(),
            dest,
            owner: (!request.chown.is_empty()).then(|| owner(&request.chown)),
            mode,
            mode_str,
            follow_symlink: false,
            dir_copy_contents: false,
            attempt_unpack: false,
            create_dest_path: true,
            allow_wildcard: false,
            allow_empty_wildcard: false,
            timestamp: -1,
            include_patterns: Vec::new(),
            exclude_patterns: request.exclude.to_vec(),
            required_paths: Vec::new(),
        };
        let remote = |p: &String| is_url(p) || matches!(GitRef::parse(p), Ok(Some(_)));
        if !request.checksum.is_empty() && (request.sources.paths.len() != 1 || !remote(&request.sources.paths[0])) {
            return Err(ConvertError::instruction(
                "--checksum goes with exactly one source, a URL or a git repository",
            ));
        }

        let platform = self.stages[id].platform.clone();
        let title = self.shown(id, &request.command.instruction.code);
        let shown = self.prefixed(id, &title, platform.as_ref(), true);
        let mut history = String::from(keyword);
        for (flag, value) in [("chown", &request.chown), ("chmod", &request.chmod)] {
            if flag == "chown" && request.parents {
                history.push_str(" --parents");
            }
            if !value.is_empty() {
                history.push_str(&format!(" --{flag}={value}"));
            }
        }

        let mut actions = Vec::new();
        for source in &std::mem::take(&mut request.sources.paths) {
            history.push_str(&format!(" {}", without_password(source)));
            let copy = if let Some(git) = GitRef::parse(source)? {
                self.repository(&mut request, source, git, &shown, &template)?
            } else if is_url(source) {
                self.url(&request, source, &shown, &template)?
            } else {
                let path = paths::clean(source);
                if request.from == Some(self.context) && self.ignored.keeps_out(&path) {
                    let verb = if request.is_add { "Add" } else { "Copy" };
                    let message = format!("Attempting to {verb} file \"{path}\" that is excluded by .dockerignore");
                    self.lint.found(&rules::COPY_IGNORED_FILE, message);
                }
                local(&request, source, &template)
            };
            actions.push(FileAction::Copy(Box::new(copy)));
        }
        for file in &request.sources.inline {
            history.push_str(&format!(" <<{}", file.name));
            let path = paths::clean(&paths::join(&["/", &file.name]));
            let mkfile = FileAction::Mkfile {
                path: path.clone(),
                mode: 0o644,
                data: file.content.clone().into_bytes(),
                owner: None,
                timestamp: -1,
            };
            let op = Op::File(File { base: None, actions: vec![mkfile] });
            let input = self.graph.add(op, Meta::named("[internal] preparing inline document"));
            let copy = Copy { from: Some(input), src: path, ..template.clone() };
            actions.push(FileAction::Copy(Box::new(copy)));
        }
        history.push_str(&format!(" {}", request.sources.dest));
        if actions.is_empty() {
            return Err(ConvertError::instruction(format!("{keyword} needs at least one source")));
        }

        let mut meta = Meta::named(shown);
        meta.locations.push(ranges(request.command.instruction.span));
        meta.ignore_cache = self.stages[id].ignore_cache;
        let base = self.stages[id].state.output;
        let output = if request.link && request.chmod.is_empty() {
            self.linked(id, base, actions, meta, &title)
        } else {
            self.graph.add(Op::File(File { base, actions }), meta)
        };
        self.stages[id].state.output = Some(output);
        self.commit(id, history + " # buildkit", false);
        Ok(())
    }

    fn repository(
        &mut self,
        request: &mut Request<'_>,
        source: &str,
        mut git: GitRef,
        shown: &str,
        template: &Copy,
    ) -> Result<Copy, ConvertError> {
        if !request.is_add {
            return Err(ConvertError::instruction(format!(
                "source can't be a git ref for COPY: only ADD takes `{source}`"
            )));
        }
        if let (Some(flag), Some(query)) = (request.keep_git_dir, git.keep_git_dir)
            && flag != query
        {
            return Err(ConvertError::instruction(format!(
                "ADD {source}: --keep-git-dir={flag} contradicts its query"
            )));
        }
        // What the query of one source says holds for those after it, as it does for BuildKit.
        request.keep_git_dir = git.keep_git_dir.or(request.keep_git_dir);
        if !git.checksum.is_empty() {
            if !request.checksum.is_empty() && request.checksum != git.checksum {
                let message = format!("ADD {source}: --checksum={} contradicts its query", request.checksum);
                return Err(ConvertError::instruction(message));
            }
            request.checksum.clone_from(&git.checksum);
        }
        git.checksum.clone_from(&request.checksum);
        // ADD does not date files by their commit.
        let op = git.undated().op(request.keep_git_dir == Some(true));
        let input = self.graph.add(op, Meta::named(shown));
        Ok(Copy { from: Some(input), src: "/".into(), ..template.clone() })
    }

    fn url(&mut self, request: &Request<'_>, url: &str, shown: &str, template: &Copy) -> Result<Copy, ConvertError> {
        if !request.is_add {
            return Err(ConvertError::instruction(format!("source can't be a URL for COPY: only ADD takes `{url}`")));
        }
        let file = url_file(url);
        let mut attrs = BTreeMap::from([("http.filename".to_owned(), file.clone())]);
        if !request.checksum.is_empty() {
            check_digest(&request.checksum)?;
            attrs.insert("http.checksum".to_owned(), request.checksum.clone());
        }
        let mut meta = Meta::named(shown);
        meta.description.insert("com.docker.dockerfile.v1.command".into(), String::new());
        let op = Op::Source(Source { identifier: url.to_owned(), attrs, platform: None });
        let input = self.graph.add(op, meta);
        Ok(Copy {
            from: Some(input),
            src: paths::clean(&paths::join(&["/", &file])),
            attempt_unpack: request.unpack == Some(true),
            ..template.clone()
        })
    }

    /// The files on an empty file system, then that on top of the base: it stays valid when the base changes.
    fn linked(
        &mut self,
        id: StageId,
        base: Option<Output>,
        actions: Vec<FileAction>,
        meta: Meta,
        title: &str,
    ) -> Output {
        let platform = self.stages[id].platform.clone();
        let again = |converter: &mut Self, text: &str| {
            let stage = &mut converter.stages[id];
            stage.command_index = stage.command_index.saturating_sub(1);
            converter.prefixed(id, text, platform.as_ref(), true)
        };
        let name = again(self, title);
        let number = self.graph.nodes().count();
        let group = |weak| Some(ProgressGroup { id: format!("link-{number}"), name: name.clone(), weak });
        let copied = Meta { progress_group: group(true), ..meta.clone() };
        let layer = self.graph.add(Op::File(File { base: None, actions }), copied);
        let linked = again(self, &format!("LINK {title}"));
        let Some(base) = base else { return layer };
        let mut merged = Meta { progress_group: group(false), ..meta };
        merged.set_name(linked);
        self.graph.add(Op::Merge(vec![Some(base), Some(layer)]), merged)
    }
}

/// A digest by one of the algorithms that OCI registers, with as many digits as it has.
pub(crate) fn check_digest(text: &str) -> Result<(), ConvertError> {
    let wrong = |reason: &str| Err(ConvertError::instruction(format!("--checksum={text}: {reason}")));
    let Some((algorithm, digits)) = text.split_once(':') else { return wrong("invalid checksum digest format") };
    let length = match algorithm {
        "sha256" => 64,
        "sha384" => 96,
        "sha512" => 128,
        _ => return wrong("unsupported digest algorithm (wanted sha256, sha384 or sha512)"),
    };
    if digits.len() != length {
        return wrong("invalid checksum digest length");
    }
    if digits.bytes().any(|b| !matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return wrong("invalid checksum digest format");
    }
    Ok(())
}

fn local(request: &Request<'_>, source: &str, template: &Copy) -> Copy {
    let (mut src, mut include, mut required) = (source, Vec::new(), Vec::new());
    if request.parents {
        let (parent, pattern) = source.split_once("/./").unwrap_or(("/", source));
        src = parent;
        let pattern = paths::absolute("/", pattern, false);
        if !has_wildcard(src) && !has_wildcard(&pattern) {
            required.push(paths::absolute("/", &paths::join(&[src, &pattern]), false));
        }
        include.push(pattern.strip_prefix('/').unwrap_or(&pattern).to_owned());
    }
    Copy {
        from: request.from,
        src: paths::clean(&paths::absolute("/", src, false)),
        follow_symlink: true,
        dir_copy_contents: true,
        attempt_unpack: request.unpack.unwrap_or(request.is_add),
        allow_wildcard: true,
        allow_empty_wildcard: true,
        include_patterns: include,
        required_paths: required,
        ..template.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_urls() {
        for (url, file) in [
            ("https://h/a/b.tar?x=/y", "b.tar"),
            ("https://h", "__unnamed__"),
            ("https://h/", "__unnamed__"),
            ("https://h/a%20b", "a b"),
            ("https://h/a/", "a"),
        ] {
            assert_eq!(url_file(url), file, "{url}");
        }
    }

    #[test]
    fn modes() {
        assert_eq!(mode("0755").unwrap(), (0o755, String::new()));
        assert_eq!(mode("u=rwX,go=rX").unwrap(), (0, "u=rwX,go=rX".into()));
        assert_eq!(mode("").unwrap(), (-1, String::new()));
        for bad in ["99", "10000", "u", "u=z", ","] {
            assert!(mode(bad).is_err(), "{bad}");
        }
    }
}
