//! The patterns of `${name#pattern}` and `${name/pattern/replacement}`: `*`, `?` and literals. BuildKit runs them as
//! regular expressions of Go, which shows: neither wildcard crosses a newline, `$0` in a replacement is the match. This
//! matcher keeps Go's choice among matches (leftmost, then greedy or lazy star by star) in time linear in
//! pattern × text, by remembering which states have failed.

use super::ShellErrorKind;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Token {
    Literal(char),
    AnyOne,
    Star,
}

/// How much a star takes where several lengths fit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Stars {
    Greedy,
    Lazy,
}

fn tokens(pattern: &str) -> Result<Vec<Token>, ShellErrorKind> {
    let mut out = Vec::new();
    let mut chars = pattern.strip_prefix('\u{feff}').unwrap_or(pattern).chars().peekable();
    while let Some(c) = chars.next() {
        out.push(match c {
            '*' => Token::Star,
            '?' => Token::AnyOne,
            '\\' => match chars.peek() {
                Some('}' | '/') => continue,
                Some(&escaped @ ('*' | '?' | '\\')) => {
                    chars.next();
                    Token::Literal(escaped)
                }
                other => {
                    let escaped = other.map(char::to_string).unwrap_or_default();
                    return Err(ShellErrorKind::Pattern { pattern: pattern.into(), escaped });
                }
            },
            c => Token::Literal(c),
        });
    }
    Ok(out)
}

/// A pattern cut at its stars, and the states known to lead nowhere.
struct Matcher<'t> {
    pieces: Vec<Vec<Token>>,
    stars: Stars,
    text: &'t [char],
    failed: Vec<u64>,
    touched: Vec<usize>,
}

enum Step {
    Star(usize, usize),
    Leave(usize, usize),
}

impl<'t> Matcher<'t> {
    fn new(pattern: &str, stars: Stars, text: &'t [char]) -> Result<Self, ShellErrorKind> {
        let mut tokens = tokens(pattern)?;
        tokens.dedup_by(|a, b| *a == Token::Star && *b == Token::Star);
        let pieces: Vec<_> = tokens.split(|t| *t == Token::Star).map(<[Token]>::to_vec).collect();
        let states = (pieces.len() - 1) * (text.len() + 1);
        Ok(Matcher { pieces, stars, text, failed: vec![0; states.div_ceil(64)], touched: Vec::new() })
    }

    fn piece(&self, index: usize, at: usize) -> Option<usize> {
        let piece = &self.pieces[index];
        let text = self.text.get(at..at + piece.len())?;
        let fits = piece.iter().zip(text).all(|(token, c)| match token {
            Token::Literal(l) => l == c,
            Token::AnyOne | Token::Star => *c != '\n',
        });
        fits.then_some(at + piece.len())
    }

    /// Marks a state; false if it was marked before.
    fn enter(&mut self, piece: usize, at: usize) -> bool {
        let state = (piece - 1) * (self.text.len() + 1) + at;
        let (word, bit) = (state / 64, 1 << (state % 64));
        let fresh = self.failed[word] & bit == 0;
        if fresh {
            self.failed[word] |= bit;
            self.touched.push(word);
        }
        fresh
    }

    /// The end of the preferred match that starts at `start`.
    fn at(&mut self, start: usize) -> Option<usize> {
        let end = self.piece(0, start)?;
        let last = self.pieces.len() - 1;
        if last == 0 {
            return Some(end);
        }
        let mut stack = vec![Step::Star(1, end)];
        while let Some(step) = stack.pop() {
            match step {
                Step::Star(piece, at) => {
                    if !self.enter(piece, at) {
                        continue;
                    }
                    let more = self.text.get(at).is_some_and(|c| *c != '\n');
                    if more && self.stars == Stars::Lazy {
                        stack.push(Step::Star(piece, at + 1));
                    }
                    stack.push(Step::Leave(piece, at));
                    if more && self.stars == Stars::Greedy {
                        stack.push(Step::Star(piece, at + 1));
                    }
                }
                Step::Leave(piece, at) => match self.piece(piece, at) {
                    Some(end) if piece == last => return Some(end),
                    Some(end) => stack.push(Step::Star(piece + 1, end)),
                    None => {}
                },
            }
        }
        None
    }

    /// The leftmost match at or behind `from`.
    fn find(&mut self, from: usize) -> Option<(usize, usize)> {
        for word in self.touched.drain(..) {
            self.failed[word] = 0;
        }
        (from..=self.text.len()).find_map(|start| self.at(start).map(|end| (start, end)))
    }
}

/// `${name#pattern}` and `${name##pattern}`.
pub(super) fn trim_prefix(pattern: &str, value: &str, stars: Stars) -> Result<String, ShellErrorKind> {
    let text: Vec<char> = value.chars().collect();
    let end = Matcher::new(pattern, stars, &text)?.at(0).unwrap_or(0);
    Ok(text[end..].iter().collect())
}

/// `${name%pattern}` and `${name%%pattern}`: a prefix of the reversed value.
pub(super) fn trim_suffix(pattern: &str, value: &str, stars: Stars) -> Result<String, ShellErrorKind> {
    let reversed: String = value.chars().rev().collect();
    let trimmed = trim_prefix(&reverse_pattern(pattern), &reversed, stars)?;
    Ok(trimmed.chars().rev().collect())
}

/// Reverses a pattern but leaves each escape before its character.
fn reverse_pattern(pattern: &str) -> String {
    let mut units = Vec::new();
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        units.push((c, if c == '\\' { chars.next() } else { None }));
    }
    units.iter().rev().flat_map(|(c, escaped)| [Some(*c), *escaped]).flatten().collect()
}

/// `${name/pattern/replacement}`, or `//` for every match.
pub(super) fn replace(pattern: &str, value: &str, with: &str, all: bool) -> Result<String, ShellErrorKind> {
    let text: Vec<char> = value.chars().collect();
    let mut matcher = Matcher::new(pattern, Stars::Greedy, &text)?;
    let mut out = String::new();
    if !all {
        return Ok(match matcher.find(0) {
            Some((start, end)) => {
                out.extend(&text[..start]);
                out.push_str(with);
                out.extend(&text[end..]);
                out
            }
            None => value.into(),
        });
    }
    let (mut copied, mut from) = (0, 0);
    while from <= text.len() {
        let Some((start, end)) = matcher.find(from) else { break };
        out.extend(&text[copied..start]);
        // An empty match right behind the last one does not count.
        if end > copied || start == 0 {
            fill_template(&mut out, with, &text[start..end]);
        }
        copied = end;
        from = end.max(from + 1);
    }
    out.extend(&text[copied..]);
    Ok(out)
}

/// Go's replacement templates: `$0` and `${0}` are the match, `$$` a dollar, other names are empty.
fn fill_template(out: &mut String, template: &str, matched: &[char]) {
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        rest = after;
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
            continue;
        }
        let (body, braced) = rest.strip_prefix('{').map_or((rest, false), |b| (b, true));
        let length = body.find(|c| !super::is_name_char(c)).unwrap_or(body.len());
        let (name, tail) = body.split_at(length);
        let tail = if braced { tail.strip_prefix('}') } else { Some(tail) };
        match tail {
            Some(tail) if !name.is_empty() => {
                if name == "0" {
                    out.extend(matched);
                }
                rest = tail;
            }
            _ => out.push('$'),
        }
    }
    out.push_str(rest);
}
