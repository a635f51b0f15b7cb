//! What comes from the world and goes back to it: `context`, `images`, `solve`, `invocation`, `outcome`.
use std::sync::Arc;
use std::time::Instant;

use wasmtime::Result as Call;
use wasmtime::component::Resource;

use super::bindings::rhost::frontend::images::{self, HostPendingImage};
use super::bindings::rhost::frontend::solve::{self, HostPendingTree, HostTree};
use super::bindings::rhost::frontend::types::{self, ByteRange, Error, FileStat, Platform};
use super::bindings::rhost::frontend::{context, invocation, outcome};
use super::convert;
use super::guest::Guest;
use super::handles::{Invocation, Outcome, PendingImage, PendingTree, Promise, State, Tree};
use crate::host::{self, HostError, ImageQuery, ResolveMode};

impl types::Host for Guest {}

impl Guest {
    /// Checks an answer's size; hosts should have, but a guest's memory is at stake.
    fn file(&self, answer: Result<Vec<u8>, HostError>, path: &str) -> Result<Vec<u8>, Error> {
        let limit = self.limits.file_payload;
        match answer {
            Ok(bytes) if bytes.len() as u64 > limit => {
                Err(Error::TooLarge(format!("{path} is larger than {} MiB (limit: bytes of one read)", limit >> 20)))
            }
            answer => answer.map_err(Error::from),
        }
    }

    fn entries(&self, answer: Result<Vec<host::FileStat>, HostError>, path: &str) -> Result<Vec<FileStat>, Error> {
        let limit = self.limits.directory_entries;
        match answer {
            Ok(entries) if entries.len() > limit => {
                Err(Error::TooLarge(format!("{path} has more than {limit} entries")))
            }
            Ok(entries) => Ok(entries.into_iter().map(convert::file_stat).collect()),
            Err(error) => Err(error.into()),
        }
    }
}

impl context::Host for Guest {
    async fn names(&mut self) -> Call<Vec<String>> {
        Ok(self.host.contexts())
    }

    async fn read_file(
        &mut self,
        name: String,
        path: String,
        range: Option<ByteRange>,
    ) -> Call<Result<Vec<u8>, Error>> {
        let range = range.map(convert::byte_range);
        let since = Instant::now();
        let answer = self.host.read_file(&name, &path, range, self.limits.file_payload).await;
        self.read(since)?;
        let answer = self.file(answer, &path);
        self.got(answer.as_ref().map_or(0, Vec::len))?;
        Ok(answer)
    }

    async fn stat(&mut self, name: String, path: String) -> Call<Result<FileStat, Error>> {
        let since = Instant::now();
        let answer = self.host.stat(&name, &path).await;
        self.read(since)?;
        Ok(answer.map(convert::file_stat).map_err(Error::from))
    }

    async fn read_dir(
        &mut self,
        name: String,
        path: String,
        pattern: Option<String>,
    ) -> Call<Result<Vec<FileStat>, Error>> {
        let since = Instant::now();
        let answer = self.host.read_dir(&name, &path, pattern.as_deref()).await;
        self.read(since)?;
        Ok(self.entries(answer, &path))
    }
}

impl images::Host for Guest {
    async fn resolve(
        &mut self,
        reference: String,
        platform: Option<Platform>,
        mode: images::ResolveMode,
        store: Option<String>,
        progress_name: Option<String>,
    ) -> Call<Resource<PendingImage>> {
        self.promise()?;
        let platform = platform.map_or_else(|| self.invocation.build_platform.clone(), Into::into);
        let mode = match mode {
            images::ResolveMode::Default => ResolveMode::Default,
            images::ResolveMode::PreferLocal => ResolveMode::PreferLocal,
            images::ResolveMode::ForcePull => ResolveMode::ForcePull,
        };
        let query = ImageQuery { reference, platform, mode, store, progress_name };
        let (host, turns) = (self.host.clone(), self.turns.clone());
        let promise = Promise::start(async move {
            let _turn = turns.acquire().await;
            host.resolve_image(query).await
        })
        .await;
        Ok(self.table.push(PendingImage(promise))?)
    }
}

impl HostPendingImage for Guest {
    async fn ready(&mut self, pending: Resource<PendingImage>) -> Call<bool> {
        // A guest that polls must not starve what it waits for.
        tokio::task::yield_now().await;
        Ok(self.table.get(&pending)?.0.is_ready())
    }

