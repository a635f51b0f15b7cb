//! Which entries a person means by a name.
use super::file::{Entries, LockKey, LockKind};
use rhost_registry::Reference;

/// The forms of `key`'s name that people write.
fn forms(key: &LockKey) -> Vec<String> {
    let mut forms = vec![key.name.clone()];
    match key.kind {
        LockKind::Frontend | LockKind::Image => {
            if let Ok(reference) = key.name.parse::<Reference>() {
                let familiar = reference.familiar();
                forms
                    .extend(familiar.rsplit_once(':').map(|(name, _)| name.to_owned()).filter(|name| !name.is_empty()));
                forms.push(familiar);
                forms.push(reference.name());
            }
        }
        LockKind::Git => forms.extend(key.name.split_once('#').map(|(url, _)| url.to_owned())),
        LockKind::Http => {}
    }
    forms
}

/// The entries that `name` means: by their whole name, its short form, an image without its tag, a repository without its ref.
pub fn matching(entries: &Entries, name: &str) -> Vec<LockKey> {
    let name = name.trim_end_matches('/');
    let full = name.parse::<Reference>().ok().map(|reference| reference.tagged().to_string());
    let is = |key: &&LockKey| {
        let of_image = matches!(key.kind, LockKind::Frontend | LockKind::Image);
        (of_image && full.as_ref() == Some(&key.name))
            || forms(key).iter().any(|form| form.trim_end_matches('/') == name)
    };
    entries.keys().filter(is).cloned().collect()
}

/// How many characters differ (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let best = (diagonal + usize::from(x != *y)).min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = std::mem::replace(&mut row[j + 1], best);
        }
    }
    row[b.len()]
}

/// The entries whose names are most like `name`, three at most.
pub fn near(entries: &Entries, name: &str) -> Vec<String> {
    let name: String = name.chars().take(200).collect();
    let mut found: Vec<(usize, &LockKey)> = Vec::new();
    for key in entries.keys().filter(|key| key.name.len() <= 1024) {
        let forms = forms(key);
        let part = forms.iter().any(|form| form.contains(&name));
        let least = forms.iter().map(|form| distance(form, &name)).min().unwrap_or(usize::MAX);
        if part || least <= name.chars().count() / 2 {
            found.push((if part { 0 } else { least }, key));
        }
    }
    found.sort();
    found.into_iter().take(3).map(|(_, key)| key.name.clone()).collect()
}
