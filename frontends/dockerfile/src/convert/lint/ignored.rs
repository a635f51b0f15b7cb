//! Whether a path of COPY is kept out by an ignore file: moby's patterns, as far as the rule CopyIgnoredFile needs them. A file with
//! `!` is not judged, since what it takes back cannot be told without the files. Patterns run over all states at once and cannot
//! backtrack.

/// The patterns of an ignore file.
#[derive(Debug, Default)]
pub(crate) struct Ignored {
    patterns: Vec<(String, Vec<Token>)>,
    exceptions: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Char(char),
    /// `?`: one character of a name.
    One,
    /// `*`: any characters of a name.
    Star,
    /// `**` at the end.
    All,
    /// `**/`: nothing, or directories.
    Dirs,
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

impl Ignored {
    /// Reads cleaned patterns.
    ///
    /// # Errors
    /// The pattern that cannot be read, for the message.
    pub(crate) fn new(patterns: &[String]) -> Result<Self, String> {
        let mut out = Self::default();
        for pattern in patterns {
            if let Some(rest) = pattern.strip_prefix('!') {
                if rest.is_empty() {
                    return Err("illegal exclusion pattern: \"!\"".into());
                }
                out.exceptions = true;
                compile(rest).ok_or_else(|| format!("syntax error in pattern `{pattern}`"))?;
                continue;
            }
            let tokens = compile(pattern).ok_or_else(|| format!("syntax error in pattern `{pattern}`"))?;
            out.patterns.push((pattern.clone(), tokens));
        }
        Ok(out)
    }

    /// Whether `source` of a COPY is known to be kept out. Takes the path as cleaned by `path.Clean`.
    pub(crate) fn keeps_out(&self, source: &str) -> bool {
        if self.exceptions {
            return false;
        }
        let everything = |(text, _): &(String, _)| matches!(text.as_str(), "*" | "**" | "**/*");
        if matches!(source, "." | "/") && !self.patterns.iter().any(everything) {
            return false;
        }
        let parents = source.match_indices('/').map(|(at, _)| &source[..at]).filter(|p| *p != ".");
        let paths: Vec<&str> = std::iter::once(source).chain(parents).collect();
        self.patterns.iter().any(|(_, tokens)| paths.iter().any(|path| matches(tokens, path)))
    }
}

/// `None` if the pattern is malformed.
fn compile(pattern: &str) -> Option<Vec<Token>> {
    let mut chars = pattern.chars().peekable();
    let mut out = Vec::new();
    while let Some(c) = chars.next() {
        out.push(match c {
            '*' if chars.next_if_eq(&'*').is_some() => {
                chars.next_if_eq(&'/');
                if chars.peek().is_none() { Token::All } else { Token::Dirs }
            }
            '*' => Token::Star,
            '?' => Token::One,
            '\\' => Token::Char(chars.next()?),
            '[' => {
                let negated = chars.next_if_eq(&'^').is_some();
                let mut ranges = Vec::new();
                let one = |chars: &mut std::iter::Peekable<std::str::Chars<'_>>| match chars.next()? {
                    '\\' => chars.next(),
                    '-' | ']' => None,
                    c => Some(c),
                };
                while ranges.is_empty() || chars.peek() != Some(&']') {
                    let first = one(&mut chars)?;
                    let last = if chars.next_if_eq(&'-').is_some() { one(&mut chars)? } else { first };
                    ranges.push((first, last));
                }
                chars.next();
                Token::Class { negated, ranges }
            }
            c => Token::Char(c),
        });
    }
    Some(out)
}

fn matches(tokens: &[Token], path: &str) -> bool {
    // `at[i]`: what was read so far matches the first `i` tokens. `inside[i]`: token `i`, a `**/`, has begun.
    let mut at = vec![false; tokens.len() + 1];
    let mut inside = vec![false; tokens.len()];
    at[0] = true;
    let skip = |at: &mut [bool], inside: &mut [bool]| {
        for (i, token) in tokens.iter().enumerate() {
            if at[i] && matches!(token, Token::Star | Token::All | Token::Dirs) {
                at[i + 1] = true;
                inside[i] |= *token == Token::Dirs;
            }
        }
    };
    skip(&mut at, &mut inside);
    for c in path.chars() {
        let mut next = vec![false; tokens.len() + 1];
        let mut still = vec![false; tokens.len()];
        for (i, token) in tokens.iter().enumerate() {
            if inside[i] {
                still[i] = true;
                next[i + 1] |= c == '/';
            }
            if !at[i] {
                continue;
            }
            match token {
                Token::Char(wanted) => next[i + 1] |= *wanted == c,
                Token::One => next[i + 1] |= c != '/',
                Token::Star => next[i] |= c != '/',
                Token::All => next[i] = true,
                Token::Dirs => {}
                Token::Class { negated, ranges } => {
                    next[i + 1] |= ranges.iter().any(|(a, b)| (*a..=*b).contains(&c)) != *negated;
                }
            }
        }
        (at, inside) = (next, still);
        skip(&mut at, &mut inside);
    }
    at[tokens.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keeps_out(patterns: &[&str], path: &str) -> bool {
        let patterns: Vec<String> = patterns.iter().map(|p| (*p).to_owned()).collect();
        Ignored::new(&patterns).unwrap().keeps_out(path)
    }

    #[test]
    fn patterns() {
        for (pattern, path, wanted) in [
            ("a", "a", true),
            ("a", "a/b", true),
            ("a", "ab", false),
            ("*.o", "x.o", true),
            ("*.o", "d/x.o", false),
            ("**/*.o", "d/e/x.o", true),
            ("**/x", "x", true),
            ("a/**", "a/b/c", true),
            ("a/**/z", "a/z", true),
            ("a/**/z", "a/b/c/z", true),
            ("a/**/z", "a/bz", false),
            ("?", "é", true),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("*", ".", true),
            ("a*", ".", false),
            ("\\*", "*", true),
            ("\\*", "a", false),
        ] {
            assert_eq!(keeps_out(&[pattern], path), wanted, "{pattern} {path}");
        }
        assert!(!keeps_out(&["a", "!a/b"], "a"), "exceptions are not judged");
    }

    #[test]
    fn malformed_and_hostile_patterns() {
        for bad in ["[", "[]", "[a", "a\\", "[-]", "[a-]", "!"] {
            assert!(Ignored::new(&[bad.to_owned()]).is_err(), "{bad}");
        }
        let pattern = "**/*a".repeat(50) + "b";
        assert!(!keeps_out(&[&pattern], &"a".repeat(2_000)));
    }
}
