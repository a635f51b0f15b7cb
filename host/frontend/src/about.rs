//! `About`: what a component says of itself, in the custom section `rhost:about` that `rhost frontend build` writes (one JSON object with a `format`).
//!
//! A stranger wrote it. It is looked for only when somebody asks, beside loading and running; only the sections of the component itself are walked, by their lengths; and
//! what it holds is bounded and free of control characters, since people see it in terminals and registries.
use serde::Deserialize;

/// The custom section's name.
const SECTION: &[u8] = b"rhost:about";
/// The format that is read.
const FORMAT: u64 = 1;
/// Largest section, in bytes.
const LARGEST: usize = 64 << 10;
/// Longest text, in bytes.
const LONGEST: usize = 1024;
/// Entries of a list.
const MOST: usize = 64;
/// A component's first bytes: the magic number, version 13, layer 1.
const PREAMBLE: &[u8] = b"\0asm\x0d\0\x01\0";

/// What a component says of itself. Every text is one line without control characters, of at most 1 KiB; entries of lists have no commas.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct About {
    /// What it is called.
    pub name: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// What it is for.
    pub description: Option<String>,
    /// Build languages that it reads.
    pub languages: Vec<String>,
    /// Names of build files that it is for.
    pub file_patterns: Vec<String>,
    /// Requests for information that it answers.
    pub subrequests: Vec<String>,
    /// Where its language is documented.
    pub docs: Option<String>,
    /// Where its source is.
    pub source: Option<String>,
    /// An SPDX license expression.
    pub licenses: Option<String>,
}

/// Why what a component says of itself cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AboutError {
    /// It does not hold sections one after the other.
    #[error("the component breaks off, or has sections of no length, at byte {0}")]
    Sections(usize),
    /// Which of them holds?
    #[error("the component has the section `rhost:about` twice")]
    Twice,
    /// Nobody has that much to say.
    #[error("the section `rhost:about` has {0} bytes; at most {LARGEST} are read")]
    Large(usize),
    /// A later rhost wrote it.
    #[error("the section `rhost:about` has format {0}, this rhost reads {FORMAT}: upgrade rhost")]
    Format(u64),
    /// It is no object of this kind.
    #[error("the section `rhost:about` is no description: {0}")]
    Json(String),
    /// A text is none.
    #[error("the section `rhost:about` has `{key}` that is {reason}")]
    Text {
        /// Its key.
        key: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
}

impl About {
    /// What `component` says of itself; `None`: nothing.
    ///
    /// # Errors
    /// [`AboutError`].
    pub fn read(component: &[u8]) -> Result<Option<Self>, AboutError> {
        let Some(section) = find(component)? else { return Ok(None) };
        if section.len() > LARGEST {
            return Err(AboutError::Large(section.len()));
        }
        #[derive(Deserialize)]
        struct Version {
            format: u64,
        }
        let json = |error: serde_json::Error| AboutError::Json(error.to_string());
        let Version { format } = serde_json::from_slice(section).map_err(json)?;
        if format != FORMAT {
            return Err(AboutError::Format(format));
        }
        let about: Self = serde_json::from_slice(section).map_err(json)?;
        about.check().map(|()| Some(about))
    }

    fn check(&self) -> Result<(), AboutError> {
        let texts = [
            ("name", &self.name),
            ("version", &self.version),
            ("description", &self.description),
            ("docs", &self.docs),
            ("source", &self.source),
            ("licenses", &self.licenses),
        ];
        for (key, text) in texts {
            text.as_deref().map_or(Ok(()), fit).map_err(|reason| AboutError::Text { key, reason })?;
        }
        let lists =
            [("languages", &self.languages), ("filePatterns", &self.file_patterns), ("subrequests", &self.subrequests)];
        for (key, list) in lists {
            let wrong = |reason| AboutError::Text { key, reason };
            if list.len() > MOST {
                return Err(wrong("longer than 64 entries"));
            }
            for text in list {
                fit(text).map_err(wrong)?;
                if text.contains(',') {
                    return Err(wrong("an entry with a comma"));
                }
            }
        }
        Ok(())
    }
}

fn fit(text: &str) -> Result<(), &'static str> {
    match text {
        "" => Err("empty"),
        text if text.len() > LONGEST => Err("longer than 1024 bytes"),
        text if text.chars().any(char::is_control) => Err("no line of text: it has control characters"),
        _ => Ok(()),
    }
}

