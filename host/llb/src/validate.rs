//! What an op must be before anyone acts on it: indexes in range, parts present, sizes bounded (spec A.3 and H; GHSA-qx3x-mv6r-52p6).
use crate::EMPTY_INPUT;
use crate::definition::Limits;
use crate::exec_op::{ExecOp, MountType, NO_OUTPUT, ROOT_MOUNT};
use crate::file_op::{FileAction, FileActionKind, FileOp, UserOpt};
use crate::op::{Op, OpKind, SELF_BUILDER};

/// An op is not valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValidateError {
    /// A part that has to be there is not.
    #[error("{op} op without {what}")]
    Missing {
        /// Kind of op.
        op: &'static str,
        /// What is missing.
        what: &'static str,
    },
    /// An index names nothing.
    #[error("{op} op: {what} is {found}, allowed are {least} to {most}")]
    Index {
        /// Kind of op.
        op: &'static str,
        /// Which index.
        what: &'static str,
        /// Its value.
        found: i64,
        /// Least value.
        least: i64,
        /// Greatest value; below `least` when there is none.
        most: i64,
    },
    /// Two outputs have one number, or a number is left out.
    #[error("{op} op: its outputs are not numbered 0, 1, 2, … once each")]
    Outputs {
        /// Kind of op.
        op: &'static str,
    },
    /// Too many of something.
    #[error("{op} op has {found} {what}, at most {most} are allowed")]
    TooMany {
        /// Kind of op.
        op: &'static str,
        /// What.
        what: &'static str,
        /// How many.
        found: usize,
        /// How many may be.
        most: usize,
    },
    /// A text that cannot be right.
    #[error("{op} op: {what} `{text}` {reason}")]
    Text {
        /// Kind of op.
        op: &'static str,
        /// Which text.
        what: &'static str,
        /// At most 120 characters of it.
        text: String,
        /// What is wrong.
        reason: &'static str,
    },
}

type Check = Result<(), ValidateError>;

fn text(op: &'static str, what: &'static str, text: &str, reason: &'static str) -> ValidateError {
    ValidateError::Text { op, what, text: text.chars().take(120).collect(), reason }
}

fn no_nul(op: &'static str, what: &'static str, value: &str) -> Check {
    if value.contains('\0') { Err(text(op, what, value, "contains a NUL byte")) } else { Ok(()) }
}

fn index(op: &'static str, what: &'static str, found: i64, least: i64, count: usize) -> Check {
    let most = i64::try_from(count).unwrap_or(i64::MAX) - 1;
    if found < least || found > most { Err(ValidateError::Index { op, what, found, least, most }) } else { Ok(()) }
}

fn count(op: &'static str, what: &'static str, found: usize, most: usize) -> Check {
    if found > most { Err(ValidateError::TooMany { op, what, found, most }) } else { Ok(()) }
}

/// Output numbers must be 0, 1, 2, … once each, in any order. Returns how many.
fn outputs(op: &'static str, numbers: impl Iterator<Item = i64>) -> Result<u32, ValidateError> {
    let mut numbers: Vec<i64> = numbers.collect();
    numbers.sort_unstable();
    if numbers.iter().enumerate().any(|(wanted, found)| wanted as i64 != *found) {
        return Err(ValidateError::Outputs { op });
    }
    Ok(numbers.len() as u32)
}

/// Checks a vertex's op.
pub fn check_op(op: &Op, limits: &Limits) -> Check {
    let Some(kind) = &op.kind else { return Err(ValidateError::Missing { op: "an", what: "anything to do" }) };
    let name = kind.name();
    count(name, "inputs", op.inputs.len(), limits.per_op)?;
    for input in &op.inputs {
        index(name, "output of an input", input.index, 0, limits.per_op)?;
    }
    let inputs = op.inputs.len();
    match kind {
        OpKind::Exec(exec) => check_exec(exec, inputs, limits),
        OpKind::File(file) => check_file(file, inputs, limits),
        OpKind::Source(source) => {
            if source.split().is_none() {
                return Err(text(
                    name,
                    "identifier",
                    &source.identifier,
                    "has no scheme of LLB (docker-image, oci-layout, local, git, http, https)",
                ));
            }
            count(name, "inputs", inputs, 0)?;
            count(name, "attributes", source.attrs.len(), limits.per_op)?;
            no_nul(name, "identifier", &source.identifier)
        }
        OpKind::Merge(merge) => {
            if merge.inputs.is_empty() {
                return Err(ValidateError::Missing { op: name, what: "inputs" });
            }
            count(name, "layers", merge.inputs.len(), limits.per_op)?;
            merge.inputs.iter().try_for_each(|layer| index(name, "layer", layer.input, 0, inputs))
        }
        OpKind::Diff(diff) => {
            let lower = diff.lower.as_ref().ok_or(ValidateError::Missing { op: name, what: "lower" })?;
            let upper = diff.upper.as_ref().ok_or(ValidateError::Missing { op: name, what: "upper" })?;
            index(name, "lower", lower.input, EMPTY_INPUT, inputs)?;
            index(name, "upper", upper.input, EMPTY_INPUT, inputs)
        }
        OpKind::Passthrough(pass) => {
            if pass.id.is_empty() {
                return Err(ValidateError::Missing { op: name, what: "id" });
            }
            if pass.outputs.is_empty() {
                return Err(ValidateError::Missing { op: name, what: "outputs" });
            }
            count(name, "outputs", pass.outputs.len(), limits.per_op)?;
            pass.outputs.iter().try_for_each(|output| index(name, "output", *output, 0, inputs))
        }
        OpKind::Build(build) => {
            if build.builder != SELF_BUILDER {
                return Err(ValidateError::Index {
                    op: name,
                    what: "builder",
                    found: build.builder,
                    least: SELF_BUILDER,
                    most: SELF_BUILDER,
                });
            }
            build.inputs.values().try_for_each(|input| index(name, "input", input.input, 0, inputs))
        }
    }
}

