//! `Layer`: how another language is built upon this one. It turns its own text into a Dockerfile before that is read, and says where each line
//! came from, so that findings, errors and the places of steps are those of the files that people wrote.
use crate::span::Span;

/// A file that has a part in a build file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Its path in the build file's context.
    pub name: String,
    /// What it says.
    pub data: Vec<u8>,
}

/// Where a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// Which of [`Rewritten::files`].
    pub file: usize,
    /// From 1.
    pub line: u32,
}

/// A Dockerfile, and what it was made of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rewritten {
    /// The Dockerfile.
    pub text: Vec<u8>,
    /// The build file first.
    pub files: Vec<File>,
    /// One for each line of `text`; empty: they are the build file's own.
    pub origins: Vec<Origin>,
}

impl Rewritten {
    /// A build file that is a Dockerfile.
    pub fn plain(name: &str, data: Vec<u8>) -> Self {
        Self { text: data.clone(), files: vec![File { name: name.to_owned(), data }], origins: Vec::new() }
    }

    /// Where line `line` (from 1) came from.
    pub fn origin(&self, line: u32) -> Origin {
        let known = (line as usize).checked_sub(1).and_then(|index| self.origins.get(index));
        known.copied().unwrap_or(match self.origins.last() {
            // Behind the end, as a fault of the whole file.
            Some(last) if line > 0 => *last,
            _ => Origin { file: 0, line },
        })
    }

    /// The same lines where they were written: first and last, of the file in which the first one is.
    pub fn lines(&self, first: u32, last: u32) -> (Origin, u32) {
        let begin = self.origin(first);
        let end = self.origin(last.max(first));
        (begin, if end.file == begin.file { end.line.max(begin.line) } else { begin.line })
    }

    /// `message`, which speaks of `line`, with that line's place.
    pub fn told(&self, message: &str, line: u32) -> String {
        if self.origins.is_empty() {
            return message.to_owned();
        }
        let origin = self.origin(line);
        let place = match self.files.get(origin.file).filter(|_| origin.file > 0) {
            Some(file) => format!("line {} of {}", origin.line, file.name),
            None => format!("line {}", origin.line),
        };
        message.replace(&format!("on line {line}:"), &format!("on {place}:"))
    }
}

/// Why a text is none of the language.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}:{}: {message}", file.name, span.first_line)]
pub struct Fault {
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
    /// The file.
    pub file: File,
    /// Where in it.
    pub span: Span,
}

/// Reads a file of the build file's context: `None` if there is none of that name.
pub type Reader<'r> = dyn Fn(&str) -> Result<Option<Vec<u8>>, String> + 'r;

/// A language upon this one.
pub trait Layer {
    /// Makes a Dockerfile of the build file `name`. `arguments`: `--build-arg`.
    ///
    /// # Errors
    /// What is wrong, and where.
    fn rewrite(
        &self,
        name: &str,
        data: Vec<u8>,
        arguments: &[(String, String)],
        read: &Reader<'_>,
    ) -> Result<Rewritten, Box<Fault>>;
}

/// The language itself.
#[derive(Debug, Clone, Copy)]
pub struct Dockerfile;

impl Layer for Dockerfile {
    fn rewrite(
        &self,
        name: &str,
        data: Vec<u8>,
        _: &[(String, String)],
        _: &Reader<'_>,
    ) -> Result<Rewritten, Box<Fault>> {
        Ok(Rewritten::plain(name, data))
    }
}
