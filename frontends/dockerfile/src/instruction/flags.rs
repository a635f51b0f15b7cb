//! `--flags` of instructions: a table of what an instruction knows, read once against what was written.

use super::{Flag, suggest};
use crate::error::{ErrorKind, ParseError};
use crate::span::{Spanned, Word};
use crate::text;

/// What a flag takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Takes {
    Bool,
    Text,
    Texts,
}

/// Flags of one instruction, checked.
#[derive(Default)]
pub(super) struct Flags {
    found: Vec<(&'static str, String, crate::span::Span)>,
}

impl Flags {
    /// Checks `words` against `known`.
    pub(super) fn read(words: &[Word], known: &[(&'static str, Takes)]) -> Result<Flags, ParseError> {
        let mut flags = Flags::default();
        for word in words {
            flags.add(word, known).map_err(|kind| ParseError::new(kind, word.span))?;
        }
        Ok(flags)
    }

    fn add(&mut self, word: &Word, known: &[(&'static str, Takes)]) -> Result<(), ErrorKind> {
        let Flag { name, value } = split(&word.value);
        let Some(&(name, takes)) = known.iter().find(|(k, _)| *k == name) else {
            let known: Vec<_> = known.iter().map(|(k, _)| *k).collect();
            return Err(ErrorKind::UnknownFlag { suggestion: suggest::exact(&name, &known), name, known });
        };
        if takes != Takes::Texts && self.get(name).is_some() {
            return Err(ErrorKind::DuplicateFlag(name.into()));
        }
        let value = match (takes, value) {
            (Takes::Bool, None) => "true".into(),
            (Takes::Bool, Some(value)) if !value.is_empty() => match text::lower(&value).as_str() {
                lower @ ("true" | "false") => lower.into(),
                _ => return Err(ErrorKind::FlagNotBool { name: name.into(), value }),
            },
            (Takes::Text | Takes::Texts, Some(value)) => value,
            _ => return Err(ErrorKind::FlagWithoutValue(name.into())),
        };
        self.found.push((name, value, word.span));
        Ok(())
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.found.iter().find(|(n, ..)| *n == name).map(|(_, value, _)| value.as_str())
    }

    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.get(name).map(Into::into)
    }

    pub(super) fn texts(&self, name: &str) -> impl Iterator<Item = Spanned<&str>> {
        self.found
            .iter()
            .filter(move |(n, ..)| *n == name)
            .map(|(_, v, span)| Spanned { value: v.as_str(), span: *span })
    }

    pub(super) fn bool(&self, name: &str) -> Option<bool> {
        self.get(name).map(|v| v == "true")
    }
}

/// `--name=value` as written.
pub(super) fn split(word: &str) -> Flag {
    let word = word.strip_prefix("--").unwrap_or(word);
    match word.split_once('=') {
        Some((name, value)) => Flag { name: name.into(), value: Some(value.into()) },
        None => Flag { name: word.into(), value: None },
    }
}
