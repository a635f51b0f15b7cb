//! Moby's pattern matcher: what `.dockerignore`, include and exclude lists mean.
//!
//! A pattern matches a path or any of its parent directories; later patterns win; `!` takes back. `**` stands for any number of directories.
//! Patterns are compiled to a small state machine run over all its states at once: no pattern, however hostile, can make it backtrack.
use crate::glob;
use crate::path::clean;
use crate::{Error, Result};

/// A list of patterns.
#[derive(Debug, Clone)]
pub struct PatternMatcher {
    patterns: Vec<Pattern>,
    has_negation: bool,
}

/// What a directory matched, handed down to its children so that parents are matched once.
#[derive(Debug, Clone, Default)]
pub struct MatchInfo {
    parent: Vec<bool>,
}

#[derive(Debug, Clone)]
pub(crate) struct Pattern {
    pub(crate) text: Vec<u8>,
    pub(crate) negated: bool,
    machine: Machine,
}

#[derive(Debug, Clone)]
enum Machine {
    Exact,
    Prefix,
    Suffix,
    Tokens(Vec<Token>),
}

#[derive(Debug, Clone)]
enum Token {
    /// This byte.
    Byte(u8),
    /// One character that is not `/`.
    One,
    /// Any number of bytes that are not `/`.
    Star,
    /// Any number of bytes.
    All,
    /// Nothing, or anything that ends in `/`.
    Dirs,
    /// A character class, as the text from `[` to `]`.
    Class(Vec<u8>),
}

impl PatternMatcher {
    /// Compiles `patterns`; blank ones are skipped.
    ///
    /// # Errors
    /// [`Error::BadPattern`]: a lone `!`, or broken syntax.
    pub fn new<S: AsRef<str>>(patterns: &[S]) -> Result<Self> {
        let mut compiled = Vec::with_capacity(patterns.len());
        for pattern in patterns {
            let trimmed = pattern.as_ref().trim();
            if trimmed.is_empty() {
                continue;
            }
            let mut text = clean(trimmed.as_bytes());
            let negated = text[0] == b'!';
            if negated {
                text.remove(0);
                if text.is_empty() {
                    return Err(Error::BadPattern { pattern: trimmed.to_owned(), reason: "nothing follows the `!`" });
                }
            }
            glob::validate(&text)?;
            let machine = compile(&text);
            compiled.push(Pattern { text, negated, machine });
        }
        let has_negation = compiled.iter().any(|p| p.negated);
        Ok(Self { patterns: compiled, has_negation })
    }

    /// True when a pattern begins with `!`.
    pub fn has_negation(&self) -> bool {
        self.has_negation
    }

    pub(crate) fn patterns(&self) -> &[Pattern] {
        &self.patterns
    }

    /// True when `path` (relative, clean) or a parent of it matches, and no later `!` takes it back.
    pub fn matches(&self, path: impl AsRef<[u8]>) -> bool {
        self.matches_below(path, &MatchInfo::default()).0
    }

    /// As [`PatternMatcher::matches`] for a path whose parent directory gave `parent`; the default of it means that nothing is known.
    pub fn matches_below(&self, path: impl AsRef<[u8]>, parent: &MatchInfo) -> (bool, MatchInfo) {
        let path = path.as_ref();
        let known = parent.parent.len() == self.patterns.len() && !parent.parent.is_empty();
        let mut info = vec![false; self.patterns.len()];
        let mut matched = false;
        for (at, pattern) in self.patterns.iter().enumerate() {
            let mut hit = known && parent.parent[at];
            if !hit {
                // A plain pattern cannot add to a match, a negated one has nothing to take from no match.
                if pattern.negated != matched {
                    continue;
                }
                hit = pattern.matches(path) || (!known && parents(path).any(|p| pattern.matches(p)));
            }
            info[at] = hit;
            if hit {
                matched = !pattern.negated;
            }
        }
        (matched, MatchInfo { parent: info })
    }
}

/// The proper parents of a relative path, from the top.
fn parents(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.iter().enumerate().filter(|(at, b)| **b == b'/' && *at > 0).map(|(at, _)| &path[..at])
}

