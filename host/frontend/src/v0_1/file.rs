//! `llb.file` and `llb.copy-action`: collect actions, and put them into the graph as one operation.
use rhost_llb::{
    CopyFrom, FileActionCopy, FileActionMkDir, FileActionMkFile, FileActionRm, FileActionSymlink, FileChain, FileStep,
};
use wasmtime::Result as Call;
use wasmtime::component::Resource;

use super::bindings::rhost::frontend::llb::{CopyFlags, HostCopyAction, HostFile, Owner};
use super::bindings::rhost::frontend::types::Error;
use super::convert;
use super::guest::{Guest, bound};
use super::handles::{CopyAction, File, Metadata, State};

/// "As in the source" for modes and times of copies; "now" for times of what is made.
const KEEP: i64 = -1;

impl Guest {
    fn add_step(&mut self, file: &Resource<File>, step: FileStep, bytes: usize) -> Call<()> {
        self.hand_over(bytes + size_of::<FileStep>())?;
        let most = self.limits.graph.per_op;
        if let Some(chain) = &mut self.table.get_mut(file)?.0 {
            chain.steps.push(step);
            bound(chain.steps.len(), most, "one file operation has too many actions")?;
        }
        Ok(())
    }

    fn change_copy(
        &mut self,
        copy: &Resource<CopyAction>,
        bytes: usize,
        change: impl FnOnce(&mut FileActionCopy),
    ) -> Call<()> {
        self.hand_over(bytes)?;
        change(&mut self.table.get_mut(copy)?.copy);
        Ok(())
    }
}

fn patterns_size(patterns: &[String]) -> usize {
    patterns.iter().map(|pattern| pattern.len() + 16).sum()
}

fn optional_owner_size(owner: &Option<Owner>) -> usize {
    owner.as_ref().map_or(0, convert::owner_size)
}

/// Modes fit: what is beyond is refused by the graph's validation.
fn mode_bits(mode: u32) -> i32 {
    i32::try_from(mode).unwrap_or(i32::MAX)
}

impl HostCopyAction for Guest {
    async fn new(
        &mut self,
        source: Resource<State>,
        source_path: String,
        destination_path: String,
    ) -> Call<Resource<CopyAction>> {
        self.hand_over(source_path.len() + destination_path.len())?;
        let from = self.edge(&source)?;
        let copy = FileActionCopy {
            src: source_path,
            dest: destination_path,
            mode: -1,
            timestamp: KEEP,
            ..FileActionCopy::default()
        };
        Ok(self.table.push(CopyAction { from, copy })?)
    }

    async fn options(&mut self, copy: Resource<CopyAction>, chosen: CopyFlags) -> Call<()> {
        self.change_copy(&copy, 0, |copy| {
            copy.follow_symlink = chosen.contains(CopyFlags::FOLLOW_SYMLINKS);
            copy.dir_copy_contents = chosen.contains(CopyFlags::CONTENTS_ONLY);
            copy.attempt_unpack = chosen.contains(CopyFlags::UNPACK);
            copy.create_dest_path = chosen.contains(CopyFlags::CREATE_DESTINATION);
            copy.allow_wildcard = chosen.contains(CopyFlags::WILDCARD);
            copy.allow_empty_wildcard = chosen.contains(CopyFlags::ALLOW_EMPTY_WILDCARD);
            copy.always_replace_existing_dest_paths = chosen.contains(CopyFlags::ALWAYS_REPLACE);
        })
    }

    async fn owner(&mut self, copy: Resource<CopyAction>, owner: Owner) -> Call<()> {
        self.change_copy(&copy, convert::owner_size(&owner), |copy| copy.owner = Some(convert::owner(owner)))
    }

    async fn mode(&mut self, copy: Resource<CopyAction>, bits: u32) -> Call<()> {
        self.change_copy(&copy, 0, |copy| copy.mode = mode_bits(bits))
    }

    async fn mode_symbols(&mut self, copy: Resource<CopyAction>, text: String) -> Call<()> {
        self.change_copy(&copy, text.len(), |copy| copy.mode_str = text)
    }

    async fn timestamp(&mut self, copy: Resource<CopyAction>, nanoseconds: i64) -> Call<()> {
        self.change_copy(&copy, 0, |copy| copy.timestamp = nanoseconds)
    }

