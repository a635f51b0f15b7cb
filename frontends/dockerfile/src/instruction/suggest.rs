//! "Did you mean": the known word within two edits of what was written.

use crate::text;

/// Letters count: for flags and mount options.
pub(crate) fn exact(written: &str, known: &[&str]) -> Option<String> {
    nearest(written, known.iter().copied())
}

/// Case does not count; the answer takes the case of what was written.
pub(crate) fn any_case(written: &str, known: &[&str]) -> Option<String> {
    let lower = text::lower(written);
    let found = nearest(&lower, known.iter().copied())?;
    Some(if written == lower { found } else { found.to_ascii_uppercase() })
}

fn nearest<'k>(written: &str, known: impl Iterator<Item = &'k str>) -> Option<String> {
    // Words far longer than any known one cannot be near; do not spend time on them.
    if written.chars().count() > 40 {
        return None;
    }
    let (distance, found) = known.map(|k| (edits(written, k), k)).min_by_key(|(distance, _)| *distance)?;
    (1..=2).contains(&distance).then(|| found.into())
}

/// Levenshtein distance.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, cb) in b.iter().enumerate() {
            let cost = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = cost.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (a, b, n) in
            [("", "", 0), ("abc", "", 3), ("from", "form", 2), ("copy", "cpy", 1), ("kitten", "sitting", 3)]
        {
            assert_eq!((edits(a, b), edits(b, a)), (n, n), "{a} {b}");
        }
    }

    #[test]
    fn suggestions() {
        assert_eq!(any_case("FORM", &["run", "from"]).as_deref(), Some("FROM"));
        assert_eq!(any_case("cpy", &["run", "copy"]).as_deref(), Some("copy"));
        assert_eq!(any_case("frobnicate", &["run", "copy"]), None);
        assert_eq!(exact("chwon", &["chown", "chmod"]).as_deref(), Some("chown"));
        assert_eq!(exact("chown", &["chown"]), None);
        assert_eq!(exact(&"x".repeat(100_000), &["chown"]), None);
    }
}
