//! Disk under control: `du`, `prune`, and the automatic collection that keeps the store below its limit.
use std::time::Duration;

use rhost_store::{PruneOptions, Pruned, SpaceLimits, Store, UsageRecord};
use serde::Deserialize;

use crate::blame;
use crate::engine::{Engine, SNAPSHOTS, snapshot_in};
use crate::error::BuildError;
use crate::event::{Event, Events};

/// `[gc]` of the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct GcSettings {
    /// Whether the store is collected after builds; true when absent.
    pub enabled: Option<bool>,
    /// What the store takes at most.
    pub max_used_space: Option<Space>,
    /// What is to be left free on its disk.
    pub min_free_space: Option<Space>,
    /// What the store keeps, however little is free.
    pub reserved_space: Option<Space>,
}

/// An amount of disk: bytes, or a part of the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Space {
    /// So many bytes.
    Bytes(u64),
    /// So many percent of the disk.
    Percent(u8),
}

impl std::str::FromStr for Space {
    type Err = String;

    /// `10GB`, `512MiB`, `1.5g`, `123`, `10%`. Powers of a thousand, with an `i` of 1024.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no amount of space; wanted as in 10GB, 512MiB or 10%");
        let digits = text.trim().trim_end_matches(|c: char| !c.is_ascii_digit() && c != '.');
        let unit = text.trim()[digits.len()..].trim().to_ascii_lowercase();
        if unit == "%" {
            let percent = digits.parse::<u8>().ok().filter(|percent| *percent <= 100);
            return percent.map(Self::Percent).ok_or_else(wrong);
        }
        let (base, unit) = match unit.strip_suffix("ib").or(unit.strip_suffix('i')) {
            Some(unit) => (1024f64, unit),
            None => (1000f64, unit.strip_suffix('b').unwrap_or(&unit)),
        };
        let power = ["", "k", "m", "g", "t", "p"].iter().position(|known| *known == unit).ok_or_else(wrong)?;
        let value: f64 = digits.parse().map_err(|_| wrong())?;
        let bytes = value * base.powi(power as i32);
        if (0.0..u64::MAX as f64).contains(&bytes) { Ok(Self::Bytes(bytes as u64)) } else { Err(wrong()) }
    }
}

impl<'de> Deserialize<'de> for Space {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Raw {
            Number(u64),
            Text(String),
        }
        match Raw::deserialize(deserializer)? {
            Raw::Number(bytes) => Ok(Self::Bytes(bytes)),
            Raw::Text(text) => text.parse().map_err(serde::de::Error::custom),
        }
    }
}

impl Space {
    /// In bytes, of a disk of `disk` bytes.
    pub fn bytes(self, disk: u64) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Percent(percent) => disk / 100 * u64::from(percent),
        }
    }
}

/// `48h`, `7d`, `1h30m`, `90`: seconds where no unit is said.
///
/// # Errors
/// What is wrong with it.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no duration; wanted as in 48h, 7d or 1h30m");
    if let Ok(seconds) = text.trim().parse() {
        return Ok(Duration::from_secs(seconds));
    }
    let (mut sum, mut number) = (0u64, String::new());
    for c in text.trim().chars() {
        if c.is_ascii_digit() {
            number.push(c);
            continue;
        }
        let unit = match c {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 86_400,
            'w' => 604_800,
            _ => return Err(wrong()),
        };
        let value: u64 = number.parse().map_err(|_| wrong())?;
        sum = value.checked_mul(unit).and_then(|part| sum.checked_add(part)).ok_or_else(wrong)?;
        number.clear();
    }
    if number.is_empty() && sum > 0 { Ok(Duration::from_secs(sum)) } else { Err(wrong()) }
}

impl GcSettings {
    fn limits(&self, disk: u64) -> SpaceLimits {
        let standard = SpaceLimits::standard(disk);
        let of = |wanted: Option<Space>, otherwise: u64| wanted.map_or(otherwise, |space| space.bytes(disk));
        SpaceLimits {
            max_used: of(self.max_used_space, standard.max_used),
            min_free: of(self.min_free_space, standard.min_free),
            reserved: of(self.reserved_space, standard.reserved),
        }
    }
}

fn store_error(error: rhost_store::Error) -> BuildError {
    blame::store(&error)
}

