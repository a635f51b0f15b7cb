//! File operations: each straight into the new layer through an overlay view, so that symlinks of lower layers are followed
//! in-root and nothing is copied that is not asked for.
use std::sync::Arc;

use async_trait::async_trait;
use rhost_llb::{ChownOpt, Digest, FileAction, FileActionCopy, FileActionKind, FileOp, OpKind, UserOpt, Vertex};
use rhost_rootfs::{
    Copy, CopyAgain, CopyMode, ModeChange, Owner, Rm, Root, Source, copy, copy_again, lookup_group, lookup_user, mkdir,
    mkdir_all, mkfile, rm, symlink, way_without_mount,
};
use rhost_solver::{CacheMap, Op, OpError};
use rhost_store::{ActiveSnapshot, EarlierCopy, SnapshotId};

use crate::event::Event;
use crate::op_error::{OpFailure, blocking};
use crate::shared::Shared;
use crate::value::Value;

/// File actions.
pub struct FileStep {
    shared: Arc<Shared>,
    vertex: Arc<Vertex>,
}

impl FileStep {
    /// File actions; that their indexes and outputs fit was checked with the graph.
    pub fn new(shared: Arc<Shared>, vertex: Arc<Vertex>) -> Result<Self, OpFailure> {
        let step = Self { shared, vertex };
        for action in step.actions() {
            if let FileActionKind::Copy(wanted) = &action.kind {
                step.copy_options(wanted, None)?;
            }
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
        self.actions().iter().filter(|action| action.output >= 0).count().max(1)
    }

    async fn cache_map(&self) -> Result<CacheMap, OpError> {
        super::cache_map(&self.shared, &self.vertex)
    }

    async fn content_key(&self, input: usize, value: &Value) -> Result<Digest, OpError> {
        super::content_key(&self.shared, &self.vertex, input, value).await
    }

    async fn run(&self, inputs: &[Value]) -> Result<Vec<Value>, OpError> {
        if self.is_short(inputs) {
            return self.apply(inputs).map_err(OpError::new);
        }
        let (shared, vertex, inputs) = (self.shared.clone(), self.vertex.clone(), inputs.to_vec());
        blocking(move || FileStep { shared, vertex }.apply(&inputs)).await.map_err(OpError::new)
    }
}

/// What an action has made.
enum Made {
    /// Nothing yet, or nothing any more.
    Nothing,
    /// A layer that the one action that stands on it goes on writing to.
    Open(ActiveSnapshot, Root),
    /// A tree that is finished.
    Done(Value),
}

/// A copy of a context, for the next run of the same step.
struct Copied {
    again: CopyAgain,
    earlier: Option<SnapshotId>,
}

/// Which results are wanted, and which of them are only ever written on by the one action that stands on them: those become one layer
/// with it, as in BuildKit. All others are layers of their own.
struct Plan {
    wanted: Vec<bool>,
    goes_on: Vec<bool>,
}

impl Plan {
    fn new(actions: &[FileAction], inputs: usize) -> Self {
        let mut wanted = vec![false; actions.len()];
        let (mut written_on, mut read) = (vec![0; actions.len()], vec![false; actions.len()]);
        let result = |index: i64| usize::try_from(index).ok().and_then(|index| index.checked_sub(inputs));
        for (number, action) in actions.iter().enumerate().rev() {
            wanted[number] |= action.output >= 0;
            if !wanted[number] {
                continue;
            }
            if let Some(below) = result(action.input) {
                wanted[below] = true;
                written_on[below] += 1;
            }
            if let Some(from) = result(action.secondary_input) {
                wanted[from] = true;
                read[from] = true;
            }
        }
        let alone = |number: usize| written_on[number] == 1 && !read[number] && actions[number].output < 0;
        Self { wanted, goes_on: (0..actions.len()).map(alone).collect() }
    }
}

/// The one path at and below which `action` makes files, where nothing else of the tree that it changes matters to it.
fn new_path(action: &FileAction) -> Option<&str> {
    // Names are looked up in the tree.
    let is_number = |user: &Option<UserOpt>| !matches!(user, Some(UserOpt::ByName(_)));
    if !action.kind.owner().is_none_or(|owner| is_number(&owner.user) && is_number(&owner.group)) {
        return None;
    }
    match &action.kind {
        FileActionKind::MkDir(dir) => Some(&dir.path),
        FileActionKind::MkFile(file) => Some(&file.path),
        FileActionKind::Symlink(link) => Some(&link.new_path),
        // Links in an archive lead anywhere.
        FileActionKind::Copy(copy) if !copy.attempt_unpack => Some(&copy.dest),
        FileActionKind::Copy(_) | FileActionKind::Rm(_) | FileActionKind::Missing => None,
    }
}

/// Bytes of a file that are written on the way, without a thread of their own.
const SHORT: usize = 64 << 10;

impl FileStep {
    /// Some system calls, which take less than handing them to another thread.
    fn is_short(&self, inputs: &[Value]) -> bool {
        let kinds = self.actions().iter().map(|action| &action.kind);
        let is_short = |kind: &FileActionKind| match kind {
            FileActionKind::MkDir(_) | FileActionKind::Symlink(_) => true,
            FileActionKind::MkFile(file) => file.data.len() <= SHORT,
            _ => false,
        };
        self.actions().len() < 4
            && kinds.into_iter().all(is_short)
            && !inputs.iter().any(|i| matches!(i, Value::Context(_)))
    }

