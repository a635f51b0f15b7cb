//! What a downloaded file is called: as the client says, else as the server says, else as the URL ends; never a path (CVE-2026-33747).

/// The name of a file without a usable one.
const NAMELESS: &str = "download";

/// The name of the file at `url`. `disposition` is the server's `Content-Disposition`.
pub fn of_download(url: &str, asked: Option<&str>, disposition: Option<&str>) -> String {
    if let Some(name) = asked.filter(|name| !name.is_empty()) {
        return safe(name);
    }
    let said = disposition.and_then(file_name_in).filter(|name| !name.is_empty() && !name.ends_with('/'));
    if let Some(name) = said {
        return safe(&name);
    }
    let path = url.split_once("://").map_or(url, |(_, rest)| rest).split(['?', '#']).next().unwrap_or_default();
    safe(&path.split_once('/').map_or(String::new(), |(_, path)| decode(path)))
}

/// The last part of `name`, if it can be a file's name.
fn safe(name: &str) -> String {
    let base = name.trim().trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let unfit = matches!(base, "" | "." | "..") || base.chars().any(char::is_control);
    if unfit { NAMELESS.into() } else { base.to_owned() }
}

/// `%XX` decoded; what is no UTF-8 then is left as it was.
fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let (mut out, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while at < bytes.len() {
        let digit = |offset: usize| bytes.get(at + offset).and_then(|byte| char::from(*byte).to_digit(16));
        let (byte, taken) = match (bytes[at], digit(1), digit(2)) {
            (b'%', Some(high), Some(low)) => ((high * 16 + low) as u8, 3),
            (byte, ..) => (byte, 1),
        };
        out.push(byte);
        at += taken;
    }
    String::from_utf8(out).unwrap_or_else(|_| text.to_owned())
}

/// The parameter `filename` of a `Content-Disposition` (RFC 6266), its extended form before the plain one. `None` where the header is malformed:
/// then it says nothing, as in BuildKit.
fn file_name_in(header: &str) -> Option<String> {
    let (mut plain, mut extended) = (None, None);
    let mut rest = header.split_once(';')?.1.trim_start();
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=')?;
        let name = name.trim().to_ascii_lowercase();
        let (value, after) = value_in(after)?;
        let slot = match name.as_str() {
            "filename" => &mut plain,
            "filename*" => &mut extended,
            _ => &mut None,
        };
        if slot.replace(value).is_some() {
            return None;
        }
        let after = after.trim_start();
        rest = match after.strip_prefix(';') {
            Some(after) => after.trim_start(),
            None if after.is_empty() => "",
            None => return None,
        };
    }
    let extended = extended.and_then(|value| {
        let mut parts = value.splitn(3, '\'');
        let (charset, _, text) = (parts.next()?, parts.next()?, parts.next()?);
        matches!(charset.to_ascii_lowercase().as_str(), "utf-8" | "us-ascii").then(|| decode(text))
    });
    extended.or(plain)
}

/// A value, quoted or a token, and what follows it.
fn value_in(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([';', ' ', '\t']).unwrap_or(text.len());
        return (end > 0).then(|| (text[..end].to_owned(), &text[end..]));
    };
    let (mut value, mut escaped) = (String::new(), false);
    for (at, c) in quoted.char_indices() {
        match c {
            _ if escaped => {
                // Browsers that do not escape write paths of their own so.
                if !matches!(c, '"' | '\\') {
                    value.push('\\');
                }
                value.push(c);
                escaped = false;
            }
            '\\' => escaped = true,
            '"' => return Some((value, &quoted[at + 1..])),
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::of_download;

    #[test]
    fn the_client_says_it_then_the_server_then_the_url() {
        let name = |url: &str, asked: Option<&str>, said: Option<&str>| of_download(url, asked, said);
        assert_eq!(name("http://h/a/b.tgz?x=/y", None, None), "b.tgz");
        assert_eq!(name("http://h/a/b%20c", None, None), "b c");
        assert_eq!(name("http://h/a/", None, None), "a");
        assert_eq!(name("http://h", None, None), "download");
        assert_eq!(name("http://h/?q", None, None), "download");
        assert_eq!(name("http://h/a", Some("n"), Some("attachment; filename=s")), "n");
        assert_eq!(name("http://h/a", None, Some("attachment; filename=s")), "s");
        assert_eq!(name("http://h/a", None, Some("attachment; filename=\"x \\\"y\\\".txt\"; size=3")), "x \"y\".txt");
        assert_eq!(name("http://h/a", None, Some("attachment; filename=p; filename*=UTF-8''%e2%82%ac")), "€");
        assert_eq!(name("http://h/a", None, Some("attachment; filename=d/")), "a");
        assert_eq!(name("http://h/a", None, Some("attachment; filename=\"open")), "a");
        assert_eq!(name("http://h/a", None, Some("inline")), "a");
    }

    #[test]
    fn no_name_leaves_the_directory() {
        for hostile in ["../../etc/passwd", "/etc/passwd", "..", ".", "a/..", "a\u{0}b", "a\nb", " / "] {
            let name = of_download("http://h/u", Some(hostile), None);
            assert!(matches!(name.as_str(), "passwd" | "download"), "{hostile:?}: {name}");
            let said = format!("attachment; filename=\"{hostile}\"");
            let name = of_download("http://h/u", None, Some(&said));
            assert!(matches!(name.as_str(), "passwd" | "download" | "u"), "{hostile:?}: {name}");
        }
        assert_eq!(of_download("http://h/a/%2e%2e", None, None), "download");
        assert_eq!(of_download("http://h/a%2fb", None, None), "b");
    }
}
