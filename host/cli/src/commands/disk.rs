//! `rhost du` and `rhost prune`: what the store holds, and making room.
use std::io::Write;

use rhost_engine::{BuildError, Engine, Filter, Kind, PruneOptions, Pruned, Space, SpaceLimits, UsageRecord, human};

use crate::arguments::{DuArguments, PruneArguments};

fn failed(error: impl std::fmt::Display) -> BuildError {
    BuildError::new(Kind::Store, format!("stdout: {error}"))
}

fn filters(texts: &[String]) -> Result<Vec<Filter>, BuildError> {
    let read =
        |text: &String| text.parse().map_err(|error| BuildError::new(Kind::Request, format!("--filter: {error}")));
    texts.iter().map(read).collect()
}

pub(super) fn time(seconds: i64) -> String {
    if seconds == 0 {
        return String::new();
    }
    jiff::Timestamp::from_second(seconds).map(|time| time.to_string()).unwrap_or_default()
}

fn json(record: &UsageRecord) -> serde_json::Value {
    serde_json::json!({
        "id": record.id, "type": record.kind.to_string(), "size": record.size, "shared": record.shared,
        "inUse": record.in_use, "createdAt": time(record.created), "lastUsedAt": time(record.last_used),
        "usageCount": record.uses, "description": record.description, "parents": record.parents,
    })
}

/// A blob's digest is long; twelve digits tell it apart for people.
fn short(record: &UsageRecord) -> &str {
    record.id.strip_prefix("sha256:").and_then(|hex| hex.get(..12)).unwrap_or(&record.id)
}

fn row(record: &UsageRecord) -> String {
    let id = short(record);
    let id = id.get(..16).unwrap_or(id);
    let flags = match (record.in_use, record.shared) {
        (true, true) => "in use, shared",
        (true, false) => "in use",
        (false, true) => "shared",
        (false, false) => "",
    };
    let (size, used) = (human(record.size), time(record.last_used));
    format!("{id:16}  {:15}  {size:>9}  {used:20}  {flags:14}  {}", record.kind, record.description)
}

/// Shows what the store holds.
///
/// # Errors
/// The store cannot be read; a filter is none.
pub fn usage(engine: &Engine, arguments: &DuArguments) -> Result<(), BuildError> {
    let filters = filters(&arguments.filter)?;
    let mut records = engine.disk_usage()?;
    records.retain(|record| filters.is_empty() || filters.iter().any(|filter| filter.fits(record)));
    records.sort_by_key(|record| std::cmp::Reverse((record.last_used, record.size)));
    let mut out = std::io::stdout().lock();
    let sum = |keep: &dyn Fn(&UsageRecord) -> bool| records.iter().filter(|r| keep(r)).map(|r| r.size).sum::<u64>();
    let (total, reclaimable, shared) = (sum(&|_| true), sum(&|r| !r.in_use), sum(&|r| r.shared));
    if arguments.json {
        for record in &records {
            writeln!(out, "{}", json(record)).map_err(failed)?;
        }
        return Ok(());
    }
    writeln!(out, "{:16}  {:15}  {:>9}  {:20}  {:14}  DESCRIPTION", "ID", "TYPE", "SIZE", "LAST USED", "")
        .map_err(failed)?;
    for record in &records {
        writeln!(out, "{}", row(record).trim_end()).map_err(failed)?;
    }
    writeln!(
        out,
        "Shared:       {}\nPrivate:      {}\nReclaimable:  {}\nTotal:        {}",
        human(shared),
        human(total - shared),
        human(reclaimable),
        human(total)
    )
    .map_err(failed)
}

/// Makes room.
///
/// # Errors
/// The store; an amount, a duration or a filter that is none.
pub fn prune(engine: &Engine, arguments: &PruneArguments) -> Result<(), BuildError> {
    let disk = engine.disk_size()?;
    let bytes = |space: Option<Space>| space.map_or(0, |space| space.bytes(disk));
    let options = PruneOptions {
        all: arguments.all,
        filters: filters(&arguments.filter)?,
        keep: arguments.keep_duration,
        limits: SpaceLimits {
            max_used: bytes(arguments.max_used_space),
            min_free: bytes(arguments.min_free_space),
            reserved: bytes(arguments.reserved_space),
        },
        dry_run: arguments.dry_run,
    };
    let mut out = std::io::stdout().lock();
    let mut wrote = Ok(());
    let freed = engine.prune(&options, &mut |Pruned { record, reason }| {
        let line = if arguments.json {
            let mut value = json(&record);
            value["reason"] = reason.into();
            value.to_string()
        } else {
            format!(
                "{:16}  {:15}  {:>9}  {}: {reason}",
                short(&record),
                record.kind,
                human(record.size),
                record.description
            )
        };
        if wrote.is_ok() {
            wrote = writeln!(out, "{line}");
        }
    })?;
    wrote.map_err(failed)?;
    if arguments.json {
        return Ok(());
    }
    let verb = if arguments.dry_run { "Would free" } else { "Freed" };
    writeln!(out, "{verb}: {}", human(freed)).map_err(failed)
}
