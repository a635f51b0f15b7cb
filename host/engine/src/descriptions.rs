//! What made the layers of a result, in BuildKit's words. They are seen in the history of an image only where it says nothing itself: base images
//! without one, results of frontends that write none.
use rhost_llb::{Definition, Graph, Limits, OpKind};

/// What made each of `count` layers, from the base up; empty text where the graph does not tell.
pub fn of_layers(definition: &Definition, count: usize) -> Vec<String> {
    let mut found = Vec::new();
    let mut base = String::new();
    let graph = if definition.is_empty() { None } else { Graph::load(definition, &Limits::HOSTILE).ok() };
    let mut at = graph.as_ref().map(Graph::head);
    while let (Some(graph), Some(edge)) = (&graph, at.take()) {
        let Some(vertex) = graph.get(edge.vertex) else { break };
        let input = |index: i64| usize::try_from(index).ok().and_then(|index| vertex.inputs.get(index)).copied();
        match vertex.kind() {
            OpKind::Exec(exec) => {
                let written = exec.mounts.iter().find(|mount| mount.output_index() == Some(edge.output as usize));
                let (Some(mount), Some(meta)) = (written, &exec.meta) else { break };
                found.push(format!("mount {} from exec {}", mount.dest, meta.args.join(" ")));
                at = mount.input_index().and_then(|index| vertex.inputs.get(index)).copied();
            }
            OpKind::File(file) => {
                found.push(rhost_registry::redact(&vertex.name));
                at = file.actions.first().and_then(|action| input(action.input));
            }
            OpKind::Source(source) => {
                if let Some(reference) = source.identifier.strip_prefix("docker-image://") {
                    base = format!("pulled from {reference}");
                }
            }
            _ => {}
        }
    }
    found.truncate(count);
    found.resize(count, base);
    found.reverse();
    found
}
