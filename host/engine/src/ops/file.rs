//! File operations: each straight into the new layer through an overlay view, so that symlinks of lower layers are followed
//! in-root and nothing is copied that is not asked for.
use std::sync::Arc;

use async_trait::async_trait;
use rhost_llb::{ChownOpt, Digest, FileAction, FileActionCopy, FileActionKind, FileOp, OpKind, UserOpt, Vertex};
use rhost_rootfs::{
    Copy, CopyMode, ModeChange, Owner, Rm, Root, Source, copy, lookup_group, lookup_user, mkdir, mkdir_all, mkfile, rm,
    symlink,
};
use rhost_solver::{CacheMap, Op, OpError};

use crate::op_error::{OpFailure, blocking};
use crate::shared::Shared;
use crate::value::Value;

/// A chain of file actions on one tree.
pub struct FileStep {
    shared: Arc<Shared>,
    vertex: Arc<Vertex>,
}

impl FileStep {
    /// Checks that the actions are one chain.
    pub fn new(shared: Arc<Shared>, vertex: Arc<Vertex>) -> Result<Self, OpFailure> {
        let step = Self { shared, vertex };
        let inputs = step.vertex.inputs.len() as i64;
        let actions = step.actions();
        let chained = |(index, action): (usize, &FileAction)| {
            let before = inputs + index as i64 - 1;
            let last = index + 1 == actions.len();
            (index == 0 || action.input == before)
                && (index > 0 || action.input < inputs)
                && action.secondary_input < inputs
                && action.output == if last { 0 } else { -1 }
        };
        if !actions.iter().enumerate().all(chained) {
            return Err(OpFailure::NotYet("a file operation whose actions are not one chain".into()));
        }
        Ok(step)
    }

    fn actions(&self) -> &[FileAction] {
        match self.vertex.kind() {
            OpKind::File(FileOp { actions }) => actions,
            _ => &[],
        }
    }
}

#[async_trait]
impl Op<Value> for FileStep {
    fn outputs(&self) -> usize {
        1
    }

    async fn cache_map(&self) -> Result<CacheMap, OpError> {
        super::cache_map(&self.shared, &self.vertex)
    }

    async fn content_key(&self, input: usize, value: &Value) -> Result<Digest, OpError> {
        super::content_key(&self.shared, &self.vertex, input, value).await
    }

    async fn run(&self, inputs: &[Value]) -> Result<Vec<Value>, OpError> {
        let (shared, vertex, inputs) = (self.shared.clone(), self.vertex.clone(), inputs.to_vec());
        let done = blocking(move || FileStep { shared, vertex }.apply(&inputs));
        Ok(vec![done.await.map_err(OpError::new)?])
    }
}

impl FileStep {
    fn apply(&self, inputs: &[Value]) -> Result<Value, OpFailure> {
        let input = |index: i64| usize::try_from(index).ok().and_then(|index| inputs.get(index));
        let base = self.actions().first().and_then(|action| input(action.input));
        let store = &self.shared.store;
        let parent = match base {
            None | Some(Value::Scratch) => None,
            Some(Value::Snapshot(id)) => Some(*id),
            Some(Value::Context(_)) => return Err(OpFailure::NotYet("a change of a local directory's copy".into())),
        };
        let active = store.prepare(parent)?;
        let root = crate::overlay::open(active.mount()).map_err(OpFailure::overlay)?;
        for action in self.actions() {
            self.act(&root, action, inputs, input(action.secondary_input))?;
        }
        drop(root);
        Ok(Value::Snapshot(active.commit()?))
    }

