//! Finding heredocs in a line. A heredoc is a whole shell word of the form `[digits]<<[-]WORD`; `cat<<EOF` is none.

use super::line::Local;
use crate::error::ErrorKind;
use crate::instruction::Heredoc;
use crate::shell::{Lexer, NoEnv, ShellError};
use crate::span::Span;
use crate::text;

/// The heredocs of a line in order, with empty bodies, and the place of each in the line.
pub(super) fn of_line(line: &str) -> Result<Vec<(Heredoc, Span)>, Local> {
    let lexer = Lexer { raw_quotes: true, raw_escapes: true, keep_unset: true, ..Lexer::new('\\') };
    // A line that cannot be lexed has no heredocs; what is wrong with it is the shell's business.
    let words = lexer.words(line, &NoEnv).unwrap_or_default();
    let mut found = Vec::new();
    let mut from = 0;
    for text in words {
        let start = line[from..].find(&text).map(|at| from + at);
        let local = start.map(|start| Span { start, end: start + text.len(), ..Span::default() });
        if let Some(heredoc) = word(&text).map_err(|e| (ErrorKind::Shell(e), local))? {
            from = local.map_or(from, |l| l.end);
            found.push((heredoc, local.unwrap_or(Span { start: 0, end: line.len(), ..Span::default() })));
        }
    }
    Ok(found)
}

/// Reads one word as the beginning of a heredoc.
///
/// # Errors
/// The word behind `<<` has an unmatched quote or a bad substitution.
pub(crate) fn word(source: &str) -> Result<Option<Heredoc>, ShellError> {
    let digits = source.find(|c: char| !c.is_ascii_digit()).unwrap_or(source.len());
    let (descriptor, rest) = source.split_at(digits);
    let Some(rest) = rest.strip_prefix("<<") else { return Ok(None) };
    let (rest, chomp) = rest.strip_prefix('-').map_or((rest, false), |r| (r, true));
    let rest = rest.trim_start_matches(text::is_regex_space);
    if rest.is_empty() || rest.contains('<') {
        return Ok(None);
    }
    // Lexed with and without quotes: if one has more quotes, the word was quoted and its body is not expanded.
    let lexer = Lexer { keep_unset: true, ..Lexer::new('\\') };
    let plain = lexer.words(rest, &NoEnv)?;
    let [name] = plain.as_slice() else { return Ok(None) };
    let raw = Lexer { raw_quotes: true, ..lexer }.words(rest, &NoEnv)?;
    let quotes = |s: &str| s.matches(['\'', '"']).count();
    Ok(Some(Heredoc {
        name: name.clone(),
        descriptor: if descriptor.is_empty() { 0 } else { descriptor.parse().unwrap_or(u64::MAX) },
        expand: raw.first().is_some_and(|raw| quotes(raw) == quotes(name)),
        chomp,
        content: String::new(),
    }))
}