    fn apply(&self, inputs: &[Value]) -> Result<Vec<Value>, OpFailure> {
        let actions = self.actions();
        let plan = Plan::new(actions, inputs.len());
        let mut made: Vec<Made> = inputs.iter().cloned().map(Made::Done).collect();
        let mut outputs = vec![Value::Scratch; self.outputs()];
        for (number, action) in actions.iter().enumerate() {
            if !plan.wanted[number] {
                made.push(Made::Nothing);
                continue;
            }
            let slot = usize::try_from(action.input).ok().and_then(|index| made.get_mut(index));
            let (active, root) = match slot {
                Some(slot @ Made::Open(..)) => match std::mem::replace(slot, Made::Nothing) {
                    Made::Open(active, root) => (active, root),
                    _ => self.begin(&Value::Scratch, action)?,
                },
                Some(Made::Done(value)) => {
                    let value = value.clone();
                    self.begin(&value, action)?
                }
                Some(Made::Nothing) | None => self.begin(&Value::Scratch, action)?,
            };
            let copied = self.act(&active, &root, action, &made)?;
            if plan.goes_on[number] {
                made.push(Made::Open(active, root));
                continue;
            }
            drop(root);
            let id = active.commit_as(&rhost_registry::redact(&self.vertex.name))?;
            if let Some(copied) = copied {
                self.remember(copied, id);
            }
            let value = Value::Snapshot(id);
            if let Some(output) = usize::try_from(action.output).ok().and_then(|output| outputs.get_mut(output)) {
                *output = value.clone();
            }
            made.push(Made::Done(value));
        }
        Ok(outputs)
    }

    /// A new layer on top of `base` for `action`, and the others that go on with it.
    fn begin(&self, base: &Value, action: &FileAction) -> Result<(ActiveSnapshot, Root), OpFailure> {
        let active = self.shared.store.prepare(self.shared.snapshot(base)?)?;
        if let ([_], Some(path), false) = (self.actions(), new_path(action), active.lowers().is_empty()) {
            let upper = Root::open(active.upper())?;
            if way_without_mount(&upper, active.lowers(), path, self.shared.owners)? {
                return Ok((active, upper));
            }
        }
        let root = crate::overlay::open(active.mount()?).map_err(OpFailure::overlay)?;
        Ok((active, root))
    }

    /// Answers what the next run of the same copy may want to know.
    fn act(
        &self,
        active: &ActiveSnapshot,
        root: &Root,
        action: &FileAction,
        made: &[Made],
    ) -> Result<Option<Copied>, OpFailure> {
        let policy = self.shared.owners;
        let owner = action.kind.owner().map(|owner| self.owner(owner, root, made)).transpose()?;
        let time = |timestamp: i64| (timestamp >= 0).then_some(timestamp);
        // Made files belong to root unless said otherwise.
        let given = Some(owner.unwrap_or(Owner { uid: 0, gid: 0 }));
        match &action.kind {
            FileActionKind::Copy(wanted) => {
                let from = usize::try_from(action.secondary_input).ok().and_then(|index| made.get(index));
                let source = match from {
                    Some(Made::Done(Value::Snapshot(id))) => Source::Root(self.shared.view(*id)?),
                    Some(Made::Done(Value::Context(tree))) => Source::Tree((**tree).clone()),
                    _ => Source::Tree(rhost_rootfs::Tree::empty()),
                };
                let options = self.copy_options(wanted, owner)?;
                let explained =
                    |error: rhost_rootfs::Error| self.explain(error, &wanted.src, action.secondary_input, made);
                if let (Source::Tree(_), [_], false) = (&source, self.actions(), wanted.attempt_unpack) {
                    let (again, earlier) = self.again(active)?;
                    copy_again(&source, root, &options, &again).map_err(explained)?;
                    return Ok(Some(Copied { again, earlier }));
                }
                copy(&source, root, &options).map_err(explained)?;
            }
            FileActionKind::MkFile(file) => {
                mkfile(root, &file.path, &file.data, file.mode as u32, given, time(file.timestamp), policy)?;
            }
            FileActionKind::MkDir(dir) => {
                let make = if dir.make_parents { mkdir_all } else { mkdir };
                make(root, &dir.path, dir.mode as u32, given, time(dir.timestamp), policy)?;
            }
            FileActionKind::Rm(wanted) => {
                let options = Rm { allow_not_found: wanted.allow_not_found, wildcard: wanted.allow_wildcard };
                rm(root, &wanted.path, options)?;
            }
            FileActionKind::Symlink(link) => {
                symlink(root, &link.old_path, &link.new_path, given, time(link.timestamp), policy)?;
            }
            FileActionKind::Missing => return Err(OpFailure::NotYet("an empty file action".into())),
        }
        Ok(None)
    }

