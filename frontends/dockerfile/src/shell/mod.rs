//! Variable expansion and word splitting as BuildKit's shell lexer does it (compatibility spec B.2).
//!
//! Two results come out of one pass: the text as one word (`expand`) and its words (`words`). They are not the same thing
//! split: a nested `${a:-b}` starts the word buffer anew and so forgets what stood directly before it. Ports and heredoc
//! words depend on that, therefore it is kept.

mod pattern;

use pattern::Stars;
use std::collections::{BTreeMap, BTreeSet};

/// How deep `${a:-${b:-…}}` may go; a guest's stack is small.
const MAX_DEPTH: usize = 200;

/// Where the lexer looks variables up.
pub trait Env {
    /// The value, or `None` if the variable is not set.
    fn get(&self, name: &str) -> Option<&str>;
}

impl Env for BTreeMap<String, String> {
    fn get(&self, name: &str) -> Option<&str> {
        BTreeMap::get(self, name).map(String::as_str)
    }
}

impl<E: Env + ?Sized> Env for &E {
    fn get(&self, name: &str) -> Option<&str> {
        (**self).get(name)
    }
}

/// `KEY=value` entries; the last one wins. A lookup reads the list from its end.
impl Env for [String] {
    fn get(&self, name: &str) -> Option<&str> {
        self.iter().rev().find_map(|entry| {
            let (key, value) = entry.split_once('=').unwrap_or((entry, ""));
            (key == name).then_some(value)
        })
    }
}

impl Env for Vec<String> {
    fn get(&self, name: &str) -> Option<&str> {
        <[String] as Env>::get(self, name)
    }
}

/// No variables at all.
pub struct NoEnv;

impl Env for NoEnv {
    fn get(&self, _: &str) -> Option<&str> {
        None
    }
}

/// A word with its variables replaced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expansion {
    /// The whole text with quotes and escapes removed.
    pub text: String,
    /// The text split at white space outside quotes, after expansion.
    pub words: Vec<String>,
    /// Variables that were looked up and set.
    pub matched: BTreeSet<String>,
    /// Variables that were looked up and not set.
    pub unmatched: BTreeSet<String>,
}

/// Why a word cannot be expanded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot expand `{word}`: {kind}")]
pub struct ShellError {
    pub word: String,
    pub kind: ShellErrorKind,
}

/// The kinds of [`ShellError`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShellErrorKind {
    #[error("substitutions are nested more than {MAX_DEPTH} deep")]
    TooDeep,
    #[error("missing `}}`")]
    MissingBrace,
    #[error("missing `/` in `${{name/pattern/replacement}}`")]
    MissingSlash,
    #[error("bad substitution")]
    BadSubstitution,
    #[error("unsupported modifier `{0}`")]
    Modifier(String),
    #[error("no matching {0} quote")]
    Quote(&'static str),
    #[error("{name}: {message}")]
    Required { name: String, message: String },
    #[error("invalid escape `\\{escaped}` in pattern `{pattern}`; only *, ? and \\ can be escaped")]
    Pattern { pattern: String, escaped: String },
}

/// The lexer and its modes. Plain use: `Lexer::new(dockerfile.escape).expand(word, &env)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lexer {
    /// The escape character: `\\` or a backtick.
    pub escape: char,
    /// Keep quotes in the result.
    pub raw_quotes: bool,
    /// Keep escape characters in the result.
    pub raw_escapes: bool,
    /// Treat quotes as ordinary characters (heredoc bodies).
    pub ignore_quotes: bool,
    /// Leave references to unset variables as they are.
    pub keep_unset: bool,
}

impl Lexer {
    /// A lexer that removes quotes and escapes and replaces every variable.
    pub fn new(escape: char) -> Self {
        Lexer { escape, raw_quotes: false, raw_escapes: false, ignore_quotes: false, keep_unset: false }
    }

    /// Replaces variables and removes quotes.
    ///
    /// # Errors
    /// Bad substitutions, unmatched quotes, and `${name:?message}` of a missing variable.
    pub fn expand(&self, word: &str, env: &dyn Env) -> Result<Expansion, ShellError> {
        let mut run = Run {
            lexer: *self,
            chars: word.strip_prefix('\u{feff}').unwrap_or(word).chars().peekable(),
            env,
            raw_escapes: self.raw_escapes,
            buffer: String::new(),
            depth: 0,
            matched: BTreeSet::new(),
            unmatched: BTreeSet::new(),
        };
        match run.until(None, self.raw_escapes) {
            Ok((text, words)) => Ok(Expansion { text, words, matched: run.matched, unmatched: run.unmatched }),
            Err(kind) => Err(ShellError { word: word.into(), kind }),
        }
    }

    /// The words of the expanded text.
    ///
    /// # Errors
    /// As [`Lexer::expand`].
    pub fn words(&self, text: &str, env: &dyn Env) -> Result<Vec<String>, ShellError> {
        self.expand(text, env).map(|e| e.words)
    }
}

