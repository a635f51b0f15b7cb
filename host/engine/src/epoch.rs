//! SOURCE_DATE_EPOCH: which time it is for which platform, and which layers `rewrite-timestamp=true` makes anew for it. BuildKit's rules: an output's own
//! option goes before all, then what is said for all platforms, then a platform's own (the date of a stage, say); layers that came with the base
//! image stay as they are, from the first that did not every layer is rewritten.
use std::collections::BTreeMap;

use rhost_llb::{DiffId, Platform};
use rhost_store::{SnapshotId, Store};

use crate::op_error::OpFailure;

/// Kind of the facts: which layer another one is when no file of it is later than an epoch.
const REWRITTEN: &str = "rewritten-layer";

/// Result metadata that has an epoch; with `/PLATFORM` behind it, for one platform.
const KEY: &str = "source.date.epoch";

/// The epochs of one build, in seconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Epochs {
    general: Option<i64>,
    platforms: BTreeMap<String, i64>,
}

impl Epochs {
    /// Of the build argument; the frontend says what values mean that are no number: the date of a context or a stage.
    pub fn of_argument(value: Option<&String>) -> Self {
        Self { general: value.and_then(|text| text.parse().ok()), platforms: BTreeMap::new() }
    }

    /// With what the frontend says.
    pub fn read(&mut self, metadata: &BTreeMap<String, Vec<u8>>) {
        for (key, value) in metadata {
            let Some(seconds) = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()) else { continue };
            match key.strip_prefix(KEY) {
                Some("") => self.general = Some(seconds),
                Some(platform) => {
                    let platform = platform.trim_start_matches('/').to_owned();
                    self.platforms.insert(platform, seconds);
                }
                None => {}
            }
        }
    }

    /// For an output that says `said` itself, what holds for all platforms.
    pub fn of_all(&self, said: Option<Option<i64>>) -> Option<i64> {
        said.unwrap_or(self.general)
    }

    /// The same for `platform`.
    pub fn of(&self, said: Option<Option<i64>>, platform: &Platform) -> Option<i64> {
        match said {
            Some(said) => said,
            None => self.general.or_else(|| self.platforms.get(&platform.to_string()).copied()),
        }
    }
}

/// The layers of the image whose config is `config`; none for what is no config.
pub fn layers_of(config: &[u8]) -> Vec<DiffId> {
    let config: Option<serde_json::Value> = serde_json::from_slice(config).ok();
    let ids = config.as_ref().and_then(|config| config.get("rootfs")?.get("diff_ids")?.as_array());
    ids.into_iter().flatten().map_while(|id| id.as_str()?.parse().ok()).collect()
}

/// How many of `layers`, from the base up, are those of the image whose layers are `base`.
pub fn kept(layers: impl Iterator<Item = Option<DiffId>>, base: &[DiffId]) -> usize {
    layers.zip(base).take_while(|(layer, base)| layer.as_ref() == Some(base)).count()
}

/// What the layer of `id` was for `epoch` when it was last rewritten.
pub fn rewritten(store: &Store, id: SnapshotId, epoch: i64) -> Result<Option<DiffId>, OpFailure> {
    let found = store.fact(REWRITTEN, key(id, epoch).as_bytes())?;
    Ok(found.and_then(|text| String::from_utf8(text).ok()?.parse().ok()))
}

/// Remembers that.
pub fn remember(store: &Store, id: SnapshotId, epoch: i64, diff_id: DiffId) -> Result<(), OpFailure> {
    Ok(store.set_fact(REWRITTEN, key(id, epoch).as_bytes(), diff_id.to_string().as_bytes())?)
}

fn key(id: SnapshotId, epoch: i64) -> String {
    format!("{id} {epoch}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_epoch_counts() {
        let (amd64, arm64) = (Platform::new("linux", "amd64", ""), Platform::new("linux", "arm64", ""));
        let mut epochs = Epochs::of_argument(Some(&"context".to_owned()));
        assert_eq!(epochs, Epochs::default(), "no number: the frontend says what it is");
        epochs.read(&BTreeMap::from([("source.date.epoch/linux/arm64".to_owned(), b"7".to_vec())]));
        assert_eq!((epochs.of(None, &amd64), epochs.of(None, &arm64), epochs.of_all(None)), (None, Some(7), None));
        epochs.read(&BTreeMap::from([("source.date.epoch".to_owned(), b"5".to_vec())]));
        assert_eq!((epochs.of(None, &arm64), epochs.of_all(None)), (Some(5), Some(5)));
        assert_eq!((epochs.of(Some(Some(9)), &arm64), epochs.of(Some(None), &arm64)), (Some(9), None));
    }

    #[test]
    fn layers_stay_as_far_as_they_are_the_bases() {
        let ids: Vec<DiffId> = ["a", "b", "c"].map(|text| DiffId(rhost_llb::Digest::of(text))).to_vec();
        let config = format!(r#"{{"rootfs":{{"diff_ids":["{}","{}"]}}}}"#, ids[0], ids[1]);
        let base = layers_of(config.as_bytes());
        assert_eq!(base, ids[..2]);
        assert_eq!(kept(ids.iter().copied().map(Some), &base), 2);
        assert_eq!(kept([Some(ids[0]), None, Some(ids[1])].into_iter(), &base), 1);
        assert_eq!(kept(ids.iter().copied().map(Some), &layers_of(b"no config")), 0);
    }
}