fn check_exec(exec: &ExecOp, inputs: usize, limits: &Limits) -> Check {
    const OP: &str = "exec";
    let meta = exec.meta.as_ref().ok_or(ValidateError::Missing { op: OP, what: "meta" })?;
    if meta.args.is_empty() {
        return Err(ValidateError::Missing { op: OP, what: "arguments" });
    }
    count(OP, "mounts", exec.mounts.len(), limits.per_op)?;
    for (what, values) in [("argument", &meta.args), ("variable", &meta.env)] {
        values.iter().try_for_each(|value| no_nul(OP, what, value))?;
    }
    no_nul(OP, "working directory", &meta.cwd)?;
    no_nul(OP, "user", &meta.user)?;
    for mount in &exec.mounts {
        if mount.dest.is_empty() {
            return Err(ValidateError::Missing { op: OP, what: "a mount's destination" });
        }
        no_nul(OP, "mount", &mount.dest)?;
        no_nul(OP, "selector", &mount.selector)?;
        index(OP, "input of a mount", mount.input, EMPTY_INPUT, inputs)?;
        index(OP, "output of a mount", mount.output, NO_OUTPUT, limits.per_op)?;
        match mount.mount_type {
            MountType::Bind => {}
            MountType::Cache if mount.cache_opt.is_none() => {
                return Err(ValidateError::Missing { op: OP, what: "options of a cache mount" });
            }
            MountType::Cache => {}
            MountType::Secret if mount.secret_opt.as_ref().is_none_or(|options| options.id.is_empty()) => {
                return Err(ValidateError::Missing { op: OP, what: "the id of a secret" });
            }
            MountType::Ssh if mount.ssh_opt.is_none() => {
                return Err(ValidateError::Missing { op: OP, what: "options of an ssh mount" });
            }
            MountType::Tmpfs if mount.tmpfs_opt.as_ref().is_some_and(|options| options.size < 0) => {
                return Err(text(OP, "tmpfs", &mount.dest, "has a negative size"));
            }
            MountType::Secret | MountType::Ssh | MountType::Tmpfs if mount.input != EMPTY_INPUT => {
                return Err(text(OP, "mount", &mount.dest, "has an input, which its type does not take"));
            }
            MountType::Secret | MountType::Ssh | MountType::Tmpfs => {}
        }
    }
    if !exec.mounts.iter().any(|mount| mount.dest == ROOT_MOUNT && mount.mount_type == MountType::Bind) {
        return Err(ValidateError::Missing { op: OP, what: "a mount at /" });
    }
    if exec.secret_env.iter().any(|secret| secret.id.is_empty() || secret.name.is_empty()) {
        return Err(ValidateError::Missing { op: OP, what: "the id or name of a secret variable" });
    }
    outputs(OP, exec_outputs(exec)).map(|_| ())
}

fn exec_outputs(exec: &ExecOp) -> impl Iterator<Item = i64> {
    exec.mounts.iter().filter_map(|mount| mount.output_index()).map(|output| output as i64)
}

fn check_file(file: &FileOp, inputs: usize, limits: &Limits) -> Check {
    const OP: &str = "file";
    if file.actions.is_empty() {
        return Err(ValidateError::Missing { op: OP, what: "actions" });
    }
    count(OP, "actions", file.actions.len(), limits.per_op)?;
    for (number, action) in file.actions.iter().enumerate() {
        check_action(action, inputs + number, limits)?;
    }
    let outputs = outputs(OP, file.actions.iter().map(|action| action.output).filter(|output| *output != NO_OUTPUT))?;
    if outputs == 0 { Err(ValidateError::Missing { op: OP, what: "an output" }) } else { Ok(()) }
}

fn check_action(action: &FileAction, known: usize, limits: &Limits) -> Check {
    const OP: &str = "file";
    index(OP, "input of an action", action.input, EMPTY_INPUT, known)?;
    index(OP, "secondary input of an action", action.secondary_input, EMPTY_INPUT, known)?;
    index(OP, "output of an action", action.output, NO_OUTPUT, limits.per_op)?;
    let paths: &[&str] = match &action.kind {
        FileActionKind::Copy(copy) => &[&copy.src, &copy.dest],
        FileActionKind::MkFile(file) => &[&file.path],
        FileActionKind::MkDir(dir) => &[&dir.path],
        FileActionKind::Rm(rm) => &[&rm.path],
        FileActionKind::Symlink(link) => &[&link.old_path, &link.new_path],
        FileActionKind::Missing => return Err(ValidateError::Missing { op: OP, what: "an action's content" }),
    };
    paths.iter().try_for_each(|path| no_nul(OP, "path", path))?;
    if let Some(owner) = action.kind.owner() {
        for user in [&owner.user, &owner.group].into_iter().flatten() {
            if let UserOpt::ByName(named) = user {
                index(OP, "input of an owner's name", named.input, EMPTY_INPUT, known)?;
                no_nul(OP, "owner", &named.name)?;
            }
        }
    }
    Ok(())
}

/// How many outputs a valid op has.
pub(crate) fn output_count(op: &Op) -> u32 {
    match &op.kind {
        None => 0,
        Some(OpKind::Exec(exec)) => exec_outputs(exec).count() as u32,
        Some(OpKind::File(file)) => file.actions.iter().filter(|action| action.output != NO_OUTPUT).count() as u32,
        Some(OpKind::Passthrough(pass)) => pass.outputs.len() as u32,
        Some(OpKind::Source(_) | OpKind::Build(_) | OpKind::Merge(_) | OpKind::Diff(_)) => 1,
    }
}