/// The section's bytes. Components and modules inside are passed over.
fn find(component: &[u8]) -> Result<Option<&[u8]>, AboutError> {
    // What is no component is told where it is loaded.
    let Some(mut rest) = component.strip_prefix(PREAMBLE) else { return Ok(None) };
    let mut found = None;
    while let Some((kind, after)) = rest.split_first() {
        let at = component.len() - rest.len();
        let broken = || AboutError::Sections(at);
        let (length, after) = leb128(after).ok_or_else(broken)?;
        let (body, next) = after.split_at_checked(length).ok_or_else(broken)?;
        if *kind == 0 {
            let (length, after) = leb128(body).ok_or_else(broken)?;
            let (name, data) = after.split_at_checked(length).ok_or_else(broken)?;
            if name == SECTION && found.replace(data).is_some() {
                return Err(AboutError::Twice);
            }
        }
        rest = next;
    }
    Ok(found)
}

/// An unsigned number of at most 32 bits, and what follows it.
fn leb128(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut number: u64 = 0;
    for (index, byte) in bytes.iter().enumerate().take(5) {
        number |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return u32::try_from(number).ok().map(|number| (number as usize, &bytes[index + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(kind: u8, name: &str, data: &[u8]) -> Vec<u8> {
        let number = |mut number: usize| {
            let mut bytes = Vec::new();
            while number > 0x7f {
                bytes.push((number & 0x7f) as u8 | 0x80);
                number >>= 7;
            }
            bytes.push(number as u8);
            bytes
        };
        let body = [number(name.len()), name.as_bytes().to_vec(), data.to_vec()].concat();
        [vec![kind], number(body.len()), body].concat()
    }

    fn read(sections: &[Vec<u8>]) -> Result<Option<About>, AboutError> {
        About::read(&[PREAMBLE, &sections.concat()].concat())
    }

    fn about(json: &str) -> Result<Option<About>, AboutError> {
        read(&[section(0, "producers", b"x"), section(0, "rhost:about", json.as_bytes())])
    }

    #[test]
    fn what_is_said_is_read_and_unknown_keys_are_passed_over() {
        let found = about(r#"{"format":1,"name":"a","filePatterns":["*.a"],"mood":{"x":[1]}}"#).unwrap().unwrap();
        let wanted = About { name: Some("a".into()), file_patterns: vec!["*.a".into()], ..About::default() };
        assert_eq!(found, wanted);
        assert_eq!(about(r#"{"format":1}"#).unwrap(), Some(About::default()));
        for silent in [read(&[section(0, "rhost:abou", b"t")]), About::read(b"\0asm\x01\0\0\0"), About::read(b"")] {
            assert_eq!(silent, Ok(None));
        }
        // Inside of a component's component is not the component.
        assert_eq!(read(&[section(4, "", &[PREAMBLE, &section(0, "rhost:about", b"{")].concat())]), Ok(None));
    }

    #[test]
    fn what_is_hostile_is_named() {
        let twice = section(0, "rhost:about", br#"{"format":1}"#);
        assert_eq!(read(&[twice.clone(), twice.clone()]), Err(AboutError::Twice));
        assert_eq!(about(r#"{"format":2,"name":7}"#), Err(AboutError::Format(2)));
        assert_eq!(about(&" ".repeat(LARGEST + 1)), Err(AboutError::Large(LARGEST + 1)));
        assert_eq!(read(&[twice[..5].to_vec()]), Err(AboutError::Sections(8)));
        assert_eq!(read(&[vec![0, 0x80, 0x80, 0x80, 0x80, 0x80, 0]]), Err(AboutError::Sections(8)));
        assert_eq!(read(&[vec![0, 0xff, 0xff, 0xff, 0xff, 0x7f]]), Err(AboutError::Sections(8)));
        assert_eq!(read(&[vec![0, 1, 9]]), Err(AboutError::Sections(8)));
        let long = "x".repeat(1025);
        let many = vec!["\"x\""; 65].join(",");
        for (json, wanted) in [
            ("{}".to_owned(), "missing field `format`"),
            ("[1]".into(), "is no description"),
            ("\u{1b}[2J".into(), "is no description"),
            (r#"{"format":1,"name":"a","name":"b"}"#.into(), "duplicate field `name`"),
            (r#"{"format":1,"name":"a\u001b[2J"}"#.into(), "`name` that is no line of text"),
            (r#"{"format":1,"version":""}"#.into(), "`version` that is empty"),
            (r#"{"format":1,"languages":["a,b"]}"#.into(), "`languages` that is an entry with a comma"),
            (format!(r#"{{"format":1,"docs":"{long}"}}"#), "`docs` that is longer than 1024 bytes"),
            (format!(r#"{{"format":1,"subrequests":[{many}]}}"#), "`subrequests` that is longer than 64 entries"),
            (format!(r#"{{"format":1,"name":{}}}"#, "[".repeat(9000)), "is no description"),
            (format!(r#"{{"format":1,"x":{}}}"#, "[".repeat(9000)), "is no description"),
        ] {
            let error = about(&json).unwrap_err().to_string();
            assert!(error.contains(wanted) && !error.chars().any(char::is_control), "{json}: {error}");
        }
    }
}
