//! What differs between BuildKit's image and ours: documents field by field, layers entry by entry, in order.
use std::collections::BTreeMap;

use serde_json::Value;

use super::image::{Archive, Image};
use super::tar::Entry;

/// Differences as text; empty if there are none. `since`: times from then on are those of the build and count as equal.
pub fn compare(theirs: &Archive, ours: &Archive, since: u64) -> Vec<String> {
    let mut faults = Vec::new();
    json("index.json", &blank_documents(&theirs.index), &blank_documents(&ours.index), &mut faults);
    let ((their_index, theirs), (our_index, ours)) = (theirs.images(), ours.images());
    match (&their_index, &our_index) {
        (Some(theirs), Some(ours)) => json("index", &blank_documents(theirs), &blank_documents(ours), &mut faults),
        (None, None) => {}
        _ => faults.push(format!("index: {} | {}", their_index.is_some(), our_index.is_some())),
    }
    for (theirs, ours) in theirs.iter().zip(&ours) {
        compare_images(theirs, ours, since, &mut faults);
    }
    faults
}

fn compare_images(theirs: &Image, ours: &Image, since: u64, faults: &mut Vec<String>) {
    json("manifest", &blank_documents(&theirs.manifest), &blank_documents(&ours.manifest), faults);
    json("config", &blank_config(&theirs.config), &blank_config(&ours.config), faults);
    let keys = |image: &Image| -> Vec<String> {
        image.config.as_object().into_iter().flatten().map(|(k, _)| k.clone()).collect()
    };
    if keys(theirs) != keys(ours) {
        faults.push(format!("config keys: {:?} | {:?}", keys(theirs), keys(ours)));
    }
    if theirs.layers.len() != ours.layers.len() {
        return;
    }
    for (number, (theirs, ours)) in theirs.layers.iter().zip(&ours.layers).enumerate() {
        if theirs.digest != ours.digest {
            let mut found = Vec::new();
            layers(&theirs.entries(), &ours.entries(), since, &mut found);
            faults.extend(found.into_iter().map(|fault| format!("layer {number}: {fault}")));
        }
    }
}

fn layers(theirs: &[Entry], ours: &[Entry], since: u64, faults: &mut Vec<String>) {
    let by_path = |entries: &[Entry]| -> BTreeMap<Vec<u8>, Entry> {
        entries.iter().map(|e| (e.path.clone(), e.clone())).collect()
    };
    let (their_map, our_map) = (by_path(theirs), by_path(ours));
    for (path, entry) in &their_map {
        match our_map.get(path) {
            None => faults.push(format!("only BuildKit: {}", line(entry))),
            Some(ours) => entry_faults(entry, ours, since, faults),
        }
    }
    for (path, entry) in &our_map {
        if !their_map.contains_key(path) {
            faults.push(format!("only rhost: {}", line(entry)));
        }
    }
    if faults.is_empty() {
        for (theirs, ours) in theirs.iter().zip(ours) {
            if theirs.path != ours.path {
                faults.push(format!("order: {} | {}", line(theirs), line(ours)));
                break;
            }
            if theirs.raw != ours.raw && !has_more(theirs, ours) {
                faults.push(format!("header bytes of {}", line(theirs)));
            }
        }
        if theirs.len() != ours.len() {
            faults.push(format!("{} entries | {}", theirs.len(), ours.len()));
        }
    }
}

/// Attributes that BuildKit leaves out of layers and rhost keeps: those that steps give to files.
fn kept_here_only(key: &str) -> bool {
    key.starts_with("SCHILY.xattr.user.")
}

fn has_more(theirs: &Entry, ours: &Entry) -> bool {
    ours.others.keys().any(|key| kept_here_only(key) && !theirs.others.contains_key(key))
}

fn entry_faults(theirs: &Entry, ours: &Entry, since: u64, faults: &mut Vec<String>) {
    let mut ours = ours.clone();
    ours.others.retain(|key, _| !kept_here_only(key) || theirs.others.contains_key(key));
    let (a, b) = (line(theirs), line(&ours));
    if a != b {
        faults.push(format!("{a}\n           rhost: {b}"));
    }
    let built =
        |entry: &Entry| entry.mtime.split('.').next().and_then(|s| s.parse().ok()).is_some_and(|s: u64| s >= since);
    // Where BuildKit's directory has the time of the build, ours may have kept an older one: mount points that were made and
    // removed again leave no trace, a context's top directory has a time.
    let equal = theirs.mtime == ours.mtime || (built(theirs) && (built(&ours) || ours.kind == '5'));
    if !equal {
        faults.push(format!("mtime of {}: {} | {}", path(&theirs.path), theirs.mtime, ours.mtime));
    }
}

fn path(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

fn line(entry: &Entry) -> String {
    let others: Vec<String> = entry.others.iter().map(|(k, v)| format!(" {k}={}", v.escape_ascii())).collect();
    let (user, group) = (path(&entry.names.0), path(&entry.names.1));
    format!(
        "{} {} {:o} {}:{} [{user}:{group}] size {} dev {:?} -> {}{} {}",
        entry.kind,
        path(&entry.path),
        entry.mode,
        entry.uid,
        entry.gid,
        entry.size,
        entry.device,
        path(&entry.link),
        others.concat(),
        &entry.content.to_string()[7..19],
    )
}

/// A manifest, index or index.json without what must differ: digests and sizes of what holds times.
fn blank_documents(document: &Value) -> Value {
    let mut document = document.clone();
    let blank = |descriptor: &mut Value| {
        for field in ["digest", "size"] {
            descriptor[field] = Value::Null;
        }
        if let Some(annotations) = descriptor.get_mut("annotations").and_then(Value::as_object_mut)
            && let Some(created) = annotations.get_mut("org.opencontainers.image.created")
        {
            *created = Value::Null;
        }
    };
    for list in ["manifests", "layers"] {
        document.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten().for_each(blank);
    }
    if let Some(config) = document.get_mut("config") {
        blank(config);
    }
    document
}

/// A config without the times of the build and the digests of its layers.
fn blank_config(config: &Value) -> Value {
    let mut config = config.clone();
    if config["created"].is_string() {
        config["created"] = "a time".into();
    }
    for entry in config.get_mut("history").and_then(Value::as_array_mut).into_iter().flatten() {
        if entry["created"].is_string() {
            entry["created"] = "a time".into();
        }
        // BuildKit names the image that it first pulled the layer for.
        if entry["created_by"].as_str().is_some_and(|by| by.starts_with("pulled from ")) {
            entry["created_by"] = "pulled from".into();
        }
    }
    for id in config["rootfs"]["diff_ids"].as_array_mut().into_iter().flatten() {
        *id = "a diff id".into();
    }
    config
}

fn json(at: &str, theirs: &Value, ours: &Value, faults: &mut Vec<String>) {
    match (theirs, ours) {
        (Value::Object(a), Value::Object(b)) => {
            for key in a.keys().chain(b.keys().filter(|k| !a.contains_key(*k))) {
                match (a.get(key), b.get(key)) {
                    (Some(a), Some(b)) => json(&format!("{at}.{key}"), a, b, faults),
                    (Some(a), None) => faults.push(format!("{at}.{key}: only BuildKit: {a}")),
                    (None, Some(b)) => faults.push(format!("{at}.{key}: only rhost: {b}")),
                    (None, None) => {}
                }
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (index, (a, b)) in a.iter().zip(b).enumerate() {
                json(&format!("{at}[{index}]"), a, b, faults);
            }
        }
        (a, b) if a != b => faults.push(format!("{at}:\n     BuildKit: {a}\n        rhost: {b}")),
        _ => {}
    }
}
