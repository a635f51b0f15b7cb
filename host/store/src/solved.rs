//! `SolvedTarget`: what is kept of a whole target's solve ([`rhost_solver::Recollection`]), and its bytes.
use rhost_llb::{Digest, VertexDigest};
use rhost_solver::{Asked, Recollection};

use crate::SnapshotId;

/// One target that was solved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SolvedTarget {
    /// When its results were last noted as used, in Unix seconds.
    pub(crate) touched: i64,
    /// The result as its codec wrote it: it must still be this one.
    pub(crate) value: Vec<u8>,
    /// The results of all vertices below.
    pub(crate) snapshots: Vec<SnapshotId>,
    /// The rest; `used` is empty, since `snapshots` stand for it.
    pub(crate) found: Recollection,
}

impl SolvedTarget {
    /// Little endian: touched, result, then with its count each: the codec's name, the value, what was asked (67 bytes each), the snapshots.
    pub(crate) fn bytes(&self, kind: &str) -> Vec<u8> {
        let mut out = self.touched.to_le_bytes().to_vec();
        out.extend(self.found.result.as_raw());
        let count = |out: &mut Vec<u8>, count: usize| out.extend((count as u32).to_le_bytes());
        for part in [kind.as_bytes(), &self.value] {
            count(&mut out, part.len());
            out.extend(part);
        }
        count(&mut out, self.found.asked.len());
        for asked in &self.found.asked {
            let (input, vertex, key) = match asked {
                Asked::Source { vertex, key } => (u32::MAX, vertex, key),
                Asked::Content { vertex, input, key } => (*input, vertex, key),
            };
            out.extend(input.to_le_bytes());
            out.extend(vertex.0.as_raw());
            out.extend(key.as_raw());
        }
        count(&mut out, self.snapshots.len());
        self.snapshots.iter().for_each(|id| out.extend(id.0.to_le_bytes()));
        out
    }

    /// `None` for what another version, or another codec, has written.
    pub(crate) fn read(kind: &str, mut bytes: &[u8]) -> Option<Self> {
        let bytes = &mut bytes;
        let touched = i64::from_le_bytes(take(bytes)?);
        let result = Digest::from_raw(take(bytes)?);
        (part(bytes)? == kind.as_bytes()).then_some(())?;
        let value = part(bytes)?.to_vec();
        let mut asked = Vec::new();
        for _ in 0..u32::from_le_bytes(take(bytes)?) {
            let input = u32::from_le_bytes(take(bytes)?);
            let (vertex, key) = (VertexDigest(Digest::from_raw(take(bytes)?)), Digest::from_raw(take(bytes)?));
            asked.push(match input {
                u32::MAX => Asked::Source { vertex, key },
                input => Asked::Content { vertex, input, key },
            });
        }
        let mut snapshots = Vec::new();
        for _ in 0..u32::from_le_bytes(take(bytes)?) {
            snapshots.push(SnapshotId(i64::from_le_bytes(take(bytes)?)));
        }
        let found = Recollection { asked, used: Vec::new(), result };
        bytes.is_empty().then_some(Self { touched, value, snapshots, found })
    }
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*head)
}

fn part<'b>(bytes: &mut &'b [u8]) -> Option<&'b [u8]> {
    let length = u32::from_le_bytes(take(bytes)?) as usize;
    let (head, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_as_written_and_nothing_else_is() {
        let digest = |text: &str| Digest::of(text);
        let asked = vec![
            Asked::Source { vertex: VertexDigest(digest("a")), key: digest("b") },
            Asked::Content { vertex: VertexDigest(digest("c")), input: 3, key: digest("d") },
        ];
        let found = Recollection { asked, used: Vec::new(), result: digest("e") };
        let solved =
            SolvedTarget { touched: 7, value: vec![1, 2], snapshots: vec![SnapshotId(9), SnapshotId(1)], found };
        let bytes = solved.bytes("kind");
        assert_eq!(SolvedTarget::read("kind", &bytes), Some(solved));
        assert_eq!(SolvedTarget::read("other", &bytes), None);
        for length in 0..bytes.len() {
            assert_eq!(SolvedTarget::read("kind", &bytes[..length]), None, "{length} bytes");
        }
        assert_eq!(SolvedTarget::read("kind", &[bytes.as_slice(), &[0]].concat()), None);
    }
}
