//! Conditions of IF and ELIF: `$A == "x" && ! $B || $C != y`. `&&` binds closer than `||`; a word alone is true unless it is empty, `0`, `false` or `no`.
use std::collections::BTreeMap;

use rhost_dockerfile::shell::Lexer;

/// Whether `text` holds with `variables`.
///
/// # Errors
/// What is wrong with it.
pub fn holds(text: &str, variables: &BTreeMap<String, String>, escape: char) -> Result<bool, String> {
    let tokens = tokens(text)?;
    if tokens.is_empty() {
        return Err("a condition is missing, as in `IF $DEBUG == 1`".into());
    }
    let mut any = false;
    for all in tokens.split(|token| token == "||") {
        let mut whole = true;
        for term in all.split(|token| token == "&&") {
            // All of it is read: what is wrong is told whatever the variables are.
            whole &= term_holds(term, variables, escape)?;
        }
        any |= whole;
    }
    Ok(any)
}

fn term_holds(term: &[String], variables: &BTreeMap<String, String>, escape: char) -> Result<bool, String> {
    let value = |token: &String| {
        if ["==", "!=", "!"].contains(&token.as_str()) {
            return Err(format!("`{token}` stands where a value was wanted"));
        }
        let platform = ["TARGET", "BUILD"].iter().any(|kind| {
            let named = ["PLATFORM", "OS", "ARCH", "VARIANT"].map(|part| format!("{kind}{part}"));
            named.iter().any(|name| token.contains(&format!("${name}")) || token.contains(&format!("${{{name}")))
        });
        if platform {
            return Err(format!(
                "`{token}` differs between the platforms of one build, and these lines are the same for all; name a stage by it: `FROM build-$TARGETARCH`"
            ));
        }
        Lexer::new(escape).expand(token, variables).map(|found| found.text).map_err(|error| error.to_string())
    };
    match term {
        [] => Err("a condition ends, or begins, with `&&` or `||`".into()),
        [not, rest @ ..] if not == "!" => term_holds(rest, variables, escape).map(|holds| !holds),
        [word] => Ok(!matches!(value(word)?.to_ascii_lowercase().as_str(), "" | "0" | "false" | "no")),
        [left, operator, right] if operator == "==" => Ok(value(left)? == value(right)?),
        [left, operator, right] if operator == "!=" => Ok(value(left)? != value(right)?),
        other => Err(format!("`{}` is no condition; wanted a value, `A == B` or `A != B`", other.join(" "))),
    }
}

/// Words, quotes kept together and kept.
fn tokens(text: &str) -> Result<Vec<String>, String> {
    let (mut found, mut word, mut quote) = (Vec::new(), String::new(), None);
    for c in text.chars() {
        match quote {
            Some(open) => {
                word.push(c);
                if c == open {
                    quote = None;
                }
            }
            None if c.is_whitespace() => {
                if !word.is_empty() {
                    found.push(std::mem::take(&mut word));
                }
            }
            None => {
                if c == '"' || c == '\'' {
                    quote = Some(c);
                }
                word.push(c);
            }
        }
    }
    if quote.is_some() {
        return Err("a quote is not closed".into());
    }
    if !word.is_empty() {
        found.push(word);
    }
    // `!$A` is `! $A`.
    let split = |word: String| match word.strip_prefix('!') {
        Some(rest) if !rest.is_empty() && !rest.starts_with('=') => vec!["!".to_owned(), rest.to_owned()],
        _ => vec![word],
    };
    Ok(found.into_iter().flat_map(split).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<bool, String> {
        let variables = [("A", "1"), ("B", ""), ("C", "two words"), ("D", "false")];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        holds(text, &variables, '\\')
    }

    #[test]
    fn terms_and_their_joints() {
        for yes in [
            "$A",
            "$A == 1",
            "${A} != 2",
            "! $B",
            "!$D",
            "\"$C\" == 'two words'",
            "$NONE == \"\"",
            "${X:-y} == y",
            "$B || $A",
            "$A && $B || $A",
        ] {
            assert_eq!(check(yes), Ok(true), "{yes}");
        }
        for no in ["$B", "$D", "0", "no", "$A == 2", "$A && $B", "! $A", "$B || $D && $A"] {
            assert_eq!(check(no), Ok(false), "{no}");
        }
    }

    #[test]
    fn what_is_no_condition_is_told_even_where_it_does_not_matter() {
        for wrong in [
            "",
            "$A &&",
            "|| $A",
            "$A = 1",
            "$A == ",
            "== 1",
            "\"$A",
            "$A || $B $C",
            "${A",
            "$TARGETARCH == arm64",
            "!",
        ] {
            assert!(check(wrong).is_err(), "{wrong}");
        }
    }
}