    fn act(&self, root: &Root, action: &FileAction, inputs: &[Value], from: Option<&Value>) -> Result<(), OpFailure> {
        let policy = self.shared.owners;
        let owner = action.kind.owner().map(|owner| self.owner(owner, root, inputs)).transpose()?;
        let time = |timestamp: i64| (timestamp >= 0).then_some(timestamp);
        // Made files belong to root unless said otherwise.
        let made = Some(owner.unwrap_or(Owner { uid: 0, gid: 0 }));
        match &action.kind {
            FileActionKind::Copy(wanted) => {
                let source = match from {
                    None | Some(Value::Scratch) => Source::Tree(rhost_rootfs::Tree::empty()),
                    Some(Value::Snapshot(id)) => Source::Root(self.shared.view(*id)?),
                    Some(Value::Context(tree)) => Source::Tree((**tree).clone()),
                };
                copy(&source, root, &self.copy_options(wanted, owner)?)?;
            }
            FileActionKind::MkFile(file) => {
                mkfile(root, &file.path, &file.data, file.mode as u32, made, time(file.timestamp), policy)?;
            }
            FileActionKind::MkDir(dir) => {
                let make = if dir.make_parents { mkdir_all } else { mkdir };
                make(root, &dir.path, dir.mode as u32, made, time(dir.timestamp), policy)?;
            }
            FileActionKind::Rm(wanted) => {
                let options = Rm { allow_not_found: wanted.allow_not_found, wildcard: wanted.allow_wildcard };
                rm(root, &wanted.path, options)?;
            }
            FileActionKind::Symlink(link) => {
                symlink(root, &link.old_path, &link.new_path, made, time(link.timestamp), policy)?;
            }
            FileActionKind::Missing => return Err(OpFailure::NotYet("an empty file action".into())),
        }
        Ok(())
    }

    fn copy_options(&self, wanted: &FileActionCopy, owner: Option<Owner>) -> Result<Copy, OpFailure> {
        if !wanted.required_paths.is_empty() {
            return Err(OpFailure::NotYet("COPY --parents".into()));
        }
        let mode = if !wanted.mode_str.is_empty() {
            CopyMode::Change(ModeChange::parse(&wanted.mode_str)?)
        } else if wanted.mode < 0 {
            CopyMode::Keep
        } else {
            CopyMode::Bits(wanted.mode as u32)
        };
        Ok(Copy {
            src: wanted.src.clone(),
            dest: wanted.dest.clone(),
            owner,
            mode,
            follow_symlink: wanted.follow_symlink,
            dir_contents: wanted.dir_copy_contents,
            unpack: wanted.attempt_unpack,
            create_dest_path: wanted.create_dest_path,
            wildcard: wanted.allow_wildcard,
            empty_wildcard: wanted.allow_empty_wildcard,
            timestamp: (wanted.timestamp >= 0).then_some(wanted.timestamp),
            include: wanted.include_patterns.clone(),
            exclude: wanted.exclude_patterns.clone(),
            always_replace: wanted.always_replace_existing_dest_paths,
            owners: self.shared.owners,
        })
    }

    /// Names are looked up in the tree that the op says, which for a Dockerfile is the one being changed.
    fn owner(&self, wanted: &ChownOpt, root: &Root, inputs: &[Value]) -> Result<Owner, OpFailure> {
        let view = |input: i64| match usize::try_from(input).ok().and_then(|index| inputs.get(index)) {
            Some(Value::Snapshot(id)) => self.shared.view(*id),
            _ => Ok(root.clone()),
        };
        let mut owner = Owner { uid: 0, gid: 0 };
        match &wanted.user {
            None | Some(UserOpt::Missing) => {}
            Some(UserOpt::ById(id)) => owner.uid = *id,
            Some(UserOpt::ByName(named)) => {
                let found = lookup_user(&view(named.input)?, &named.name)?;
                owner = found.ok_or_else(|| OpFailure::NoSuchUser { what: "user", name: named.name.clone() })?;
            }
        }
        match &wanted.group {
            None | Some(UserOpt::Missing) => {}
            Some(UserOpt::ById(id)) => owner.gid = *id,
            Some(UserOpt::ByName(named)) => {
                let found = lookup_group(&view(named.input)?, &named.name)?;
                owner.gid = found.ok_or_else(|| OpFailure::NoSuchUser { what: "group", name: named.name.clone() })?;
            }
        }
        Ok(owner)
    }
}
