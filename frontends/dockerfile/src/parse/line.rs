//! A joined line becomes a node: keyword, flags, and arguments cut the way this keyword wants.

use super::json::{self, Json};
use super::words::{self, Slice};
use crate::error::ErrorKind;
use crate::instruction::Heredoc;
use crate::span::{Span, Word};
use crate::text;

/// An error before it is tied to the source: its place in the joined line, if a part of the line is to blame.
pub(super) type Local = (ErrorKind, Option<Span>);

/// An instruction, cut but not understood.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) keyword: Word,
    pub(crate) flags: Vec<Word>,
    pub(crate) body: Body,
    /// The arguments are a JSON array.
    pub(crate) json: bool,
    /// The joined line, untrimmed at its end.
    pub(crate) original: String,
    pub(crate) heredocs: Vec<Heredoc>,
    pub(crate) comments: Vec<String>,
    pub(crate) span: Span,
}

/// The arguments of a node.
#[derive(Debug)]
pub(crate) enum Body {
    Words(Vec<Word>),
    /// ENV and LABEL.
    Pairs(Vec<PairWord>),
    /// ONBUILD.
    Node(Box<Node>),
}

/// One assignment of ENV or LABEL.
#[derive(Debug)]
pub(crate) struct PairWord {
    pub(crate) key: String,
    pub(crate) value: String,
    pub(crate) legacy: bool,
    pub(crate) span: Span,
}

impl Node {
    /// RUN, COPY and ADD (also behind one ONBUILD) that are not in JSON form.
    pub(super) fn takes_heredocs(&self) -> bool {
        let inner = match &self.body {
            Body::Node(inner) => inner,
            _ => self,
        };
        matches!(text::lower(&inner.keyword.value).as_str(), "run" | "copy" | "add") && !inner.json
    }

    /// The words of RUN in shell form. They reach the graph as they are, and a graph holds UTF-8 only; all other text
    /// goes through the shell lexer or into JSON, where a broken byte becomes U+FFFD.
    pub(super) fn shell_words(&self) -> &[Word] {
        match &self.body {
            Body::Words(words) if !self.json && text::lower(&self.keyword.value) == "run" => words,
            _ => &[],
        }
    }

    /// The keyword, if the body of a heredoc is passed on as it is.
    pub(super) fn passes_bytes(&self, expand: bool) -> Option<&'static str> {
        match text::lower(&self.keyword.value).as_str() {
            "run" => Some("RUN"),
            "copy" if !expand => Some("COPY"),
            "add" if !expand => Some("ADD"),
            _ => None,
        }
    }

    pub(super) fn each_span(&mut self, tie: &mut dyn FnMut(&mut Span)) {
        tie(&mut self.keyword.span);
        self.flags.iter_mut().for_each(|w| tie(&mut w.span));
        match &mut self.body {
            Body::Words(words) => words.iter_mut().for_each(|w| tie(&mut w.span)),
            Body::Pairs(pairs) => pairs.iter_mut().for_each(|p| tie(&mut p.span)),
            // Only one level is ever looked at, and recursion on hostile text is to be avoided.
            Body::Node(inner) => tie(&mut inner.span),
        }
    }
}

/// Deeper chains of ONBUILD are refused anyway; this keeps recursion short.
const MAX_ONBUILD: usize = 16;

/// Cuts a joined line.
pub(super) fn node(line: &str, escape: char) -> Result<Node, Local> {
    nested(Slice { text: line, at: 0 }, escape, 0)
}

