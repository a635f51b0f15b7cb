//! The build file: its text, its lines, and findings that point into it.
use crate::bindings::rhost::frontend::{context, report};
use crate::{Error, Invocation, Metadata, Position, Range, SourceMap, fail, named};

/// The build file of an invocation.
pub struct BuildFile {
    /// As the user knows it.
    pub name: String,
    /// What it says.
    pub text: String,
    /// For spans.
    pub map: SourceMap,
}

impl BuildFile {
    /// Reads it from the context `dockerfile`.
    ///
    /// # Errors
    /// When it is not there, or is not UTF-8.
    pub fn read(invocation: &Invocation) -> Result<Self, Error> {
        let name = invocation.build_file();
        let data = context::read_file("dockerfile", &name, None)?;
        let text = String::from_utf8(data).map_err(|error| {
            let line =
                error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|byte| **byte == b'\n').count() + 1;
            fail(format!("{name}:{line}: this line is not UTF-8"))
        })?;
        let map = SourceMap::new(&name, "", text.as_bytes(), None);
        Ok(Self { name, text, map })
    }

    /// Its lines, numbered from 1, without spaces around them; without empty ones and those that begin with `#`.
    pub fn lines(&self) -> impl Iterator<Item = (u32, &str)> {
        let numbered = (1..).zip(self.text.lines().map(str::trim));
        numbered.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
    }

    /// Metadata for an operation that comes from a line, counted from 1.
    pub fn at(&self, line: u32, name: &str) -> Metadata {
        let metadata = named(name);
        metadata.location(&self.map, &[whole(line)]);
        metadata
    }

    /// Reports an error in a line, and gives the error to return.
    pub fn error(&self, line: u32, message: &str, help: Option<&str>) -> Error {
        let finding = report::Diagnostic::new(report::Severity::Error, message);
        finding.mark(&self.map, whole(line), "");
        if let Some(help) = help {
            finding.help(help);
        }
        finding.emit();
        fail(format!("{}:{line}: {message}", self.name))
    }

    /// Reports a warning on a line.
    pub fn warn(&self, line: u32, code: &str, message: &str) {
        report::warning(code, message, Some(&self.map), &[whole(line)]);
    }
}

/// A whole line, counted from 1.
fn whole(line: u32) -> Range {
    let position = Position { line, character: 0 };
    Range { start: position, end: position }
}
