//! `llb`: states, metadata, sources, merge, diff, ready definitions. Execs and files have modules of their own.
use std::collections::BTreeMap;
use std::sync::Arc;

use rhost_llb::{Definition, LinuxResources, Location, ProgressGroup, SourceInfo, SourceOp, VertexOptions};
use wasmtime::Result as Call;
use wasmtime::component::Resource;

use super::bindings::rhost::frontend::llb::{Host, HostMetadata, HostSourceMap, HostState, Resources};
use super::bindings::rhost::frontend::types::{Error, Platform, Range};
use super::convert;
use super::guest::{Guest, bound};
use super::handles::{Metadata, SourceMap, State};
use crate::host::SourceText;

impl Guest {
    /// The edge behind a handle; `None` is scratch.
    pub fn edge(&self, state: &Resource<State>) -> Call<Option<rhost_llb::State>> {
        Ok(self.table.get(state)?.0)
    }

    /// The definition of all that leads to an edge.
    pub fn definition(&mut self, edge: Option<rhost_llb::State>) -> Call<Result<Definition, Error>> {
        Ok(self.on_its_time(|guest| guest.graph.marshal(edge))?.map_err(Error::from))
    }

    /// A handle for what an operation gives, or why there is none.
    pub fn state<E>(&mut self, made: Result<Option<rhost_llb::State>, E>) -> Call<Result<Resource<State>, Error>>
    where
        Error: From<E>,
    {
        Ok(match made {
            Ok(edge) => Ok(self.table.push(State(edge))?),
            Err(error) => Err(error.into()),
        })
    }
}

impl Host for Guest {
    async fn scratch(&mut self) -> Call<Resource<State>> {
        Ok(self.table.push(State(None))?)
    }

    async fn source(
        &mut self,
        identifier: String,
        attributes: Vec<(String, String)>,
        platform: Option<Platform>,
        metadata: Resource<Metadata>,
    ) -> Call<Result<Resource<State>, Error>> {
        let mut options = self.table.get(&metadata)?.0.clone();
        options.platform = platform.map(Into::into);
        let source = SourceOp { identifier, attrs: attributes.into_iter().collect::<BTreeMap<_, _>>() };
        let made = self.graph.source(source, &options).map(Some);
        self.state(made)
    }

    async fn merge(
        &mut self,
        inputs: Vec<Resource<State>>,
        metadata: Resource<Metadata>,
    ) -> Call<Result<Resource<State>, Error>> {
        let edges = inputs.iter().map(|state| self.edge(state)).collect::<Call<Vec<_>>>()?;
        let options = self.table.get(&metadata)?.0.clone();
        let made = self.on_its_time(|guest| guest.graph.merge(&edges, &options))?;
        self.state(made)
    }

    async fn diff(
        &mut self,
        lower: Resource<State>,
        upper: Resource<State>,
        metadata: Resource<Metadata>,
    ) -> Call<Result<Resource<State>, Error>> {
        let (lower, upper) = (self.edge(&lower)?, self.edge(&upper)?);
        let made = self.graph.diff(lower, upper, &self.table.get(&metadata)?.0);
        self.state(made)
    }

    async fn from_definition(&mut self, definition: Vec<u8>) -> Call<Result<Resource<State>, Error>> {
        let made = self.on_its_time(|guest| {
            let definition = Definition::decode(&definition, &guest.limits.graph)
                .map_err(|error| Error::Invalid(format!("the definition cannot be read: {error}")))?;
            guest.graph.import(&definition).map_err(Error::from)
        })?;
        self.state(made)
    }
}

impl HostState for Guest {
    async fn digest(&mut self, state: Resource<State>) -> Call<Option<String>> {
        let edge = self.edge(&state)?;
        Ok(edge.and_then(|edge| self.graph.digest(edge)).map(|digest| digest.to_string()))
    }

    async fn output_index(&mut self, state: Resource<State>) -> Call<u32> {
        Ok(self.edge(&state)?.map_or(0, rhost_llb::State::output))
    }

    async fn marshal(&mut self, state: Resource<State>) -> Call<Result<Vec<u8>, Error>> {
        let edge = self.edge(&state)?;
        Ok(self.definition(edge)?.map(|definition| definition.encode()))
    }