    async fn include(&mut self, copy: Resource<CopyAction>, patterns: Vec<String>) -> Call<()> {
        self.change_copy(&copy, patterns_size(&patterns), |copy| copy.include_patterns = patterns)
    }

    async fn exclude(&mut self, copy: Resource<CopyAction>, patterns: Vec<String>) -> Call<()> {
        self.change_copy(&copy, patterns_size(&patterns), |copy| copy.exclude_patterns = patterns)
    }

    async fn required_paths(&mut self, copy: Resource<CopyAction>, paths: Vec<String>) -> Call<()> {
        self.change_copy(&copy, patterns_size(&paths), |copy| copy.required_paths = paths)
    }

    async fn drop(&mut self, copy: Resource<CopyAction>) -> Call<()> {
        self.table.delete(copy)?;
        Ok(())
    }
}

impl HostFile for Guest {
    async fn new(&mut self, base: Resource<State>) -> Call<Resource<File>> {
        let base = self.edge(&base)?;
        Ok(self.table.push(File(Some(FileChain { base, steps: Vec::new() })))?)
    }

    async fn copy(&mut self, file: Resource<File>, action: Resource<CopyAction>) -> Call<()> {
        let CopyAction { from, copy } = self.table.get(&action)?;
        let (from, copy) = (*from, copy.clone());
        let bytes = copy.src.len()
            + copy.dest.len()
            + patterns_size(&copy.include_patterns)
            + patterns_size(&copy.exclude_patterns);
        self.add_step(&file, FileStep::Copy { from: CopyFrom::State(from), copy }, bytes)
    }

    async fn mkdir(
        &mut self,
        file: Resource<File>,
        path: String,
        mode: u32,
        parents: bool,
        owner: Option<Owner>,
        timestamp: Option<i64>,
    ) -> Call<()> {
        let bytes = path.len() + optional_owner_size(&owner);
        let action = FileActionMkDir {
            path,
            mode: mode_bits(mode),
            make_parents: parents,
            owner: owner.map(convert::owner),
            timestamp: timestamp.unwrap_or(KEEP),
        };
        self.add_step(&file, FileStep::MkDir(action), bytes)
    }

    async fn mkfile(
        &mut self,
        file: Resource<File>,
        path: String,
        mode: u32,
        data: Vec<u8>,
        owner: Option<Owner>,
        timestamp: Option<i64>,
    ) -> Call<()> {
        let bytes = path.len() + data.len() + optional_owner_size(&owner);
        let action = FileActionMkFile {
            path,
            mode: mode_bits(mode),
            data: data.into(),
            owner: owner.map(convert::owner),
            timestamp: timestamp.unwrap_or(KEEP),
        };
        self.add_step(&file, FileStep::MkFile(action), bytes)
    }

    async fn symlink(
        &mut self,
        file: Resource<File>,
        points_to: String,
        path: String,
        owner: Option<Owner>,
        timestamp: Option<i64>,
    ) -> Call<()> {
        let bytes = path.len() + points_to.len() + optional_owner_size(&owner);
        let action = FileActionSymlink {
            old_path: points_to,
            new_path: path,
            owner: owner.map(convert::owner),
            timestamp: timestamp.unwrap_or(KEEP),
        };
        self.add_step(&file, FileStep::Symlink(action), bytes)
    }

    async fn rm(&mut self, file: Resource<File>, path: String, allow_missing: bool, wildcard: bool) -> Call<()> {
        let bytes = path.len();
        let action = FileActionRm { path, allow_not_found: allow_missing, allow_wildcard: wildcard };
        self.add_step(&file, FileStep::Rm(action), bytes)
    }

    async fn apply(
        &mut self,
        file: Resource<File>,
        metadata: Resource<Metadata>,
    ) -> Call<Result<Resource<State>, Error>> {
        let Some(chain) = self.table.get_mut(&file)?.0.take() else {
            return Ok(Err(Error::Invalid("this file operation is applied already: make another".into())));
        };
        let options = self.table.get(&metadata)?.0.clone();
        let made = self.on_its_time(|guest| guest.graph.file(chain, &options).map(Some))?;
        self.state(made)
    }

    async fn drop(&mut self, file: Resource<File>) -> Call<()> {
        self.table.delete(file)?;
        Ok(())
    }
}