    async fn wait(&mut self, pending: Resource<PendingImage>) -> Call<Result<images::ResolvedImage, Error>> {
        let since = Instant::now();
        let answer = self.table.get_mut(&pending)?.0.wait().await;
        self.waited(since);
        Ok(answer
            .map(|image| images::ResolvedImage {
                reference: image.reference,
                digest: image.digest,
                config: image.config,
            })
            .map_err(Error::from))
    }

    async fn drop(&mut self, pending: Resource<PendingImage>) -> Call<()> {
        self.table.delete(pending)?;
        Ok(())
    }
}

/// What scratch holds: nothing.
struct Nothing;

#[async_trait::async_trait]
impl host::SolvedTree for Nothing {
    async fn read_file(&self, path: &str, _range: Option<host::ByteRange>, _limit: u64) -> Result<Vec<u8>, HostError> {
        Err(HostError::NotFound(format!("{path}: no such file, the tree is empty")))
    }

    async fn stat(&self, path: &str) -> Result<host::FileStat, HostError> {
        Err(HostError::NotFound(format!("{path}: no such file, the tree is empty")))
    }

    async fn read_dir(&self, path: &str, _pattern: Option<&str>) -> Result<Vec<host::FileStat>, HostError> {
        if path.trim_matches('/').is_empty() {
            return Ok(Vec::new());
        }
        Err(HostError::NotFound(format!("{path}: no such directory, the tree is empty")))
    }
}

impl solve::Host for Guest {
    async fn start(&mut self, state: Resource<State>) -> Call<Resource<PendingTree>> {
        self.promise()?;
        let edge = self.edge(&state)?;
        let definition = self.definition(edge)?;
        let (host, turns) = (self.host.clone(), self.turns.clone());
        let promise = match definition {
            Err(error) => Promise::Done(Err(error.into())),
            Ok(definition) if definition.is_empty() => {
                Promise::Done(Ok(Arc::new(Nothing) as Arc<dyn host::SolvedTree>))
            }
            Ok(definition) => {
                Promise::start(async move {
                    let _turn = turns.acquire().await;
                    host.solve(definition).await
                })
                .await
            }
        };
        Ok(self.table.push(PendingTree(promise))?)
    }
}

impl HostPendingTree for Guest {
    async fn ready(&mut self, pending: Resource<PendingTree>) -> Call<bool> {
        tokio::task::yield_now().await;
        Ok(self.table.get(&pending)?.0.is_ready())
    }

    async fn wait(&mut self, pending: Resource<PendingTree>) -> Call<Result<Resource<Tree>, Error>> {
        let since = Instant::now();
        let answer = self.table.get_mut(&pending)?.0.wait().await;
        self.waited(since);
        match answer {
            Ok(tree) => Ok(Ok(self.table.push(Tree(tree))?)),
            Err(error) => Ok(Err(error.into())),
        }
    }

    async fn drop(&mut self, pending: Resource<PendingTree>) -> Call<()> {
        self.table.delete(pending)?;
        Ok(())
    }
}

impl HostTree for Guest {
    async fn read_file(
        &mut self,
        tree: Resource<Tree>,
        path: String,
        range: Option<ByteRange>,
    ) -> Call<Result<Vec<u8>, Error>> {
        let tree = self.table.get(&tree)?.0.clone();
        let since = Instant::now();
        let answer = tree.read_file(&path, range.map(convert::byte_range), self.limits.file_payload).await;
        self.read(since)?;
        let answer = self.file(answer, &path);
        self.got(answer.as_ref().map_or(0, Vec::len))?;
        Ok(answer)
    }

    async fn stat(&mut self, tree: Resource<Tree>, path: String) -> Call<Result<FileStat, Error>> {
        let tree = self.table.get(&tree)?.0.clone();
        let since = Instant::now();
        let answer = tree.stat(&path).await;
        self.read(since)?;
        Ok(answer.map(convert::file_stat).map_err(Error::from))
    }

    async fn read_dir(
        &mut self,
        tree: Resource<Tree>,
        path: String,
        pattern: Option<String>,
    ) -> Call<Result<Vec<FileStat>, Error>> {
        let tree = self.table.get(&tree)?.0.clone();
        let since = Instant::now();
        let answer = tree.read_dir(&path, pattern.as_deref()).await;
        self.read(since)?;
        Ok(self.entries(answer, &path))
    }

