//! `[about]` of `frontend.toml`: what a frontend says of itself. It is written into the component, as a custom section, so that it travels with the bytes: nobody has to
//! say it again where the component is pushed, and whoever has the file can ask.
//!
//! The section is named `rhost:about` and holds one JSON object, `{"format": 1, "name": …}`; readers pass over keys that they do not know, and `format` counts
//! up when a key changes its meaning. `rhost-frontend` reads it, by rules of its own: to it the section is a stranger's.
use std::ops::Range;

use serde::{Deserialize, Serialize};
use toml::Spanned;

/// The custom section's name.
const SECTION: &str = "rhost:about";
/// How it is written.
const FORMAT: u32 = 1;
/// Longest name, version, list entry, URL, in bytes; a description may have four times as many.
const LONGEST: usize = 256;
/// Entries of a list.
const MOST: usize = 64;

/// `[about]`, as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct AboutTable {
    name: Option<Spanned<String>>,
    version: Option<Spanned<String>>,
    description: Option<Spanned<String>>,
    #[serde(default)]
    languages: Vec<Spanned<String>>,
    #[serde(default)]
    file_patterns: Vec<Spanned<String>>,
    #[serde(default)]
    subrequests: Vec<Spanned<String>>,
    docs: Option<Spanned<String>>,
    source: Option<Spanned<String>>,
    licenses: Option<Spanned<String>>,
}

/// What a frontend says of itself; checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct About {
    format: u32,
    /// What it is called.
    pub name: String,
    /// Its version, as in `1.2.0`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// One line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Build languages that it reads.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub languages: Vec<String>,
    /// Names of build files that it is for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub file_patterns: Vec<String>,
    /// Requests for information that it answers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub subrequests: Vec<String>,
    /// Where its language is documented.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub docs: Option<String>,
    /// Where its source is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// An SPDX license expression.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub licenses: Option<String>,
}

/// What is wrong, and where in the file.
pub(crate) type Wrong = (Range<usize>, String);

impl AboutTable {
    /// Checks what is written; a frontend without a name of its own is called `project`.
    pub(crate) fn read(self, project: &str) -> Result<About, Wrong> {
        let name = one("name", self.name, any)?;
        Ok(About {
            format: FORMAT,
            name: name.unwrap_or_else(|| project.to_owned()),
            version: one("version", self.version, version)?,
            description: one("description", self.description, any)?,
            languages: list("languages", self.languages, word)?,
            file_patterns: list("file-patterns", self.file_patterns, pattern)?,
            subrequests: list("subrequests", self.subrequests, request)?,
            docs: one("docs", self.docs, url)?,
            source: one("source", self.source, url)?,
            licenses: one("licenses", self.licenses, licenses)?,
        })
    }
}

/// Says what is wanted where a text is not that.
type Check = fn(&str) -> Result<(), &'static str>;

fn one(key: &str, value: Option<Spanned<String>>, check: Check) -> Result<Option<String>, Wrong> {
    let Some(value) = value else { return Ok(None) };
    let longest = if key == "description" { 4 * LONGEST } else { LONGEST };
    let span = value.span();
    let text = value.into_inner();
    let wrong = |wanted: String| (span.clone(), format!("about.{key}: {wanted}"));
    if text.trim() != text || text.is_empty() {
        return Err(wrong("wanted a text without space around it; leave the key out to say nothing".into()));
    }
    if text.chars().any(char::is_control) {
        return Err(wrong("wanted one line without control characters".into()));
    }
    if text.len() > longest {
        return Err(wrong(format!("wanted at most {longest} bytes, these are {}", text.len())));
    }
    check(&text).map_err(|wanted| wrong(format!("wanted {wanted}, found `{text}`")))?;
    Ok(Some(text))
}

fn list(key: &str, values: Vec<Spanned<String>>, check: Check) -> Result<Vec<String>, Wrong> {
    if let Some(value) = values.get(MOST) {
        return Err((value.span(), format!("about.{key}: wanted at most {MOST}, these are {}", values.len())));
    }
    let mut found: Vec<String> = Vec::with_capacity(values.len());
    for value in values {
        let span = value.span();
        // Annotations hold a list as one text.
        if value.get_ref().contains(',') {
            return Err((span, format!("about.{key}: wanted one entry without a comma, found `{}`", value.get_ref())));
        }
        if let Some(text) = one(key, Some(value), check)? {
            if found.contains(&text) {
                return Err((span, format!("about.{key}: `{text}` is there twice")));
            }
            found.push(text);
        }
    }
    Ok(found)
}

fn any(_: &str) -> Result<(), &'static str> {
    Ok(())
}

fn only(text: &str, also: &str) -> bool {
    text.chars().all(|c| c.is_ascii_alphanumeric() || also.contains(c))
}

fn version(text: &str) -> Result<(), &'static str> {
    let good = text.starts_with(|c: char| c.is_ascii_alphanumeric()) && only(text, ".+-_");
    if good { Ok(()) } else { Err("a version, as in 1.2.0") }
}

fn word(text: &str) -> Result<(), &'static str> {
    if text.contains(char::is_whitespace) { Err("a word") } else { Ok(()) }
}

fn pattern(text: &str) -> Result<(), &'static str> {
    let good = !text.contains(char::is_whitespace) && text.split('/').all(|part| !part.is_empty());
    if good { Ok(()) } else { Err("a name of build files, as in *.lang or build/*.lang") }
}

fn request(text: &str) -> Result<(), &'static str> {
    let good = text.starts_with(|c: char| c.is_ascii_alphanumeric()) && only(text, ".-_");
    if good { Ok(()) } else { Err("the name of a request, as in frontend.lint") }
}

fn url(text: &str) -> Result<(), &'static str> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let good =
        rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/') && !text.contains(char::is_whitespace));
    if good { Ok(()) } else { Err("a URL, as in https://example.org/lang") }
}

fn licenses(text: &str) -> Result<(), &'static str> {
    if only(text, ".-+() :") { Ok(()) } else { Err("an SPDX license expression, as in MIT OR Apache-2.0") }
}

impl About {
    /// The section's bytes.
    pub(crate) fn json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Writes it to the end of a component.
    pub(crate) fn embed(&self, component: &mut Vec<u8>) {
        crate::component::custom_section(SECTION, self.json().as_bytes(), component);
    }
}