impl Pattern {
    fn matches(&self, path: &[u8]) -> bool {
        match &self.machine {
            Machine::Exact => path == self.text,
            Machine::Prefix => path.starts_with(&self.text[..self.text.len() - 2]),
            Machine::Suffix => {
                let suffix = &self.text[2..];
                path.ends_with(suffix) || (suffix.first() == Some(&b'/') && path == &suffix[1..])
            }
            Machine::Tokens(tokens) => run(tokens, path),
        }
    }
}

fn compile(text: &[u8]) -> Machine {
    #[derive(PartialEq)]
    enum Shape {
        Exact,
        Prefix,
        Suffix,
        Tokens,
    }
    let mut shape = Shape::Exact;
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < text.len() {
        match text[at] {
            b'*' if text.get(at + 1) == Some(&b'*') => {
                let first = at == 0;
                at += 2;
                if text.get(at) == Some(&b'/') {
                    at += 1;
                }
                if at == text.len() {
                    shape = if shape == Shape::Exact { Shape::Prefix } else { Shape::Tokens };
                    tokens.push(Token::All);
                } else {
                    shape = Shape::Tokens;
                    tokens.push(Token::Dirs);
                }
                if first {
                    shape = Shape::Suffix;
                }
            }
            b'*' => {
                at += 1;
                shape = Shape::Tokens;
                tokens.push(Token::Star);
            }
            b'?' => {
                at += 1;
                shape = Shape::Tokens;
                tokens.push(Token::One);
            }
            b'[' => {
                shape = Shape::Tokens;
                let length = glob::class_len(&text[at..]).unwrap_or(1);
                tokens.push(Token::Class(text[at..at + length].to_vec()));
                at += length;
            }
            b'\\' if at + 1 < text.len() => {
                shape = Shape::Tokens;
                tokens.push(Token::Byte(text[at + 1]));
                at += 2;
            }
            byte => {
                at += 1;
                if byte == b']' {
                    shape = Shape::Tokens;
                }
                tokens.push(Token::Byte(byte));
            }
        }
    }
    match shape {
        Shape::Exact => Machine::Exact,
        Shape::Prefix => Machine::Prefix,
        Shape::Suffix => Machine::Suffix,
        Shape::Tokens => Machine::Tokens(tokens),
    }
}

/// Runs all states at once: `live[i]` says that tokens before `i` matched what was read; `inside[i]` that token `i`, a `Dirs`, has begun.
fn run(tokens: &[Token], path: &[u8]) -> bool {
    let count = tokens.len();
    let mut live = vec![false; count + 1];
    let mut inside = vec![false; count + 1];
    live[0] = true;
    skip_empty(tokens, &mut live);
    let mut at = 0;
    while at < path.len() {
        let length = glob::char_len(&path[at..]);
        let mut next = vec![false; count + 1];
        let mut next_inside = vec![false; count + 1];
        // A multi-byte literal is a row of byte tokens: step by bytes, and let `One` and `Class` take the whole character at its last byte.
        let mut any = false;
        for (index, token) in tokens.iter().enumerate() {
            let slash = path[at] == b'/';
            if inside[index] {
                next_inside[index] = true;
                next[index + 1] |= slash;
            }
            if !live[index] {
                continue;
            }
            match token {
                Token::Byte(byte) => next[index + 1] |= length == 1 && *byte == path[at],
                Token::One => next[index + 1] |= !slash,
                Token::Star => next[index] |= !slash,
                Token::All => next[index] = true,
                Token::Dirs => {
                    next_inside[index] = true;
                    next[index + 1] |= slash;
                }
                Token::Class(class) => next[index + 1] |= glob::class_matches(class, &path[at..]),
            }
            if length > 1
                && let Some(end) = literal(&tokens[index..], &path[at..at + length])
            {
                next[index + end] = true;
            }
        }
        any |= next.iter().chain(&next_inside).any(|b| *b);
        if !any {
            return false;
        }
        skip_empty(tokens, &mut next);
        live = next;
        inside = next_inside;
        at += length;
    }
    live[count]
}

/// True when the tokens begin with exactly the bytes of one character: how many tokens that is.
fn literal(tokens: &[Token], character: &[u8]) -> Option<usize> {
    let same = tokens.len() >= character.len()
        && tokens.iter().zip(character).all(|(token, byte)| matches!(token, Token::Byte(b) if b == byte));
    same.then_some(character.len())
}

