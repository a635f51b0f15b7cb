//! Answers to whole targets: a graph that was solved before, whose sources are as they were, has the same answer.
//!
//! A target's digest covers everything that is done below it. What it does not cover is what the world holds: a source's name says nothing of
//! its content. So after a solve it is written down what was found at the sources, and the next solve of the same target asks for that
//! alone: one record is read in place of two for each vertex. Whatever is otherwise (another content, a result that is gone or was made anew)
//! is no answer, and the walk begins.
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::future::join_all;
use rhost_llb::{Digest, DigestMap, DigestSet, VertexDigest};

use crate::cache::{Asked, Recollection, content_key, output_digest};
use crate::solver::{Event, Node, Shared, lock};

/// `node` and all below it, inputs first; without recursion, since chains may be long.
fn reach<T>(node: &Arc<Node<T>>) -> Vec<Arc<Node<T>>> {
    let (mut done, mut seen, mut stack) = (Vec::new(), DigestSet::default(), vec![(node.clone(), false)]);
    while let Some((node, opened)) = stack.pop() {
        if opened {
            done.push(node);
        } else if seen.insert(node.digest) {
            let inputs: Vec<_> = node.inputs.iter().rev().map(|(input, _)| (input.clone(), false)).collect();
            stack.push((node, true));
            stack.extend(inputs);
        }
    }
    done
}

fn name(target: VertexDigest, output: usize) -> Digest {
    output_digest(target.0, output)
}

impl<T: Clone + Send + Sync + 'static> Shared<T> {
    /// What an earlier solve of output `output` of `node` gave, if everything that it asked has the same answer now.
    pub(crate) async fn recall(self: &Arc<Self>, node: &Arc<Node<T>>, output: usize) -> Option<T> {
        let remembered = self.cache.recall(name(node.digest, output))?;
        let nodes = reach(node);
        // What a build inside the build stands on is not among the sources of this graph.
        if nodes.iter().any(|node| node.ignore_cache || node.op.waits_for_vertices()) {
            return None;
        }
        let mut asked: DigestMap<VertexDigest, Vec<(usize, Digest)>> = DigestMap::default();
        for question in &remembered.asked {
            let (vertex, input, key) = match question {
                Asked::Source { vertex, key } => (*vertex, 0, *key),
                Asked::Content { vertex, input, key } => (*vertex, *input as usize, *key),
            };
            asked.entry(vertex).or_default().push((input, key));
        }
        let asked = &asked;
        let same = join_all(nodes.iter().map(|node| async move {
            let answers = asked.get(&node.digest).map(Vec::as_slice).unwrap_or_default();
            if node.inputs.is_empty() {
                // A failure is told by the walk.
                let map = node.op.cache_map().await.ok()?;
                let known = answers.contains(&(0, output_digest(map.digest, 0)));
                return (map.volatile || known).then_some(());
            }
            for (input, key) in answers {
                (content_key(self.content(node, *input).await.ok()?).id == *key).then_some(())?;
            }
            Some(())
        }));
        same.await.into_iter().collect::<Option<()>>()?;
        // After the sources have told what they offer: the result may be made of it.
        let value = self.cache.recalled(name(node.digest, output), &remembered)?;
        for node in nodes {
            // What was looked at has told of itself.
            if node.outputs.peek().is_none() && !node.told.swap(true, Ordering::Relaxed) {
                (self.events)(Event::Cached(node.digest));
            }
        }
        Some(value)
    }

    /// Writes down what the solve of output `output` of `node` stood on.
    pub(crate) fn remember(&self, node: &Arc<Node<T>>, output: usize) {
        let Some(Ok(keys)) = node.keys.peek() else { return };
        let result = match &keys.hit {
            Some(hit) => hit[output],
            None => keys.ways[output][0].id,
        };
        if let Some(found) = self.recollection(&reach(node), result) {
            self.cache.remember(name(node.digest, output), &found);
        }
    }

    /// `None` when something below means nothing after this process, other than a source that is asked by its content.
    fn recollection(&self, nodes: &[Arc<Node<T>>], result: Digest) -> Option<Recollection> {
        let (mut asked, mut used) = (Vec::new(), Vec::new());
        for node in nodes {
            if node.op.waits_for_vertices() {
                return None;
            }
            let Some(Ok(keys)) = node.keys.peek() else { return None };
            let volatile = keys.ways.iter().any(|ways| ways[0].volatile);
            match (node.inputs.is_empty(), volatile) {
                (true, true) => continue,
                (true, false) => asked.push(Asked::Source { vertex: node.digest, key: keys.ways[0].first()?.id }),
                (false, true) => return None,
                (false, false) => {}
            }
            for (index, (input, output)) in node.inputs.iter().enumerate() {
                let Some(Ok(below)) = input.keys.peek() else { return None };
                if below.ways[*output].iter().all(|way| way.volatile) {
                    let content = *lock(&node.contents).get(&index)?;
                    let key = content_key(content).id;
                    asked.push(Asked::Content { vertex: node.digest, input: index as u32, key });
                }
            }
            used.extend(keys.hit.iter().flatten());
            used.extend(keys.ways.iter().filter_map(|ways| ways.first()).map(|way| way.id));
        }
        used.sort_unstable();
        used.dedup();
        Some(Recollection { asked, used, result })
    }
}
