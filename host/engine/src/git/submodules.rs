//! Submodules of a checkout. git brings all levels of them by itself; where a rule says which remotes may be asked (`[policy] git`), it is told level by level, so that each
//! URL is looked at before it is asked.
use std::path::{Path, PathBuf};

use rhost_exec::ExitStatus;
use rhost_rootfs::{Last, Root};

use super::command::{Run, Runner};
use super::error::GitError;
use super::remote::Remote;
use crate::op_error::OpFailure;

/// Submodules of submodules of submodules: deeper is refused where they are looked at.
const DEEPEST: usize = 32;

/// A checkout whose submodules are to be brought.
struct Level {
    /// git's directory, where it cannot find it by itself.
    git: Option<PathBuf>,
    tree: PathBuf,
    depth: usize,
}

impl Level {
    fn run<'a>(&'a self, others: &'a [String]) -> Run<'a> {
        let run = Run { doing: "submodule update", others, ..Run::default() };
        match &self.git {
            Some(git) => Run { dir: Some(git), tree: Some(&self.tree), ..run },
            None => Run { inside: Some(&self.tree), ..run },
        }
    }
}

fn has_submodules(tree: &Path) -> Result<bool, OpFailure> {
    Ok(Root::open(tree)?.try_stat(".gitmodules", Last::Keep)?.is_some_and(|found| found.is_file()))
}

impl Runner<'_> {
    /// Submodules of all levels of the checkout at `tree`, whose repository is at `git`; each by the transports that the repository itself may have.
    ///
    /// # Errors
    /// One cannot be had, or may not be asked for.
    pub(super) async fn submodules(&self, git: &Path, tree: &Path) -> Result<(), OpFailure> {
        let first = Level { git: Some(git.to_owned()), tree: tree.to_owned(), depth: 0 };
        if !self.shared.rules.names_remotes() {
            if has_submodules(tree)? {
                self.update(&first, &["--init", "--recursive"], &[]).await?;
            }
            return Ok(());
        }
        let mut levels = vec![first];
        while let Some(level) = levels.pop() {
            if !has_submodules(&level.tree)? {
                continue;
            }
            if level.depth >= DEEPEST {
                let (remote, reason) =
                    (self.source.remote.url.clone(), format!("its submodules are nested deeper than {DEEPEST} levels"));
                return Err(GitError::Answer { remote, reason }.into());
            }
            self.run(&["submodule", "--quiet", "init"], &level.run(&[])).await?;
            let urls = self.submodule_urls(&level).await?;
            for url in &urls {
                // Read as git may read it, or refused.
                Remote::parse(url)?;
                for asked in [url.clone(), self.moved(url)] {
                    self.shared.rules.check_git(&asked, Some(&self.source.remote.url))?;
                }
            }
            self.update(&level, &[], &urls).await?;
            levels.extend(self.below(&level).await?);
        }
        Ok(())
    }

    /// Fetches and checks out; not all servers can cut history.
    async fn update(&self, level: &Level, flags: &[&str], others: &[String]) -> Result<(), OpFailure> {
        let run = || Run { remote: true, told: true, ..level.run(others) };
        let update: Vec<&str> = ["submodule", "update", "--progress"].iter().chain(flags).copied().collect();
        let shallow: Vec<&str> = update.iter().copied().chain(["--depth=1"]).collect();
        let said = self.try_run(&shallow, &run()).await?;
        if said.status == ExitStatus::Code(0) {
            return Ok(());
        }
        if !said.complaint.contains("shallow") && !said.complaint.contains("depth") {
            return Err(self.failed("submodule update", &said).into());
        }
        self.run(&update, &run()).await.map(drop)
    }

    /// What its submodules are fetched from: what git has made of `.gitmodules`, and will use.
    async fn submodule_urls(&self, level: &Level) -> Result<Vec<String>, OpFailure> {
        self.values(level, &["config", "--local", "--null", "--get-regexp", r"^submodule\..*\.url$"]).await
    }

    /// The values that `git config` prints.
    async fn values(&self, level: &Level, arguments: &[&str]) -> Result<Vec<String>, OpFailure> {
        let said = self.try_run(arguments, &level.run(&[])).await?;
        match said.status {
            ExitStatus::Code(0) => {}
            // None.
            ExitStatus::Code(1) => return Ok(Vec::new()),
            _ => return Err(self.failed("config", &said).into()),
        }
        let text = String::from_utf8_lossy(&said.answer).into_owned();
        Ok(text.split('\0').filter_map(|entry| entry.split_once('\n')).map(|(_, value)| value.to_owned()).collect())
    }

    /// The checkouts of its submodules.
    async fn below(&self, level: &Level) -> Result<Vec<Level>, OpFailure> {
        let listed = ["config", "--file", ".gitmodules", "--null", "--get-regexp", r"^submodule\..*\.path$"];
        let paths = self.values(level, &listed).await?;
        let mut arguments = vec!["--literal-pathspecs", "ls-files", "--stage", "-z", "--"];
        arguments.extend(paths.iter().map(String::as_str));
        // Of these, what the index has as a submodule: git checks such paths, and nothing on them is a link.
        let said = self.run(&arguments, &level.run(&[])).await?;
        let text = String::from_utf8_lossy(&said.answer).into_owned();
        let links = text.split('\0').filter(|entry| entry.starts_with("160000 "));
        let root = Root::open(&level.tree)?;
        let mut found = Vec::new();
        for path in links.filter_map(|entry| entry.split_once('\t')).map(|(_, path)| path) {
            // One that was not brought has none.
            if root.try_stat(format!("{path}/.git"), Last::Keep)?.is_some_and(|found| found.is_file()) {
                found.push(Level { git: None, tree: level.tree.join(path), depth: level.depth + 1 });
            }
        }
        Ok(found)
    }
}