    async fn drop(&mut self, state: Resource<State>) -> Call<()> {
        self.table.delete(state)?;
        Ok(())
    }
}

impl HostSourceMap for Guest {
    async fn new(
        &mut self,
        filename: String,
        language: String,
        data: Vec<u8>,
        origin: Option<Resource<State>>,
    ) -> Call<Resource<SourceMap>> {
        self.source_map()?;
        self.hand_over(filename.len() + language.len() + data.len())?;
        let definition = match origin {
            None => None,
            Some(state) => {
                let edge = self.edge(&state)?;
                // An origin that cannot be marshalled is not worth a failed build: it is only noted for people.
                self.definition(edge)?.ok().filter(|definition| !definition.is_empty()).map(Box::new)
            }
        };
        let info = SourceInfo {
            filename: filename.clone(),
            data: data.clone().into(),
            definition,
            language: language.clone(),
        };
        let index = self.graph.add_source_info(info);
        Ok(self.table.push(SourceMap { text: Arc::new(SourceText { filename, language, data }), index })?)
    }

    async fn drop(&mut self, map: Resource<SourceMap>) -> Call<()> {
        self.table.delete(map)?;
        Ok(())
    }
}

impl HostMetadata for Guest {
    async fn new(&mut self) -> Call<Resource<Metadata>> {
        Ok(self.table.push(Metadata(VertexOptions::default()))?)
    }

    async fn name(&mut self, metadata: Resource<Metadata>, name: String) -> Call<()> {
        self.description(metadata, rhost_llb::CUSTOM_NAME.to_owned(), name).await
    }

    async fn description(&mut self, metadata: Resource<Metadata>, key: String, value: String) -> Call<()> {
        self.hand_over(key.len() + value.len())?;
        self.table.get_mut(&metadata)?.0.description.insert(key, value);
        Ok(())
    }

    async fn ignore_cache(&mut self, metadata: Resource<Metadata>) -> Call<()> {
        self.table.get_mut(&metadata)?.0.ignore_cache = true;
        Ok(())
    }

    async fn progress_group(&mut self, metadata: Resource<Metadata>, id: String, name: String, weak: bool) -> Call<()> {
        self.hand_over(id.len() + name.len())?;
        self.table.get_mut(&metadata)?.0.progress_group = Some(ProgressGroup { id, name, weak });
        Ok(())
    }

    async fn resources(&mut self, metadata: Resource<Metadata>, limits: Resources) -> Call<()> {
        self.hand_over(limits.cpuset_cpus.len() + limits.cpuset_mems.len())?;
        self.table.get_mut(&metadata)?.0.linux_resources = Some(LinuxResources {
            memory: limits.memory,
            memory_swap: limits.memory_swap,
            cpu_shares: limits.cpu_shares,
            cpu_period: limits.cpu_period,
            cpu_quota: limits.cpu_quota,
            cpuset_cpus: limits.cpuset_cpus,
            cpuset_mems: limits.cpuset_mems,
        });
        Ok(())
    }

    async fn capability(&mut self, metadata: Resource<Metadata>, id: String) -> Call<()> {
        self.hand_over(id.len())?;
        let most = self.limits.graph.per_op;
        let caps = &mut self.table.get_mut(&metadata)?.0.caps;
        caps.push(id);
        Ok(bound(caps.len(), most, "one operation has too many capabilities")?)
    }

    async fn location(
        &mut self,
        metadata: Resource<Metadata>,
        source: Resource<SourceMap>,
        ranges: Vec<Range>,
    ) -> Call<()> {
        self.hand_over(ranges.len() * size_of::<rhost_llb::Range>())?;
        let most = self.limits.graph.per_op;
        let source = self.table.get(&source)?;
        let (source_index, text) = (source.index, source.text.clone());
        if let Some(range) = ranges.first() {
            self.last_place = Some((text, convert::report_range(*range)));
        }
        let locations = &mut self.table.get_mut(&metadata)?.0.locations;
        locations.push(Location { source_index, ranges: ranges.iter().map(convert::range).collect() });
        Ok(bound(locations.len(), most, "one operation has too many locations")?)
    }

    async fn drop(&mut self, metadata: Resource<Metadata>) -> Call<()> {
        self.table.delete(metadata)?;
        Ok(())
    }
}
