//! The `# syntax=` line: which frontend a build file asks for (spec B.2). Any language whose comments begin with `#` or `//`
//! can have one; JSON has `{"syntax": …}`.

/// What `text` asks for, a name and perhaps words for the frontend, and in which line (from 1). Only the leading block of comments counts; a byte-order mark and a `#!` line are
/// skipped.
pub fn syntax_of(text: &[u8]) -> Option<(String, u32)> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let text = String::from_utf8_lossy(text);
    for comment in ["#", "//"] {
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if index == 0 && line.starts_with("#!") {
                continue;
            }
            let Some(rest) = line.strip_prefix(comment) else { break };
            let Some((name, value)) = rest.split_once('=') else { break };
            let (name, value) = (name.trim(), value.trim());
            if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
                break;
            }
            if name.eq_ignore_ascii_case("syntax") && !value.is_empty() {
                return Some((value.to_owned(), index as u32 + 1));
            }
        }
    }
    let json: serde_json::Value = serde_json::from_str(text.trim()).ok()?;
    Some((json.get("syntax")?.as_str()?.to_owned(), 1))
}

#[cfg(test)]
mod tests {
    use super::syntax_of;

    #[test]
    fn finds_the_line() {
        let found = |text: &str| syntax_of(text.as_bytes());
        assert_eq!(found("# syntax=a/b:1\nFROM x"), Some(("a/b:1".into(), 1)));
        assert_eq!(found("\u{feff}# escape=`\n#SYNTAX = a\n"), Some(("a".into(), 2)));
        assert_eq!(found("#!/usr/bin/rhost\n# syntax=a\n"), Some(("a".into(), 2)));
        assert_eq!(found("// syntax=a/b:1\n{}"), Some(("a/b:1".into(), 1)));
        assert_eq!(found("{\"syntax\": \"a/b:1\"}"), Some(("a/b:1".into(), 1)));
        assert_eq!(found("# a comment\n# syntax=a\n"), None);
        assert_eq!(found("FROM x\n# syntax=a\n"), None);
        assert_eq!(found(""), None);
    }
}
