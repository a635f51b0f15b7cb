//! What can be refused before anything is started.
use crate::error::{ExecError, Result};
use crate::step::{MountSource, Step, Tree};
use crate::wire;

/// Refuses a step whose values make no sense.
pub fn check(step: &Step) -> Result<()> {
    let invalid = |text: String| Err(ExecError::Invalid(text));
    if step.args.first().is_none_or(String::is_empty) {
        return invalid("it has no program to run".into());
    }
    let texts = step.args.iter().chain(&step.env).chain([&step.cwd, &step.user, &step.hostname, &step.cgroup_parent]);
    if let Some(text) = texts.into_iter().find(|text| text.contains('\0')) {
        return invalid(format!("`{}` contains a NUL byte", text.escape_debug()));
    }
    // A value is never shown, not even a part of it.
    if let Some((name, _)) = step.secret_env.iter().find(|(_, value)| value.expose().contains(&0)) {
        return invalid(format!("the secret in the variable `{name}` contains a NUL byte; mount it as a file"));
    }
    if let Some((name, _)) = step.secret_env.iter().find(|(n, _)| n.is_empty() || n.contains(['=', '\0'])) {
        return invalid(format!("`{}` is no name of a variable", name.escape_debug()));
    }
    if step.held.0.len() > wire::MOST_DESCRIPTORS {
        return invalid(format!(
            "it holds {} locks, at most {} are allowed",
            step.held.0.len(),
            wire::MOST_DESCRIPTORS
        ));
    }
    if !step.cwd.is_empty() && !step.cwd.starts_with('/') {
        return invalid(format!("the working directory `{}` is not absolute", step.cwd));
    }
    if step.hostname.len() > 64 {
        return invalid("the host name is longer than 64 bytes".into());
    }
    if step.cgroup_parent.split('/').any(|part| part == "..") {
        return invalid(format!("the cgroup parent `{}` contains `..`", step.cgroup_parent));
    }
    for (name, _) in
        std::iter::once((&step.hostname, &step.hostname)).chain(step.extra_hosts.iter().map(|(n, a)| (n, a)))
    {
        if name.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return invalid(format!("the host name `{}` contains white space", name.escape_debug()));
        }
    }
    tree(&step.root)?;
    for mount in &step.mounts {
        let to = &mount.destination;
        if !to.starts_with('/') || to.contains('\0') || to.split('/').all(|part| matches!(part, "" | "." | "..")) {
            return invalid(format!(
                "the mount destination `{}` is not an absolute path below the root",
                to.escape_debug()
            ));
        }
        if let MountSource::Tree { tree: source, subpath } = &mount.source {
            tree(source)?;
            if subpath.contains('\0') {
                return invalid(format!("the mount source `{}` contains a NUL byte", subpath.escape_debug()));
            }
        }
    }
    Ok(())
}

fn tree(tree: &Tree) -> Result<()> {
    let paths: Vec<_> = match tree {
        Tree::Dir(path) => vec![path],
        Tree::Overlay { lowers, .. } if lowers.is_empty() => {
            return Err(ExecError::Invalid("an overlay without a lower directory".into()));
        }
        Tree::Overlay { lowers, upper } => {
            lowers.iter().chain(upper.iter().flat_map(|u| [&u.upper, &u.work])).collect()
        }
    };
    match paths.into_iter().find(|path| !path.is_absolute()) {
        Some(path) => Err(ExecError::Invalid(format!("the directory {} is not absolute", path.display()))),
        None => Ok(()),
    }
}