fn nested(line: Slice<'_>, escape: char, depth: usize) -> Result<Node, Local> {
    let (keyword, rest) = line.trimmed().cut();
    let mut node = Node {
        keyword: keyword.word(),
        flags: Vec::new(),
        body: Body::Words(Vec::new()),
        json: false,
        original: line.text.into(),
        heredocs: Vec::new(),
        comments: Vec::new(),
        span: line.word().span,
    };
    let rest = rest.unwrap_or(Slice { text: "", at: line.at + line.text.len() });
    let (flags, taken) = words::flags(rest, escape);
    node.flags = flags;
    // A blank can be found inside a character (see `words::flags`), so the rest may not begin on a boundary.
    let decoded = text::decode(&rest.text.as_bytes()[taken..]);
    let args = Slice { text: &decoded, at: rest.at + taken }.trimmed();
    node.body = match text::lower(keyword.text).as_str() {
        "cmd" | "entrypoint" | "run" | "shell" => maybe_json(args, &mut node.json)?,
        "add" | "copy" | "volume" => match json_words(args)? {
            Some(words) => {
                node.json = true;
                Body::Words(words)
            }
            None if args.text.is_empty() => Body::Words(Vec::new()),
            None => Body::Words(args.pieces()),
        },
        "expose" | "from" if !args.text.is_empty() => Body::Words(args.pieces()),
        "arg" => Body::Words(words::quoted(args, escape)),
        "env" => pairs(args, escape, "ENV")?,
        "label" => pairs(args, escape, "LABEL")?,
        "healthcheck" => health(args, &mut node.json)?,
        "maintainer" | "stopsignal" | "user" | "workdir" if !args.text.is_empty() => Body::Words(vec![args.word()]),
        "onbuild" if depth >= MAX_ONBUILD => return Err((ErrorKind::ChainedOnbuild, None)),
        "onbuild" if !args.text.is_empty() => Body::Node(Box::new(nested(args, escape, depth + 1)?)),
        // Unknown keywords are reported later, when the whole file has been cut.
        _ => Body::Words(Vec::new()),
    };
    Ok(node)
}

fn json_words(args: Slice<'_>) -> Result<Option<Vec<Word>>, Local> {
    match json::strings(args.text) {
        Json::Not => Ok(None),
        Json::NotStrings => Err((ErrorKind::JsonNotStrings, Some(args.word().span))),
        Json::Strings(mut words) => {
            for word in &mut words {
                word.span.start += args.at;
                word.span.end += args.at;
            }
            Ok(Some(words))
        }
    }
}

/// A JSON array, or the text as one word; nothing for no text.
fn maybe_json(args: Slice<'_>, json: &mut bool) -> Result<Body, Local> {
    Ok(Body::Words(match json_words(args)? {
        Some(words) => {
            *json = true;
            words
        }
        None if args.text.is_empty() => Vec::new(),
        None => vec![args.word()],
    }))
}

fn pairs(args: Slice<'_>, escape: char, name: &'static str) -> Result<Body, Local> {
    let words = words::quoted(args, escape);
    let Some(first) = words.first() else { return Ok(Body::Pairs(Vec::new())) };
    if !first.value.contains('=') {
        let (key, value) = args.cut();
        let Some(value) = value else {
            return Err((ErrorKind::NameWithoutValue(name), Some(args.word().span)));
        };
        let span = args.word().span;
        return Ok(Body::Pairs(vec![PairWord { key: key.text.into(), value: value.text.into(), legacy: true, span }]));
    }
    let pair = |word: &Word| match word.value.split_once('=') {
        Some((key, value)) => Ok(PairWord { key: key.into(), value: value.into(), legacy: false, span: word.span }),
        None => Err((ErrorKind::NoEquals { word: word.value.clone() }, Some(word.span))),
    };
    words.iter().map(pair).collect::<Result<_, _>>().map(Body::Pairs)
}

/// HEALTHCHECK: its type, then a command as for CMD.
fn health(args: Slice<'_>, json: &mut bool) -> Result<Body, Local> {
    // Bytes count here, so only ASCII blanks separate.
    let blank = |c: char| text::is_separator(c) || c == '\n';
    let end = args.text.find(blank).unwrap_or(args.text.len());
    let (kind, rest) = args.text.split_at(end);
    if kind.is_empty() {
        return Ok(Body::Words(Vec::new()));
    }
    let command = rest.trim_start_matches(blank);
    let command = Slice { text: command, at: args.at + args.text.len() - command.len() };
    let mut words = vec![Slice { text: kind, at: args.at }.word()];
    if let Body::Words(rest) = maybe_json(command, json)? {
        words.extend(rest);
    }
    Ok(Body::Words(words))
}