/// Letters, digits and underscores make names.
fn is_name_char(c: char) -> bool {
    c == '_' || c.is_alphabetic() || is_digit(c)
}

/// A decimal digit of any script that Dockerfiles have been seen in.
fn is_digit(c: char) -> bool {
    matches!(c, '0'..='9' | '\u{660}'..='\u{669}' | '\u{6f0}'..='\u{6f9}' | '\u{966}'..='\u{96f}' | '\u{ff10}'..='\u{ff19}')
}

type Outcome<T> = Result<T, ShellErrorKind>;

/// One pass over one word.
struct Run<'a> {
    lexer: Lexer,
    chars: std::iter::Peekable<std::str::Chars<'a>>,
    env: &'a dyn Env,
    raw_escapes: bool,
    /// The word being built; shared by nested calls on purpose (see the top of this file).
    buffer: String,
    depth: usize,
    matched: BTreeSet<String>,
    unmatched: BTreeSet<String>,
}

/// The words found by one level of the pass.
#[derive(Default)]
struct Words {
    done: Vec<String>,
    in_word: bool,
}

impl Words {
    fn char(&mut self, buffer: &mut String, c: char) {
        if !crate::text::is_space(c) {
            buffer.push(c);
            self.in_word = true;
        } else if self.in_word && !buffer.is_empty() {
            self.done.push(std::mem::take(buffer));
            self.in_word = false;
        }
    }

    fn raw(&mut self, buffer: &mut String, text: &str) {
        buffer.push_str(text);
        self.in_word = true;
    }
}

