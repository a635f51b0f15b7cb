//! The image config: what the frontend said, with the layers, history and times that only the end of a build knows.
//!
//! The frontend's JSON is kept as it is, unknown fields too, its keys sorted on the outermost level as BuildKit does (spec
//! E). History may name fewer layers than there are (results that no instruction made) or more (a broken base image);
//! both are evened out, so that one entry without `empty_layer` stands for each layer.
use std::collections::BTreeMap;

use jiff::Timestamp;
use rhost_llb::{DiffId, Platform};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::ExportError;
use crate::json;

/// What is known of a layer beyond its bytes, for history entries that the frontend left open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LayerMeta {
    /// When the layer was made.
    pub created: Option<Timestamp>,
    /// What made it, for people: the vertex's name.
    pub description: String,
}

/// An entry of `history` in the order of Go's type (OCI image-spec, config.md).
#[derive(Clone, Debug, Serialize, Deserialize)]
struct History {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    created: Option<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    created_by: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    author: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    comment: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    empty_layer: bool,
}

/// The config of an image for `platform` whose maker said nothing of it, as BuildKit's exporter has it.
pub fn default_config(platform: &Platform) -> Vec<u8> {
    const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let mut config = serde_json::json!({
        "architecture": platform.architecture,
        "os": platform.os,
        "config": {"WorkingDir": "/"},
    });
    if platform.os != "windows" {
        config["config"]["Env"] = serde_json::json!([PATH]);
    }
    if !platform.variant.is_empty() {
        config["variant"] = platform.variant.as_str().into();
    }
    config.to_string().into_bytes()
}

/// Completes `config`, the frontend's image config, to the bytes of the config blob.
///
/// `layers` has an entry for each of `diff_ids`. The first `base_history` history entries are the base image's: `epoch`
/// (SOURCE_DATE_EPOCH) clamps only those after them, and the config's own `created`.
pub fn finish_config(
    platform: &Platform,
    config: &[u8],
    diff_ids: &[DiffId],
    layers: &[LayerMeta],
    base_history: usize,
    epoch: Option<Timestamp>,
) -> Result<Vec<u8>, ExportError> {
    let bad = |reason: String| ExportError::BadConfig { platform: Box::new(platform.clone()), reason };
    let bad_time =
        |field, text: &str| ExportError::BadTime { platform: Box::new(platform.clone()), field, text: text.to_owned() };
    let mut fields: BTreeMap<String, Value> = serde_json::from_slice(config).map_err(|e| bad(e.to_string()))?;
    for field in ["architecture", "os"] {
        match fields.get(field) {
            Some(Value::String(text)) if !text.is_empty() => {}
            _ => return Err(bad(format!("`{field}` is missing or no string"))),
        }
    }
    let mut history: Vec<History> = match fields.remove("history") {
        None | Some(Value::Null) => Vec::new(),
        Some(history) => serde_json::from_value(history).map_err(|e| bad(format!("`history`: {e}")))?,
    };
    for entry in &mut history {
        if let Some(text) = &entry.created {
            entry.created = Some(normal_time(text).ok_or_else(|| bad_time("history.created", text))?);
        }
    }
    account_for_layers(&mut history, diff_ids.len(), layers);
    fill_times(&mut history, layers);

    let mut created = match fields.remove("created") {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => Some(normal_time(&text).ok_or_else(|| bad_time("created", &text))?),
        Some(other) => return Err(bad_time("created", &other.to_string())),
    };
    if let Some(epoch) = epoch {
        for entry in history.iter_mut().skip(base_history) {
            clamp(&mut entry.created, epoch);
        }
        if created.is_some() {
            clamp(&mut created, epoch);
        }
    }
    let created = created.or_else(|| history.iter().rev().find_map(|entry| entry.created.clone()));

    // As BuildKit: lists of nothing are `null`.
    let some = |list: Vec<Value>| if list.is_empty() { Value::Null } else { Value::Array(list) };
    let diff_ids = some(diff_ids.iter().map(|id| id.to_string().into()).collect());
    let history = history.iter().map(serde_json::to_value).collect::<Result<_, _>>().map_err(|e| bad(e.to_string()))?;
    fields.insert("created".to_owned(), created.map_or(Value::Null, Value::String));
    fields.insert("history".to_owned(), some(history));
    fields.insert("rootfs".to_owned(), serde_json::json!({"type": "layers", "diff_ids": diff_ids}));
    // An inline cache that came with a base image speaks of other layers (spec D, inline).
    fields.remove("moby.buildkit.cache.v0");
    json::compact(&fields).map_err(|e| bad(e.to_string()))
}

