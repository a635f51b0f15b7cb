//! `Project`: the repository that a context lies in, by its `rhost.toml` and `rhost.lock`.
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rhost_engine::{BuildError, RuleFile};

/// The repository's file of rules.
pub const RULES: &str = "rhost.toml";
/// The repository's lock file.
pub const LOCK: &str = "rhost.lock";

/// Where a repository's files are.
#[derive(Debug, Clone)]
pub struct Project {
    /// The directory of `rhost.toml` and `rhost.lock`: the nearest that has one, from the context upward to the directory with `.git`; without any,
    /// the context. `None`: the context is no directory.
    pub root: Option<PathBuf>,
    /// What `rhost.toml` says.
    pub file: Option<Arc<RuleFile>>,
}

impl Project {
    /// The project of `context`, as it was typed. One that is elsewhere has none: what is fetched makes no rules.
    ///
    /// # Errors
    /// `rhost.toml` is wrong, with file and line.
    pub fn of(context: &Path) -> Result<Self, BuildError> {
        let none = Self { root: None, file: None };
        if context.as_os_str() == "-" || !context.is_dir() {
            return Ok(none);
        }
        let Ok(context) = std::fs::canonicalize(context) else { return Ok(none) };
        let root = root(&context);
        let file = RuleFile::of_project(&root.join(RULES))?;
        Ok(Self { root: Some(root), file })
    }
}

fn root(context: &Path) -> PathBuf {
    let Some(top) = context.ancestors().find(|directory| directory.join(".git").exists()) else {
        return context.to_path_buf();
    };
    let within = context.ancestors().take_while(|directory| directory.starts_with(top));
    let has = |directory: &&Path| directory.join(RULES).is_file() || directory.join(LOCK).is_file();
    within.into_iter().find(has).unwrap_or(context).to_path_buf()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_those_of_the_repository_and_not_of_what_lies_above_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(path("repo/app/sub")).expect("made");
        std::fs::write(path(RULES), "nonsense").expect("written");
        assert_eq!(root(&path("repo/app")), path("repo/app"));
        std::fs::create_dir(path("repo/.git")).expect("made");
        assert_eq!(root(&path("repo/app/sub")), path("repo/app/sub"));
        std::fs::write(path("repo/rhost.lock"), "").expect("written");
        assert_eq!(root(&path("repo/app/sub")), path("repo"));
        std::fs::write(path("repo/app/rhost.toml"), "").expect("written");
        assert_eq!(root(&path("repo/app/sub")), path("repo/app"));
        assert!(Project::of(Path::new("https://host/repo.git")).is_ok_and(|project| project.root.is_none()));
    }
}
