//! `ToolchainError`: what goes wrong between a project and its component. A message names the file or the tool, and the way out.
use std::path::PathBuf;

/// Why there is no project, or no component.
#[derive(Debug, thiserror::Error)]
pub enum ToolchainError {
    /// The directory holds no project.
    #[error("{} is no frontend project: it has no frontend.toml", .0.display())]
    NoProject(PathBuf),
    /// `frontend.toml` cannot be used.
    #[error("{}{}: {reason}", path.display(), line.as_ref().map(|(line, _)| format!(":{line}")).unwrap_or_default())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// Its line, from 1, and its text, where the mistake has a place.
        line: Option<(u32, String)>,
        /// What is wrong with it.
        reason: String,
    },
    /// A new project would overwrite something.
    #[error("{} is there already, and not empty: a new project goes into a directory of its own", .0.display())]
    Occupied(PathBuf),
    /// Not a name that all languages take.
    #[error(
        "`{0}` cannot be a frontend's name: wanted a lower-case letter, then at most 62 of a-z, 0-9 and single dashes, as in `my-lang`"
    )]
    Name(String),
    /// A program that the language needs is not there, or too old.
    #[error("{tool} is not there: {reason}")]
    Missing {
        /// The program, with the version wanted.
        tool: String,
        /// What was found in its place.
        reason: String,
        /// How to get it.
        way: String,
    },
    /// A program ended with an error.
    #[error("{command} failed ({status}):\n{output}")]
    Failed {
        /// The command line, shortened.
        command: String,
        /// How it ended.
        status: String,
        /// The end of what it wrote.
        output: String,
    },
    /// What the tools made is no component.
    #[error("no component can be made of {}: {reason}", path.display())]
    Component {
        /// The core module or component.
        path: PathBuf,
        /// In the encoder's words.
        reason: String,
    },
    /// The component wants more than a frontend gets.
    #[error("a frontend may import rhost:* only, this one wants {}", .0.join(", "))]
    ForeignImports(Vec<String>),
    /// A file or directory.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
}

impl ToolchainError {
    /// What to do about it, where that is not in the message.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoProject(_) => {
                Some("`rhost frontend new --lang rust|js|python|go NAME` makes a project; a frontend.toml with `name` and `language` makes one of a directory".into())
            }
            Self::Missing { way, .. } => Some(way.clone()),
            Self::ForeignImports(_) => Some("a frontend has no files, network, clock or environment but those of the WIT package: find which dependency asks for them".into()),
            _ => None,
        }
    }

    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
}

/// Short for this crate's results.
pub type Result<T> = std::result::Result<T, ToolchainError>;