/// Evens out the number of history entries that claim a layer and the number of layers.
fn account_for_layers(history: &mut Vec<History>, layer_count: usize, layers: &[LayerMeta]) {
    let mut claimed = 0;
    for entry in history.iter_mut().filter(|entry| !entry.empty_layer) {
        if claimed == layer_count {
            entry.empty_layer = true;
        } else {
            claimed += 1;
        }
    }
    for index in claimed..layer_count {
        let meta = layers.get(index).cloned().unwrap_or_default();
        history.push(History {
            created: meta.created.map(|time| time.to_string()),
            created_by: meta.description,
            author: String::new(),
            comment: "buildkit.exporter.image.v0".to_owned(),
            empty_layer: false,
        });
    }
}

/// Gives every entry a time: a layer its own; an entry without layer that of the last timed entry before it, and where
/// nothing new came before it, that of the first new layer after it rather than a base layer's.
fn fill_times(history: &mut [History], layers: &[LayerMeta]) {
    let mut metas = layers.iter();
    for entry in history.iter_mut().filter(|entry| !entry.empty_layer) {
        let made = metas.next().and_then(|meta| meta.created);
        if entry.created.is_none() {
            entry.created = made.map(|time| time.to_string());
        }
    }
    let first_open = history.iter().position(|entry| entry.created.is_none()).unwrap_or(history.len());
    let after = history[first_open..].iter().find_map(|entry| entry.created.clone());
    let mut time = after.or_else(|| history[..first_open].last().and_then(|entry| entry.created.clone()));
    for entry in &mut history[first_open..] {
        match &entry.created {
            Some(own) => time = Some(own.clone()),
            None => entry.created.clone_from(&time),
        }
    }
}

fn clamp(created: &mut Option<String>, epoch: Timestamp) {
    let late = created.as_ref().is_none_or(|text| text.parse::<Timestamp>().is_ok_and(|time| time > epoch));
    if late {
        *created = Some(epoch.to_string());
    }
}

/// `text` as Go prints the time it holds: no trailing zeros in the fraction, `Z` for UTC, other offsets kept.
fn normal_time(text: &str) -> Option<String> {
    text.parse::<Timestamp>().ok()?;
    let zone_at = match text.as_bytes().last() {
        Some(b'Z') => text.len() - 1,
        // `+01:00`; what else the parser takes is printed in UTC.
        _ if text.is_ascii() && text.len() > 19 && text[19..].contains(['+', '-']) => {
            19 + text[19..].find(['+', '-'])?
        }
        _ => return text.parse::<Timestamp>().ok().map(|time| time.to_string()),
    };
    let (time, zone) = text.split_at(zone_at);
    let time = if time.contains('.') { time.trim_end_matches('0').trim_end_matches('.') } else { time };
    let zone = if zone == "+00:00" { "Z" } else { zone };
    Some(format!("{time}{zone}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_times_as_go_does() {
        for (text, wanted) in [
            ("2024-01-31T12:00:00Z", "2024-01-31T12:00:00Z"),
            ("2024-01-31T12:00:00.500000000Z", "2024-01-31T12:00:00.5Z"),
            ("2024-01-31T12:00:10.000Z", "2024-01-31T12:00:10Z"),
            ("2024-01-31T12:00:00.10+01:00", "2024-01-31T12:00:00.1+01:00"),
            ("2024-01-31T12:00:00+00:00", "2024-01-31T12:00:00Z"),
            ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
        ] {
            assert_eq!(normal_time(text).as_deref(), Some(wanted));
        }
        assert_eq!(normal_time("yesterday"), None);
        assert_eq!(normal_time(""), None);
    }
}
