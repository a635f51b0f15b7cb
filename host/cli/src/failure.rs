//! How errors look: what was wanted and found, the place in the build file with its lines, and the way out.
use rhost_engine::{BuildError, Kind, Place, redact};

/// Somebody asked to stop.
pub fn interrupted((name, number): (&str, u8)) -> BuildError {
    let message = format!("interrupted by {name}; the store keeps what was finished");
    BuildError::new(Kind::Interrupted(number), message)
}

/// Prints `error` to stderr.
pub fn print(error: &BuildError) {
    if let Some(place) = &error.place {
        eprint!("{}", snippet(place));
    }
    eprintln!("ERROR: {error}");
    for hint in &error.hints {
        eprintln!("  hint: {hint}");
    }
}

/// The lines of `place` with two around them, the guilty ones marked.
fn snippet(place: &Place) -> String {
    let (first, last) = (place.first_line.max(1) as usize, place.last_line.max(place.first_line).max(1) as usize);
    let mut text = format!("{}:{first}\n--------------------\n", place.file);
    for (index, line) in place.text.lines().enumerate() {
        let number = index + 1;
        if number + 2 < first || number > last + 2 {
            continue;
        }
        let mark = if (first..=last).contains(&number) { ">>>" } else { "   " };
        text.push_str(&format!("{number:4} | {mark} {}\n", redact(line)));
    }
    text.push_str("--------------------\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snippet_marks_the_guilty_lines_and_shows_two_around() {
        let text = (1..=9).map(|n| format!("line {n}\n")).collect();
        let place = Place { file: "Dockerfile".into(), first_line: 4, last_line: 5, text };
        let found = snippet(&place);
        assert!(found.starts_with("Dockerfile:4\n"), "{found}");
        assert!(found.contains("   4 | >>> line 4\n   5 | >>> line 5\n   6 |     line 6\n"), "{found}");
        assert!(found.contains("line 2") && found.contains("line 7"), "{found}");
        assert!(!found.contains("line 1\n") && !found.contains("line 8"), "{found}");
    }
}
