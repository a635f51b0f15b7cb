//! Findings that do not stop a build (spec B.5). A [`Linter`] knows which rules apply to the instruction under way and where that
//! stands; the conversion reports as it goes, since most rules need what only it knows: variables, base images, ignore files.

mod answer;
mod checks;
mod ignored;
pub(crate) mod rules;
mod syntax;

use std::cell::RefCell;
use std::collections::BTreeMap;

pub(crate) use answer::answer;
use checks::Checks;
pub(crate) use ignored::Ignored;
use rules::Rule;
pub(crate) use syntax::{check_file, check_part};

use crate::convert::error::ConvertError;
use crate::convert::graph::Range;
use crate::convert::options::Options;
use crate::convert::stage::ranges;
use crate::host::{Host, Warning};
use crate::span::Span;

/// Reports what the rules find.
pub(crate) struct Linter<'a> {
    host: &'a dyn Host,
    checks: Checks,
    here: RefCell<Here>,
    /// The rules that found something, and where they did first.
    called: RefCell<BTreeMap<&'static str, Vec<Range>>>,
    /// Of several platforms only the first reports.
    muted: bool,
}

/// The instruction under way.
#[derive(Default)]
struct Here {
    checks: Checks,
    ranges: Vec<Range>,
}

impl<'a> Linter<'a> {
    /// A linter with the options of the build or of the file.
    ///
    /// # Errors
    /// When these are malformed.
    pub(crate) fn new(host: &'a dyn Host, options: &Options, source: &[u8]) -> Result<Self, ConvertError> {
        const KEY: &str = "build-arg:BUILDKIT_DOCKERFILE_CHECK";
        let wrong = |error: String| format!("failed to parse check options: {error}");
        let checks = match (options.raw(KEY), crate::parse::check_directive(source)) {
            (Some(text), _) => Checks::parse(text).map_err(|e| ConvertError::option(KEY, wrong(e)))?,
            (None, Some((text, line))) => Checks::parse(&text).map_err(|e| {
                let span = Span { first_line: line, last_line: line, ..Span::default() };
                ConvertError::instruction(wrong(e)).at(&ranges(span))
            })?,
            (None, None) => Checks::default(),
        };
        let here = Here { checks: checks.clone(), ranges: Vec::new() };
        Ok(Self { host, checks, here: RefCell::new(here), called: RefCell::default(), muted: false })
    }

    /// One that reports nothing.
    pub(crate) fn muted(&self) -> Self {
        Self {
            host: self.host,
            checks: self.checks.clone(),
            here: RefCell::default(),
            called: RefCell::default(),
            muted: true,
        }
    }

    /// From here on findings are about this instruction.
    pub(crate) fn enter(&self, comments: &[String], ranges: &[Range]) {
        *self.here.borrow_mut() = Here { checks: self.checks.with_comments(comments), ranges: ranges.to_vec() };
    }

    /// From here on findings are about the whole file.
    pub(crate) fn leave(&self) {
        *self.here.borrow_mut() = Here { checks: self.checks.clone(), ranges: Vec::new() };
    }

    /// A finding about the instruction under way.
    pub(crate) fn found(&self, rule: &'static Rule, message: impl Into<String>) {
        let ranges = self.here.borrow().ranges.clone();
        self.found_at(rule, &ranges, message);
    }

    /// A finding somewhere else, by the rules of the instruction under way.
    pub(crate) fn found_at(&self, rule: &'static Rule, ranges: &[Range], message: impl Into<String>) {
        if self.muted || !self.here.borrow().checks.applies(rule) {
            return;
        }
        self.called.borrow_mut().entry(rule.name).or_insert_with(|| ranges.to_vec());
        self.host.warn(&Warning {
            rule: rule.name.into(),
            message: message.into(),
            detail: rule.description.into(),
            url: rule.url(),
            ranges: ranges.to_vec(),
        });
    }

    /// The end of a conversion.
    ///
    /// # Errors
    /// When there were findings and they are to fail the build.
    pub(crate) fn verdict(&self) -> Result<(), ConvertError> {
        let called = self.called.borrow();
        if !self.checks.error || called.is_empty() {
            return Ok(());
        }
        let rules: Vec<&str> = called.keys().copied().collect();
        let error = ConvertError::instruction(format!("lint violation found for rules: {}", rules.join(", ")));
        let first = called.values().min_by_key(|ranges| ranges.first().map_or(0, |range| range.start_line));
        Err(first.map_or(error.clone(), |ranges| error.at(ranges)))
    }
}