    async fn drop(&mut self, tree: Resource<Tree>) -> Call<()> {
        self.table.delete(tree)?;
        Ok(())
    }
}

impl invocation::Host for Guest {}

impl invocation::HostInvocation for Guest {
    async fn build_file(&mut self, _this: Resource<Invocation>) -> Call<String> {
        Ok(self.invocation.build_file.clone())
    }

    async fn target(&mut self, _this: Resource<Invocation>) -> Call<Option<String>> {
        Ok(self.invocation.target.clone())
    }

    async fn platforms(&mut self, _this: Resource<Invocation>) -> Call<Vec<Platform>> {
        Ok(self.invocation.platforms.iter().map(Platform::from).collect())
    }

    async fn multi_platform(&mut self, _this: Resource<Invocation>) -> Call<bool> {
        Ok(self.invocation.multi_platform)
    }

    async fn build_platform(&mut self, _this: Resource<Invocation>) -> Call<Platform> {
        Ok(Platform::from(&self.invocation.build_platform))
    }

    async fn build_args(&mut self, _this: Resource<Invocation>) -> Call<Vec<(String, String)>> {
        Ok(self.invocation.build_args.clone())
    }

    async fn labels(&mut self, _this: Resource<Invocation>) -> Call<Vec<(String, String)>> {
        Ok(self.invocation.labels.clone())
    }

    async fn named_contexts(&mut self, _this: Resource<Invocation>) -> Call<Vec<(String, String)>> {
        Ok(self.invocation.named_contexts.clone())
    }

    async fn raw_option(&mut self, _this: Resource<Invocation>, key: String) -> Call<Option<String>> {
        Ok(self.invocation.raw_options().remove(&key))
    }

    async fn raw_options(&mut self, _this: Resource<Invocation>) -> Call<Vec<(String, String)>> {
        Ok(self.invocation.raw_options().into_iter().collect())
    }

    async fn input(&mut self, _this: Resource<Invocation>, name: String) -> Call<Option<Resource<State>>> {
        let Some(definition) = self.invocation.inputs.get(&name).cloned() else { return Ok(None) };
        let edge = self.on_its_time(|guest| guest.graph.import(&definition))?;
        // The client's graph was checked when the invocation was made; a guest that has used up its own graph gets nothing more.
        match edge {
            Ok(edge) => Ok(Some(self.table.push(State(edge))?)),
            Err(error) => Err(wasmtime::Error::msg(format!("input `{name}`: {error}"))),
        }
    }

    async fn session(&mut self, _this: Resource<Invocation>) -> Call<Option<String>> {
        Ok(self.invocation.session.clone())
    }

    async fn host_version(&mut self, _this: Resource<Invocation>) -> Call<String> {
        Ok(concat!("rhost ", env!("CARGO_PKG_VERSION")).to_owned())
    }

    async fn supports(&mut self, _this: Resource<Invocation>, feature: String) -> Call<bool> {
        Ok(self.host.supports(&feature))
    }

    async fn drop(&mut self, this: Resource<Invocation>) -> Call<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

impl outcome::Host for Guest {}

impl outcome::HostOutcome for Guest {
    async fn new(&mut self) -> Call<Resource<Outcome>> {
        Ok(self.table.push(Outcome::default())?)
    }

    async fn add(
        &mut self,
        this: Resource<Outcome>,
        platform: Platform,
        state: Resource<State>,
        config: Vec<u8>,
    ) -> Call<()> {
        self.hand_over(config.len() + 256)?;
        let edge = self.edge(&state)?;
        let platform = rhost_llb::Platform::from(platform);
        let targets = &mut self.table.get_mut(&this)?.targets;
        targets.retain(|(known, ..)| *known != platform);
        targets.push((platform, edge, config));
        Ok(super::guest::bound(targets.len(), 1_000, "its outcome has too many platforms")?)
    }

    async fn metadata(&mut self, this: Resource<Outcome>, key: String, value: Vec<u8>) -> Call<()> {
        self.hand_over(key.len() + value.len() + 64)?;
        self.table.get_mut(&this)?.metadata.insert(key, value);
        Ok(())
    }

    async fn drop(&mut self, this: Resource<Outcome>) -> Call<()> {
        self.table.delete(this)?;
        Ok(())
    }
}
