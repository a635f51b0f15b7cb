//! Takes credentials out of text that people and logs will see (SECURITY: CVE-2023-26054, CVE-2025-0495).
//!
//! Works on any text that may hold URLs, so that messages of libraries can pass through it unread.

/// `text` with the user information of every URL in it masked as `xxxxx:xxxxx@` (the name alone stays with ssh, where it is no secret), and the values of query parameters
/// that carry tokens or signatures masked as `xxxxx`.
pub fn redact(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        out.push_str(before);
        let end = after
            .find(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`' | '<' | '>' | ')'))
            .unwrap_or(after.len());
        let (url, tail) = after.split_at(end);
        let is_ssh = before.to_ascii_lowercase().ends_with("ssh://");
        push_redacted(&mut out, url, is_ssh);
        rest = tail;
    }
    out.push_str(rest);
    out
}

fn push_redacted(out: &mut String, url: &str, is_ssh: bool) {
    let authority_end = url.find(['/', '?', '#']).unwrap_or(url.len());
    let (authority, path) = url.split_at(authority_end);
    match authority.rsplit_once('@') {
        Some((user, _)) if is_ssh && !user.contains(':') => out.push_str(authority),
        Some((_, host)) => {
            out.push_str("xxxxx:xxxxx@");
            out.push_str(host);
        }
        None => out.push_str(authority),
    }
    let Some((path, query)) = path.split_once('?') else {
        out.push_str(path);
        return;
    };
    out.push_str(path);
    for (index, pair) in query.split('&').enumerate() {
        out.push(if index == 0 { '?' } else { '&' });
        match pair.split_once('=') {
            Some((key, _)) if is_secret(key) => {
                out.push_str(key);
                out.push_str("=xxxxx");
            }
            _ => out.push_str(pair),
        }
    }
}

/// Query parameters that blob stores and token services put secrets into.
fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    ["token", "signature", "sig", "password", "secret", "credential", "key", "_state", "auth"]
        .iter()
        .any(|word| key.contains(word))
}

#[cfg(test)]
mod tests {
    use super::redact;

    #[test]
    fn user_information_goes() {
        assert_eq!(redact("GET https://me:pw@r.io/v2/ failed"), "GET https://xxxxx:xxxxx@r.io/v2/ failed");
        assert_eq!(redact("a http://u@h b http://v:w@i/x"), "a http://xxxxx:xxxxx@h b http://xxxxx:xxxxx@i/x");
        assert_eq!(redact("https://a:p@w@h/x"), "https://xxxxx:xxxxx@h/x");
        assert_eq!(redact("ssh://git@h/x ssh://git:pw@h/x"), "ssh://git@h/x ssh://xxxxx:xxxxx@h/x");
    }

    #[test]
    fn tokens_in_queries_go() {
        assert_eq!(redact("https://h/x?a=1&X-Amz-Signature=abc&b=2"), "https://h/x?a=1&X-Amz-Signature=xxxxx&b=2");
        assert_eq!(redact("(https://h/u?_state=abc)"), "(https://h/u?_state=xxxxx)");
    }

    #[test]
    fn plain_text_stays() {
        for text in ["", "alpine:3.20", "https://h/a@b", "mail me@here.org", "https://h:5000/v2/"] {
            assert_eq!(redact(text), text);
        }
    }
}
