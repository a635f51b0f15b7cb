//! Which rules apply: `# check=skip=…;experimental=…;error=…`, or the build argument BUILDKIT_DOCKERFILE_CHECK, which wins; and
//! `# check=skip=…` in the comments right above an instruction, for that instruction alone.

use std::collections::BTreeSet;

use super::rules::Rule;
use crate::convert::golang::parse_bool;

/// Which rules to apply.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Checks {
    skip_all: bool,
    skip: BTreeSet<String>,
    experimental_all: bool,
    experimental: BTreeSet<String>,
    /// Findings fail the build.
    pub error: bool,
}

impl Checks {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut out = Self::default();
        let text = text.trim();
        if text.is_empty() {
            return Ok(out);
        }
        for part in text.splitn(3, ';') {
            let (key, value) = part.split_once('=').ok_or_else(|| format!("invalid check option \"{part}\""))?;
            let value = value.trim();
            let list = || value.split(',').map(|rule| rule.trim().to_owned()).collect();
            match key.trim() {
                "skip" if value == "all" => out.skip_all = true,
                "skip" => out.skip = list(),
                "experimental" if value == "all" => out.experimental_all = true,
                "experimental" => out.experimental = list(),
                "error" => {
                    out.error = parse_bool(value)
                        .ok_or_else(|| format!("failed to parse check option \"{part}\": wanted true or false"))?;
                }
                other => {
                    return Err(format!("invalid check option \"{other}\": wanted skip, experimental or error"));
                }
            }
        }
        Ok(out)
    }

    pub(super) fn applies(&self, rule: &Rule) -> bool {
        if rule.experimental {
            return self.experimental_all || self.experimental.contains(rule.name);
        }
        !self.skip_all && !self.skip.contains(rule.name)
    }

    /// These, and what the first `check=` among the comments of an instruction adds. A malformed one adds nothing.
    pub(super) fn with_comments(&self, comments: &[String]) -> Self {
        let mut out = self.clone();
        let Some(value) = comments.iter().find_map(|comment| check_comment(comment)) else { return out };
        if let Ok(more) = Self::parse(value.split(' ').next().unwrap_or_default()) {
            out.skip_all |= more.skip_all;
            out.skip.extend(more.skip);
            out.experimental_all |= more.experimental_all;
            out.experimental.extend(more.experimental);
        }
        out
    }
}

/// The value of `check = value`.
fn check_comment(comment: &str) -> Option<&str> {
    let (key, value) = comment.split_once('=')?;
    let value = value.trim();
    (key.trim_end().eq_ignore_ascii_case("check") && !value.is_empty()).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::convert::lint::rules;

    #[test]
    fn options() {
        let checks = Checks::parse("skip=A, NoEmptyContinuation;error=true").unwrap();
        assert!(checks.error && !checks.applies(&rules::NO_EMPTY_CONTINUATION));
        assert!(checks.applies(&rules::MAINTAINER_DEPRECATED));
        assert!(!checks.applies(&rules::INVALID_DEFINITION_DESCRIPTION));
        assert!(Checks::parse("experimental=all").unwrap().applies(&rules::INVALID_DEFINITION_DESCRIPTION));
        assert!(!Checks::parse("skip=all").unwrap().applies(&rules::MAINTAINER_DEPRECATED));
        for bad in ["skip", "error=maybe", "what=1", ";"] {
            assert!(Checks::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn comments_add_to_what_is_skipped() {
        let base = Checks::parse("skip=A;error=true").unwrap();
        let more = base.with_comments(&["words".into(), "Check = skip=MaintainerDeprecated because".into()]);
        assert!(more.error && !more.applies(&rules::MAINTAINER_DEPRECATED));
        assert_eq!(base.with_comments(&["check=what=1".into()]), base);
    }
}
