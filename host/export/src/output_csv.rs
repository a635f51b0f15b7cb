//! `-o` as text: one CSV record of `key=value` fields, quoted as CSV quotes (RFC 4180), as buildx reads it.

/// The fields of `text`: keys in lower case and trimmed, values as they are.
pub(crate) fn fields(text: &str) -> Result<Vec<(String, String)>, String> {
    record(text)?
        .into_iter()
        .map(|field| match field.split_once('=') {
            Some((key, value)) if !key.trim().is_empty() => Ok((lower_before_dot(key.trim()), value.to_owned())),
            _ => Err(format!("`{field}` is no KEY=VALUE")),
        })
        .collect()
}

/// Keys are in any case, but what follows the first dot of `annotation.KEY` is the user's.
fn lower_before_dot(key: &str) -> String {
    let end = key.find(['.', '[']).unwrap_or(key.len());
    key[..end].to_ascii_lowercase() + &key[end..]
}

/// The fields of one CSV record.
pub(crate) fn record(text: &str) -> Result<Vec<String>, String> {
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        if let Some(quoted) = rest.strip_prefix('"') {
            let mut field = String::new();
            let mut characters = quoted.char_indices();
            let after = loop {
                match characters.next() {
                    None => return Err("a quoted field has no closing `\"`".to_owned()),
                    Some((_, '"')) => match characters.clone().next() {
                        Some((_, '"')) => {
                            characters.next();
                            field.push('"');
                        }
                        Some((at, _)) => break &quoted[at..],
                        None => break "",
                    },
                    Some((_, other)) => field.push(other),
                }
            };
            fields.push(field);
            match after.strip_prefix(',') {
                Some(next) => rest = next,
                None if after.is_empty() => return Ok(fields),
                None => {
                    return Err(
                        "after a closing `\"` comes `,` or the end; write `\"` inside of a field twice".to_owned()
                    );
                }
            }
        } else {
            let (field, next) = match rest.split_once(',') {
                Some((field, next)) => (field, Some(next)),
                None => (rest, None),
            };
            if field.contains('"') {
                return Err(format!("`{field}` has a `\"` inside; quote the whole field, as in `\"name=a,b\"`"));
            }
            fields.push(field.to_owned());
            match next {
                Some(next) => rest = next,
                None => return Ok(fields),
            }
        }
    }
}

/// The one of `known` that `word` was probably meant to be: at most two edits away, fewer than half of it.
pub(crate) fn suggestion<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let best = known.iter().map(|candidate| (distance(word, candidate), *candidate)).min()?;
    (best.0 <= 2 && best.0 * 2 < word.chars().count().max(3)).then_some(best.1)
}

/// Levenshtein's distance, of the first 64 characters.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, l) in left.chars().take(64).enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, r) in right.iter().enumerate() {
            let cost = diagonal + usize::from(l != *r);
            let edited = cost.min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = std::mem::replace(&mut row[j + 1], edited);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_records() {
        assert_eq!(record("a=b,c").unwrap(), ["a=b", "c"]);
        assert_eq!(record(r#""name=a,b",type=oci"#).unwrap(), ["name=a,b", "type=oci"]);
        assert_eq!(record(r#"x,"a ""q"" b""#).unwrap(), ["x", "a \"q\" b"]);
        assert_eq!(record("a,").unwrap(), ["a", ""]);
        for bad in [r#"name="a,b""#, r#""a"#, r#""a"b"#] {
            assert!(record(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn suggests_what_is_near() {
        let known = ["compression", "dest", "name", "tar"];
        assert_eq!(suggestion("compresion", &known), Some("compression"));
        assert_eq!(suggestion("dst", &known), Some("dest"));
        assert_eq!(suggestion("foo", &known), None);
    }
}