fn skip_empty(tokens: &[Token], live: &mut [bool]) {
    for (index, token) in tokens.iter().enumerate() {
        if live[index] && matches!(token, Token::Star | Token::All | Token::Dirs) {
            live[index + 1] = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(patterns: &[&str], path: &str) -> bool {
        PatternMatcher::new(patterns).unwrap().matches(path)
    }

    #[test]
    fn single_patterns() {
        for (pattern, path, want) in [
            ("**", "file", true),
            ("**", "dir/file", true),
            ("**/", "file", true),
            ("**/**", "dir/file", true),
            ("dir/**", "dir/file", true),
            ("dir/**", "dir/dir2/file", true),
            ("**/dir", "dir/file", true),
            ("**/dir2/*", "dir/dir2/file", true),
            ("**/dir2/**", "dir/dir2/dir2/file", true),
            ("**file", "file", true),
            ("**file", "dir/file", true),
            ("**/file", "dir/dir/file", true),
            ("**/file*", "dir/dir/file.txt", true),
            ("**/file*txt", "dir/dir/file.txt", true),
            ("**/**/*.txt", "dir/dir/file.txt", true),
            ("**/**/*.txt2", "dir/dir/file.txt", false),
            ("**/*.txt", "file.txt", true),
            ("**/**/*.txt", "file.txt", true),
            ("a**/*.txt", "a/file.txt", true),
            ("a**/*.txt", "a/dir/dir/file.txt", true),
            ("a/*.txt", "a/dir/file.txt", false),
            ("a/*.txt", "a/file.txt", true),
            ("a/*.txt**", "a/file.txt", true),
            ("a[b-d]e", "ae", false),
            ("a[b-d]e", "ace", true),
            ("a[^b-d]e", "aze", true),
            (".*", ".foo", true),
            (".*", "foo", false),
            ("abc.def", "abcdef", false),
            ("abc?def", "abcZdef", true),
            ("a\\\\", "a\\", true),
            ("**/foo/bar", "foo/bar", true),
            ("**/foo/bar", "dir/dir2/foo/bar", true),
            ("abc/**", "abc", false),
            ("abc/**", "abc/def/ghi", true),
            ("**/.foo", ".foo", true),
            ("**/.foo", "bar.foo", false),
            ("a(b)c/def", "a(b)c/def", true),
            ("a.|)$(}+{bc", "a.|)$(}+{bc", true),
            ("dist/é.js", "dist/é.js", true),
            ("dist/*/é?.js", "dist/x/éà.js", true),
            ("foo", "foo/bar/baz", true),
            ("foo*", "foo/bar", true),
            ("/foo", "foo", false),
            ("*/é", "x/é", true),
        ] {
            assert_eq!(matches(&[pattern], path), want, "{pattern} on {path}");
        }
    }

    #[test]
    fn later_patterns_win() {
        assert!(!matches(&["*", "!a"], "a"));
        assert!(matches(&["*", "!a"], "b"));
        assert!(matches(&["!a", "*"], "a"));
        assert!(!matches(&["docs", "!docs/README.md"], "docs/README.md"));
        assert!(matches(&["docs", "!docs/README.md", "docs"], "docs/README.md"));
        assert!(!matches(&["**", "!util/docker/web"], "util/docker/web/foo"));
        assert!(matches(&["**", "!util/docker/web", "util/docker/web/foo"], "util/docker/web/foo"));
        assert!(!matches(&["**", "!dist/proxy.py"], "dist/proxy.py"));
    }

    #[test]
    fn parents_are_remembered() {
        let matcher = PatternMatcher::new(&["a", "!a/b/keep"]).unwrap();
        let (hit, a) = matcher.matches_below("a", &MatchInfo::default());
        assert!(hit);
        let (hit, b) = matcher.matches_below("a/b", &a);
        assert!(hit);
        assert!(!matcher.matches_below("a/b/keep", &b).0);
        assert!(matcher.matches_below("a/b/drop", &b).0);
    }

    #[test]
    fn broken_patterns_are_refused() {
        for bad in ["!", "[", "a[b-", "\\"] {
            assert!(PatternMatcher::new(&[bad]).is_err(), "{bad}");
        }
    }
}