    /// What an earlier run of this step made, which is its only action, and where the new layer lies.
    fn again(&self, active: &ActiveSnapshot) -> Result<(CopyAgain, Option<SnapshotId>), OpFailure> {
        let upper = if active.is_mounted() { Some(Root::open(active.upper())?) } else { None };
        let again = CopyAgain::new(upper);
        // Where its layer cannot be opened, everything is copied.
        let earlier = self.shared.store.earlier_copy(&self.vertex.digest.0);
        Ok(match earlier.and_then(|(earlier, layer)| Some((earlier, Root::open(layer).ok()?))) {
            Some((earlier, layer)) => (again.after(layer, earlier.keys), Some(earlier.snapshot)),
            None => (again, None),
        })
    }

    fn remember(&self, copied: Copied, snapshot: SnapshotId) {
        let (keys, linked) = copied.again.made();
        let made = EarlierCopy { snapshot, keys };
        self.shared.store.remember_copy(&self.vertex.digest.0, &made, copied.earlier.filter(|_| linked > 0));
    }

    /// `error` of a copy, with what is known of the source if `path` is not in it.
    fn explain(&self, error: rhost_rootfs::Error, path: &str, input: i64, made: &[Made]) -> OpFailure {
        let missing = matches!(&error, rhost_rootfs::Error::NotFound { path: found }
            if found.to_string_lossy().trim_start_matches('/') == path.trim_matches('/'));
        let input = usize::try_from(input).ok().filter(|input| missing && *input < self.vertex.inputs.len());
        match (input, input.and_then(|input| made.get(input))) {
            (Some(input), Some(Made::Done(value))) => {
                crate::missing::explain(&self.shared, &self.vertex, input, value, error.into())
            }
            _ => error.into(),
        }
    }

    fn copy_options(&self, wanted: &FileActionCopy, owner: Option<Owner>) -> Result<Copy, OpFailure> {
        // `required_paths` is looked at where the source is hashed, which is always before it is copied.
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
    fn owner(&self, wanted: &ChownOpt, root: &Root, made: &[Made]) -> Result<Owner, OpFailure> {
        let view = |input: i64| match usize::try_from(input).ok().and_then(|index| made.get(index)) {
            Some(Made::Done(Value::Snapshot(id))) => self.shared.view(*id),
            _ => Ok(root.clone()),
        };
        let mut owner = Owner { uid: 0, gid: 0 };
        // As BuildKit: a number alone names the group too, and a name that is in no file is root. Only here it is said.
        match &wanted.user {
            None | Some(UserOpt::Missing) => {}
            Some(UserOpt::ById(id)) => owner = Owner { uid: *id, gid: *id },
            Some(UserOpt::ByName(named)) => match lookup_user(&view(named.input)?, &named.name)? {
                Some(found) => owner = found,
                None => self.warn(&format!("there is no user `{}` in the image: root owns the files", named.name)),
            },
        }
        match &wanted.group {
            None | Some(UserOpt::Missing) => {}
            Some(UserOpt::ById(id)) => owner.gid = *id,
            Some(UserOpt::ByName(named)) => match lookup_group(&view(named.input)?, &named.name)? {
                Some(found) => owner.gid = found,
                None => self.warn(&format!(
                    "there is no group `{}` in the image: the files belong to group {}",
                    named.name, owner.gid
                )),
            },
        }
        Ok(owner)
    }

    fn warn(&self, message: &str) {
        self.shared.events.send(Event::Warning { vertex: Some(self.vertex.digest), message: message.into() });
    }
}