impl Run<'_> {
    /// Reads up to `stop`, or to the end. Returns the text and its words.
    fn until(&mut self, stop: Option<char>, raw_escapes: bool) -> Outcome<(String, Vec<String>)> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(ShellErrorKind::TooDeep);
        }
        let outer = std::mem::replace(&mut self.raw_escapes, raw_escapes);
        let mut text = String::new();
        let mut words = Words::default();
        self.buffer.clear();
        let mut closed = stop.is_none();
        while let Some(&c) = self.chars.peek() {
            if Some(c) == stop {
                self.chars.next();
                closed = true;
                break;
            }
            match c {
                '$' => {
                    let value = self.dollar()?;
                    value.chars().for_each(|c| words.char(&mut self.buffer, c));
                    text.push_str(&value);
                }
                '<' | '\'' | '"' if c == '<' || !self.lexer.ignore_quotes => {
                    let piece = match c {
                        '<' => self.angle(),
                        '"' => self.double_quote()?,
                        _ => self.single_quote()?,
                    };
                    words.raw(&mut self.buffer, &piece);
                    text.push_str(&piece);
                }
                _ if c == self.lexer.escape => {
                    self.chars.next();
                    if self.raw_escapes {
                        words.raw(&mut self.buffer, c.encode_utf8(&mut [0; 4]));
                        text.push(c);
                    }
                    let Some(escaped) = self.chars.next() else { break };
                    words.raw(&mut self.buffer, escaped.encode_utf8(&mut [0; 4]));
                    text.push(escaped);
                }
                _ => {
                    self.chars.next();
                    words.char(&mut self.buffer, c);
                    text.push(c);
                }
            }
        }
        if !closed {
            return Err(if stop == Some('/') { ShellErrorKind::MissingSlash } else { ShellErrorKind::MissingBrace });
        }
        if !self.buffer.is_empty() {
            words.done.push(std::mem::take(&mut self.buffer));
        }
        self.raw_escapes = outer;
        self.depth -= 1;
        Ok((text, words.done))
    }

    fn single_quote(&mut self) -> Outcome<String> {
        let mut out = String::new();
        self.quote_mark(&mut out);
        loop {
            match self.chars.peek() {
                None => return Err(ShellErrorKind::Quote("single")),
                Some('\'') => {
                    self.quote_mark(&mut out);
                    return Ok(out);
                }
                Some(_) => out.extend(self.chars.next()),
            }
        }
    }

    /// Consumes a quote and keeps it in raw mode.
    fn quote_mark(&mut self, out: &mut String) {
        let mark = self.chars.next();
        if self.lexer.raw_quotes {
            out.extend(mark);
        }
    }

    /// Inside double quotes variables work, and the escape character only before `"`, `$` and itself.
    fn double_quote(&mut self) -> Outcome<String> {
        let mut out = String::new();
        self.quote_mark(&mut out);
        loop {
            match self.chars.peek().copied() {
                None => return Err(ShellErrorKind::Quote("double")),
                Some('"') => {
                    self.quote_mark(&mut out);
                    return Ok(out);
                }
                Some('$') => out.push_str(&self.dollar()?),
                Some(c) if c == self.lexer.escape => {
                    self.chars.next();
                    if self.raw_escapes {
                        out.push(c);
                    }
                    match self.chars.peek().copied() {
                        None => {}
                        Some(n) if n == '"' || n == '$' || n == self.lexer.escape => out.extend(self.chars.next()),
                        Some(_) => out.push(c),
                    }
                }
                Some(_) => out.extend(self.chars.next()),
            }
        }
    }

    /// `<`, or `<<` with the blanks behind it, which then belong to the word (`<< EOF`).
    fn angle(&mut self) -> String {
        self.chars.next();
        if self.chars.next_if_eq(&'<').is_none() {
            return "<".into();
        }
        let mut out = String::from("<<");
        while let Some(c) = self.chars.next_if(|c| matches!(c, '\t' | '\r' | ' ')) {
            out.push(c);
        }
        out
    }

    fn lookup(&mut self, name: &str) -> Option<String> {
        let value = self.env.get(name);
        let seen = if value.is_some() { &mut self.matched } else { &mut self.unmatched };
        seen.insert(name.into());
        value.map(Into::into)
    }

    fn dollar(&mut self) -> Outcome<String> {
        self.chars.next();
        if self.chars.next_if_eq(&'{').is_none() {
            let name = self.name();
            if name.is_empty() {
                return Ok("$".into());
            }
            return Ok(match self.lookup(&name) {
                None if self.lexer.keep_unset => format!("${name}"),
                value => value.unwrap_or_default(),
            });
        }
        match self.chars.peek() {
            None => return Err(ShellErrorKind::MissingBrace),
            Some('{' | '}' | ':') => return Err(ShellErrorKind::BadSubstitution),
            Some(_) => {}
        }
        let name = self.name();
        match self.chars.next() {
            None => Err(ShellErrorKind::MissingBrace),
            Some('}') => Ok(match self.lookup(&name) {
                None if self.lexer.keep_unset => format!("${{{name}}}"),
                value => value.unwrap_or_default(),
            }),
            Some(':') => match self.chars.next() {
                None => Err(ShellErrorKind::MissingBrace),
                Some(c @ ('#' | '%')) => Err(ShellErrorKind::Modifier(format!(":{c}"))),
                Some(c) => self.modified(&name, c, true),
            },
            Some(c @ ('+' | '-' | '?' | '#' | '%')) => self.modified(&name, c, false),
            Some('/') => self.replaced(&name),
            Some(c) => Err(ShellErrorKind::Modifier(c.into())),
        }
    }

    /// `${name<modifier>word}`; `colon` makes an empty value count as none.
    fn modified(&mut self, name: &str, modifier: char, colon: bool) -> Outcome<String> {
        let is_pattern = matches!(modifier, '#' | '%');
        let (word, _) = self.until(Some('}'), is_pattern)?;
        let value = self.lookup(name);
        let sign = if colon { format!(":{modifier}") } else { modifier.to_string() };
        if value.is_none() && self.lexer.keep_unset {
            return Ok(format!("${{{name}{sign}{word}}}"));
        }
        let present = value.as_deref().filter(|v| !(colon && v.is_empty()));
        match modifier {
            '-' => Ok(present.map_or(word, Into::into)),
            '+' => Ok(if present.is_some() { word } else { String::new() }),
            '?' => match present {
                Some(value) => Ok(value.into()),
                None => {
                    let state = if value.is_none() { "unset" } else { "empty" };
                    let message = if word.is_empty() { format!("is not allowed to be {state}") } else { word };
                    Err(ShellErrorKind::Required { name: name.into(), message })
                }
            },
            '#' | '%' => {
                let value = value.unwrap_or_default();
                let (pattern, stars) = match word.strip_prefix(modifier) {
                    Some(rest) => (rest, Stars::Greedy),
                    None => (word.as_str(), Stars::Lazy),
                };
                let trim = if modifier == '#' { pattern::trim_prefix } else { pattern::trim_suffix };
                trim(pattern, &value, stars)
            }
            _ => Err(ShellErrorKind::Modifier(sign)),
        }
    }

    /// `${name/pattern/replacement}` and `${name//pattern/replacement}`.
    fn replaced(&mut self, name: &str) -> Outcome<String> {
        let all = self.chars.next_if_eq(&'/').is_some();
        let (pattern, _) = self.until(Some('/'), true)?;
        let (with, _) = self.until(Some('}'), true)?;
        match self.lookup(name) {
            None if self.lexer.keep_unset => Ok(format!("${{{name}/{pattern}/{with}}}")),
            value => pattern::replace(&pattern, &value.unwrap_or_default(), &with, all),
        }
    }

    /// A variable's name: digits only, one special parameter, or a word; empty if there is none.
    fn name(&mut self) -> String {
        let mut name = String::new();
        match self.chars.peek().copied() {
            Some(c) if is_digit(c) => {
                while let Some(c) = self.chars.next_if(|c| is_digit(*c)) {
                    name.push(c);
                }
            }
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => name.extend(self.chars.next()),
            _ => {
                while let Some(c) = self.chars.next_if(|c| is_name_char(*c)) {
                    name.push(c);
                }
            }
        }
        name
    }
}

#[cfg(test)]
mod tests;
