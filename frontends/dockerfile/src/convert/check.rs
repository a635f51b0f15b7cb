//! Findings that do not stop a build (spec B.5), and the options that say which of them to look for: `# check=skip=…;error=…` or
//! the build argument BUILDKIT_DOCKERFILE_CHECK, which wins. Only rules that need nothing but the syntax are here.

use crate::convert::error::ConvertError;
use crate::convert::golang::parse_bool;
use crate::convert::options::Options;
use crate::convert::stage::ranges;
use crate::host::{Host, Warning};
use crate::instruction::{Dockerfile, Instruction, Kind, Warning as Found};
use crate::span::Span;

/// Which rules to apply.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Checks {
    skip_all: bool,
    skip: Vec<String>,
    error: bool,
}

struct Rule {
    name: &'static str,
    detail: &'static str,
    page: &'static str,
}

const EMPTY_CONTINUATION: Rule = Rule {
    name: "NoEmptyContinuation",
    detail: "An empty line inside an instruction ends it in a future version of the language",
    page: "no-empty-continuation",
};
const MAINTAINER: Rule = Rule {
    name: "MaintainerDeprecated",
    detail: "Write LABEL org.opencontainers.image.authors=\"…\" instead of MAINTAINER",
    page: "maintainer-deprecated",
};

impl Checks {
    fn parse(text: &str) -> Result<Self, String> {
        let mut out = Self::default();
        for part in text.trim().splitn(3, ';').filter(|p| !p.is_empty()) {
            let (key, value) = part.split_once('=').ok_or_else(|| format!("`{part}` has no `=`"))?;
            let value = value.trim();
            match key.trim() {
                "skip" if value == "all" => out.skip_all = true,
                "skip" => out.skip = value.split(',').map(|r| r.trim().to_owned()).collect(),
                // No rule of ours is experimental.
                "experimental" => {}
                "error" => {
                    out.error = parse_bool(value).ok_or_else(|| format!("`error={value}` is neither true nor false"))?
                }
                other => return Err(format!("`{other}` is none of skip, error, experimental")),
            }
        }
        Ok(out)
    }

    fn skips(&self, rule: &Rule) -> bool {
        self.skip_all || self.skip.iter().any(|r| r.eq_ignore_ascii_case(rule.name))
    }
}

/// Reports what the rules find.
///
/// # Errors
/// When the options are malformed, or ask for findings to be errors and there are some.
pub(crate) fn run(host: &dyn Host, options: &Options, source: &[u8], file: &Dockerfile) -> Result<(), ConvertError> {
    const KEY: &str = "build-arg:BUILDKIT_DOCKERFILE_CHECK";
    let checks = match (options.raw(KEY), crate::parse::check_directive(source)) {
        (Some(text), _) => Checks::parse(text).map_err(|e| ConvertError::option(KEY, e))?,
        (None, Some((text, line))) => Checks::parse(&text).map_err(|e| {
            let span = Span { first_line: line, last_line: line, ..Span::default() };
            ConvertError::instruction(format!("check: {e}")).at(&ranges(span))
        })?,
        (None, None) => Checks::default(),
    };
    let mut failed: Vec<(&Rule, Span)> = Vec::new();
    let mut report = |rule: &'static Rule, message: &str, span: Span| {
        if checks.skips(rule) {
            return;
        }
        host.warn(&Warning {
            rule: rule.name.into(),
            message: message.into(),
            detail: rule.detail.into(),
            url: format!("https://docs.docker.com/go/dockerfile/rule/{}/", rule.page),
            ranges: ranges(span),
        });
        failed.push((rule, span));
    };
    for Found::EmptyContinuation { span, .. } in &file.warnings {
        report(&EMPTY_CONTINUATION, "Empty continuation line", *span);
    }
    let all = file.stages.iter().flat_map(|s| &s.instructions);
    for Instruction { span, .. } in all.filter(|i| matches!(i.kind, Kind::Maintainer(_))) {
        report(&MAINTAINER, "Maintainer instruction is deprecated in favor of using label", *span);
    }
    match failed.first() {
        Some((rule, span)) if checks.error => {
            let message = format!("{}: {} finding(s), and the checks are set to fail", rule.name, failed.len());
            Err(ConvertError::instruction(message).at(&ranges(*span)))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options() {
        let checks = Checks::parse("skip=A, noemptycontinuation;error=true").unwrap();
        assert!(checks.error && checks.skips(&EMPTY_CONTINUATION) && !checks.skips(&MAINTAINER));
        assert!(Checks::parse("skip=all").unwrap().skips(&MAINTAINER));
        for bad in ["skip", "error=maybe", "what=1"] {
            assert!(Checks::parse(bad).is_err(), "{bad}");
        }
    }
}