impl Engine {
    /// What the store holds.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn disk_usage(&self) -> Result<Vec<UsageRecord>, BuildError> {
        self.store().disk_usage().map_err(store_error)
    }

    /// Bytes of the disk that holds the store.
    ///
    /// # Errors
    /// The disk.
    pub fn disk_size(&self) -> Result<u64, BuildError> {
        Ok(self.store().disk().map_err(store_error)?.0)
    }

    /// Removes what `options` say; `told` hears of each. Answers the bytes freed.
    ///
    /// # Errors
    /// The store.
    pub fn prune(&self, options: &PruneOptions, told: &mut dyn FnMut(Pruned)) -> Result<u64, BuildError> {
        prune(self.store(), options, told).map_err(store_error)
    }

    /// `error`, with a word about the disk where that is full: a step only hears that its own write failed.
    pub(crate) fn with_full_disk(&self, mut error: BuildError, outputs: &[String]) -> BuildError {
        const LITTLE: u64 = 4 << 20;
        if error.hints.is_empty() && !outputs.is_empty() && error.message.contains("No space left on device") {
            let (outputs, store) = (outputs.join("`, `"), self.store().root().display());
            error.hints.push(format!(
                "an output (`{outputs}`) or the store `{store}` is on a full file system: free some space; `rhost prune` removes what no build uses"
            ));
        } else if error.hints.is_empty() && self.store().disk().is_ok_and(|(_, free)| free < LITTLE) {
            error.hints.push(blame::make_room(self.store()));
        }
        error
    }

    /// Brings the store below its limit, if it is above. What goes wrong is told and fails nothing.
    pub(crate) fn collect(&self, events: &Events) {
        let settings = self.settings().gc.clone();
        if settings.enabled == Some(false) {
            return;
        }
        let work = || {
            let limits = settings.limits(self.store().disk()?.0);
            if !self.store().is_above(&limits)? {
                return Ok((0, 0));
            }
            let mut count = 0;
            let options = PruneOptions { all: true, limits, ..PruneOptions::default() };
            let freed = prune(self.store(), &options, &mut |_| count += 1)?;
            Ok::<_, rhost_store::Error>((count, freed))
        };
        let message = match work() {
            Ok((0, _)) => return,
            Ok((count, freed)) => {
                format!(
                    "the store was above its limit: {count} unused records removed, {} freed",
                    rhost_store::human(freed)
                )
            }
            Err(error) => format!("the store could not be brought below its limit: {error}"),
        };
        events.send(Event::Warning { vertex: None, message: message.into() });
    }
}

fn prune(store: &Store, options: &PruneOptions, told: &mut dyn FnMut(Pruned)) -> rhost_store::Result<u64> {
    let freed = store.prune(options, told)?;
    if !options.dry_run {
        let there = store.snapshot_ids()?;
        store.forget_results(SNAPSHOTS, |bytes| snapshot_in(bytes).is_none_or(|id| !there.contains(&id)))?;
    }
    Ok(freed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_and_durations_are_read_as_docker_writes_them() {
        for (text, wanted) in
            [("123", 123), ("10GB", 10_000_000_000), ("512MiB", 512 << 20), ("1.5k", 1500), ("2gi", 2 << 30), ("0", 0)]
        {
            assert_eq!(text.parse::<Space>(), Ok(Space::Bytes(wanted)), "{text}");
        }
        assert_eq!("10%".parse::<Space>().map(|space| space.bytes(1000)), Ok(100));
        for text in ["", "GB", "ten", "101%", "-1", "1xb"] {
            assert!(text.parse::<Space>().is_err(), "{text}");
        }
        for (text, wanted) in [("90", 90), ("48h", 172_800), ("1h30m", 5400), ("7d", 604_800)] {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs(wanted)), "{text}");
        }
        for text in ["", "h", "1y", "5m3"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_not_said_is_the_standard() {
        let settings = crate::Settings::parse("[gc]\nmaxUsedSpace = \"5GB\"\nminFreeSpace = 0\n").expect("valid").gc;
        let limits = settings.limits(1000);
        assert_eq!((limits.max_used, limits.min_free, limits.reserved), (5_000_000_000, 0, 100));
        assert!(crate::Settings::parse("[gc]\nmaxUsedSpac = 1\n").is_err());
    }
}
