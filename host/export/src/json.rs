//! JSON as Go's encoder writes it, so that equal images have equal digests in rhost and in BuildKit.
//!
//! Go escapes `<`, `>`, `&`, U+2028 and U+2029 in strings; serde_json does not. None of them occurs outside of strings.
use serde::Serialize;

/// `value` on one line.
pub(crate) fn compact(value: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    serde_json::to_string(value).map(|text| escape(&text).into_bytes())
}

/// `value` indented by two spaces, without a newline at the end.
pub(crate) fn pretty(value: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    serde_json::to_string_pretty(value).map(|text| escape(&text).into_bytes())
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => out.push_str(&format!("\\u{:04x}", u32::from(character))),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_what_go_escapes() {
        let bytes = compact(&serde_json::json!({"a": "<b> & \u{2028}é\n\u{1}"})).unwrap();
        assert_eq!(String::from_utf8(bytes).unwrap(), r#"{"a":"\u003cb\u003e \u0026 \u2028é\n\u0001"}"#);
    }

    #[test]
    fn indents_by_two() {
        assert_eq!(
            pretty(&serde_json::json!({"a": [1], "b": {}})).unwrap(),
            b"{\n  \"a\": [\n    1\n  ],\n  \"b\": {}\n}"
        );
    }
}
