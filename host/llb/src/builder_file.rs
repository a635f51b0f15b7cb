//! File ops: `GraphBuilder::file`, a chain of actions in one vertex (spec A.3).
use crate::builder::{BuildError, GraphBuilder, State, VertexOptions};
use crate::exec_op::NO_OUTPUT;
use crate::file_op::{
    ChownOpt, FileAction, FileActionCopy, FileActionKind, FileActionMkDir, FileActionMkFile, FileActionRm,
    FileActionSymlink, FileOp, UserOpt,
};
use crate::op::{Input, OpKind};
use crate::{EMPTY_INPUT, ValidateError};

/// Actions on one base, each on what the one before has left. Paths that are not absolute are taken from `/`;
/// names of owners are looked up in the base, whatever their `input` says.
#[derive(Clone, Debug, Default)]
pub struct FileChain {
    /// What is changed; `None` is scratch.
    pub base: Option<State>,
    /// At least one.
    pub steps: Vec<FileStep>,
}

/// One action of a chain.
#[derive(Clone, Debug)]
pub enum FileStep {
    /// Copies from elsewhere.
    Copy {
        /// From where.
        from: CopyFrom,
        /// What, and how.
        copy: FileActionCopy,
    },
    /// Makes a directory. Only the low nine bits of the mode count.
    MkDir(FileActionMkDir),
    /// Writes a file. Only the low nine bits of the mode count.
    MkFile(FileActionMkFile),
    /// Removes a path.
    Rm(FileActionRm),
    /// Makes a symbolic link.
    Symlink(FileActionSymlink),
}

/// Where a copy comes from.
#[derive(Clone, Debug)]
pub enum CopyFrom {
    /// A state; `None` is scratch.
    State(Option<State>),
    /// What other actions make, within the same vertex.
    Chain(FileChain),
}

/// How deep chains may be nested within each other.
const MAX_NESTING: usize = 32;

/// `path` taken from `dir`, without `.`, `..`, empty parts and trailing slash; absolute, never above `/`.
pub fn clean_path(dir: &str, path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    let dir = if path.starts_with('/') { "" } else { dir };
    for part in dir.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// As [`clean_path`], but keeps a trailing `/` or `/.`, which say "into this directory" to a copy.
pub fn clean_dest(dir: &str, path: &str) -> String {
    let mut clean = clean_path(dir, path);
    if path.ends_with('/') && !clean.ends_with('/') {
        clean.push('/');
    } else if path.ends_with("/.") {
        if clean != "/" {
            clean.push('/');
        }
        clean.push('.');
    }
    clean
}

#[derive(Default)]
struct Flattened {
    inputs: Vec<Input>,
    children: Vec<State>,
    actions: Vec<Flat>,
}

struct Flat {
    input: Index,
    secondary: Index,
    kind: FileActionKind,
}

#[derive(Clone, Copy)]
enum Index {
    Input(i64),
    Action(usize),
}

impl GraphBuilder {
    /// Adds a file op. Only what the last action leaves is a state.
    pub fn file(&mut self, chain: FileChain, options: &VertexOptions) -> Result<State, BuildError> {
        let mut flat = Flattened::default();
        self.flatten(chain, &mut flat, 0)?;
        let resolve = |index, inputs: usize| match index {
            Index::Input(index) => index,
            Index::Action(number) => (inputs + number) as i64,
        };
        let (inputs, last) = (flat.inputs.len(), flat.actions.len() - 1);
        let actions = flat.actions.into_iter().enumerate().map(|(number, action)| FileAction {
            input: resolve(action.input, inputs),
            secondary_input: resolve(action.secondary, inputs),
            output: if number == last { 0 } else { NO_OUTPUT },
            kind: action.kind,
        });
        let op = self.op_of(options, flat.inputs, OpKind::File(FileOp { actions: actions.collect() }), false);
        self.push(op, flat.children, options)
    }

    /// Adds a chain's actions; the number of the last one.
    fn flatten(&self, chain: FileChain, flat: &mut Flattened, depth: usize) -> Result<usize, BuildError> {
        const NO_ACTIONS: BuildError = BuildError::Invalid(ValidateError::Missing { op: "file", what: "actions" });
        if depth > MAX_NESTING {
            return Err(
                ValidateError::TooMany { op: "file", what: "nested chains", found: depth, most: MAX_NESTING }.into()
            );
        }
        let mut previous = None;
        for step in chain.steps {
            let base = self.flat_input(chain.base, flat)?;
            let mut secondary = Index::Input(EMPTY_INPUT);
            let kind = match step {
                FileStep::Copy { from, mut copy } => {
                    secondary = match from {
                        CopyFrom::State(state) => Index::Input(self.flat_input(state, flat)?),
                        CopyFrom::Chain(chain) => Index::Action(self.flatten(chain, flat, depth + 1)?),
                    };
                    copy.src = clean_path("/", &copy.src);
                    copy.dest = clean_dest("/", &copy.dest);
                    own(&mut copy.owner, base);
                    FileActionKind::Copy(copy)
                }
                FileStep::MkDir(mut dir) => {
                    dir.path = clean_path("/", &dir.path);
                    dir.mode &= 0o777;
                    own(&mut dir.owner, base);
                    FileActionKind::MkDir(dir)
                }
                FileStep::MkFile(mut file) => {
                    file.path = clean_path("/", &file.path);
                    file.mode &= 0o777;
                    own(&mut file.owner, base);
                    FileActionKind::MkFile(file)
                }
                FileStep::Rm(mut rm) => {
                    rm.path = clean_path("/", &rm.path);
                    FileActionKind::Rm(rm)
                }
                FileStep::Symlink(mut link) => {
                    link.new_path = clean_path("/", &link.new_path);
                    own(&mut link.owner, base);
                    FileActionKind::Symlink(link)
                }
            };
            let input = previous.map_or(Index::Input(base), Index::Action);
            flat.actions.push(Flat { input, secondary, kind });
            previous = Some(flat.actions.len() - 1);
        }
        previous.ok_or(NO_ACTIONS)
    }

    fn flat_input(&self, state: Option<State>, flat: &mut Flattened) -> Result<i64, BuildError> {
        let Some(state) = state else { return Ok(EMPTY_INPUT) };
        let input = self.input(state)?;
        flat.children.push(state);
        let index = flat.inputs.iter().position(|known| *known == input).unwrap_or_else(|| {
            flat.inputs.push(input);
            flat.inputs.len() - 1
        });
        Ok(index as i64)
    }
}

fn own(owner: &mut Option<ChownOpt>, base: i64) {
    if let Some(owner) = owner {
        for user in [&mut owner.user, &mut owner.group].into_iter().flatten() {
            if let UserOpt::ByName(named) = user {
                named.input = base;
            }
        }
    }
}
