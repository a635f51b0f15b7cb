//! A unified diff of two texts, for people: the shortest edit by lines (Myers' algorithm), with three lines around each change.

/// Lines around a change.
const AROUND: usize = 3;
/// Texts that differ in more lines than this are shown as a whole, removed and added.
const MOST_EDITS: usize = 4_000;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Edit {
    Keep,
    Remove,
    Add,
}

/// The difference from `old` to `new`, under these names; empty where there is none.
pub fn unified_diff(old_name: &str, new_name: &str, old: &str, new: &str) -> String {
    if old == new {
        return String::new();
    }
    let (old, new): (Vec<&str>, Vec<&str>) = (old.split_inclusive('\n').collect(), new.split_inclusive('\n').collect());
    let edits = script(&old, &new);
    let mut out = format!("--- {old_name}\n+++ {new_name}\n");
    let changed: Vec<usize> = (0..edits.len()).filter(|at| edits[*at] != Edit::Keep).collect();
    let mut next = 0;
    while let Some(first) = changed.get(next).copied() {
        let mut last = first;
        while let Some(more) = changed.get(next).copied().filter(|at| *at <= last + 2 * AROUND) {
            last = more;
            next += 1;
        }
        hunk(&mut out, &edits, first.saturating_sub(AROUND)..(last + AROUND + 1).min(edits.len()), &old, &new);
    }
    out
}

fn hunk(out: &mut String, edits: &[Edit], range: std::ops::Range<usize>, old: &[&str], new: &[&str]) {
    let count = |edits: &[Edit], not: Edit| edits.iter().filter(|edit| **edit != not).count();
    let (before, here) = (&edits[..range.start], &edits[range.clone()]);
    let (mut o, mut n) = (count(before, Edit::Add), count(before, Edit::Remove));
    let (lines, more) = (count(here, Edit::Add), count(here, Edit::Remove));
    let first = |at: usize, lines: usize| if lines == 0 { at } else { at + 1 };
    out.push_str(&format!("@@ -{},{lines} +{},{more} @@\n", first(o, lines), first(n, more)));
    for edit in here {
        let (mark, line) = match edit {
            Edit::Keep => (' ', old[o]),
            Edit::Remove => ('-', old[o]),
            Edit::Add => ('+', new[n]),
        };
        o += usize::from(*edit != Edit::Add);
        n += usize::from(*edit != Edit::Remove);
        out.push(mark);
        out.push_str(line);
        if !line.ends_with('\n') {
            out.push_str("\n\\ no newline at the end\n");
        }
    }
}

/// What makes `new` of `old`.
fn script(old: &[&str], new: &[&str]) -> Vec<Edit> {
    let start = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    let end = old[start..].iter().rev().zip(new[start..].iter().rev()).take_while(|(a, b)| a == b).count();
    let mut edits = vec![Edit::Keep; start];
    edits.extend(middle(&old[start..old.len() - end], &new[start..new.len() - end]));
    edits.extend(vec![Edit::Keep; end]);
    edits
}

fn middle(old: &[&str], new: &[&str]) -> Vec<Edit> {
    let whole = || [vec![Edit::Remove; old.len()], vec![Edit::Add; new.len()]].concat();
    let (n, m) = (old.len() as isize, new.len() as isize);
    let most = old.len() + new.len();
    if most > MOST_EDITS {
        return whole();
    }
    // furthest[k + most]: how far in `old` the best path of so many edits is on diagonal k; one row for each number of edits.
    let offset = most as isize;
    let mut furthest = vec![0isize; 2 * most + 2];
    let mut rows = Vec::new();
    'search: for d in 0..=offset {
        rows.push(furthest.clone());
        for k in (-d..=d).step_by(2) {
            let at = |k: isize| furthest[(k + offset) as usize];
            let down = k == -d || (k != d && at(k - 1) < at(k + 1));
            let mut x = if down { at(k + 1) } else { at(k - 1) + 1 };
            while x < n && x - k < m && old[x as usize] == new[(x - k) as usize] {
                x += 1;
            }
            furthest[(k + offset) as usize] = x;
            if x >= n && x - k >= m {
                break 'search;
            }
        }
    }
    let (mut x, mut y) = (n, m);
    let mut edits = Vec::new();
    for (d, row) in rows.iter().enumerate().rev() {
        let (d, k) = (d as isize, x - y);
        let at = |k: isize| row[(k + offset) as usize];
        let down = k == -d || (k != d && at(k - 1) < at(k + 1));
        let from = if d == 0 {
            0
        } else if down {
            at(k + 1)
        } else {
            at(k - 1)
        };
        let from_y = if d == 0 { 0 } else { from - if down { k + 1 } else { k - 1 } };
        while x > from && y > from_y {
            edits.push(Edit::Keep);
            (x, y) = (x - 1, y - 1);
        }
        if d > 0 {
            edits.push(if down { Edit::Add } else { Edit::Remove });
            (x, y) = (from, from_y);
        }
    }
    edits.reverse();
    edits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(old: &str, new: &str) -> (String, String) {
        let (old, new): (Vec<&str>, Vec<&str>) =
            (old.split_inclusive('\n').collect(), new.split_inclusive('\n').collect());
        let (mut o, mut n, mut left, mut right) = (0, 0, String::new(), String::new());
        for edit in script(&old, &new) {
            if edit != Edit::Add {
                left.push_str(old[o]);
                o += 1;
            }
            if edit != Edit::Remove {
                right.push_str(new[n]);
                n += 1;
            }
            if edit == Edit::Keep {
                assert_eq!(old[o - 1], new[n - 1]);
            }
        }
        (left, right)
    }

    #[test]
    fn scripts_make_the_one_of_the_other() {
        let texts = ["", "a\n", "a\nb\nc\n", "b\nc\nd\n", "a\nb\nc", "x\na\ny\nc\nz\n", "c\nb\na\n", "a\na\na\nb\n"];
        for old in texts {
            for new in texts {
                assert_eq!(apply(old, new), (old.to_owned(), new.to_owned()), "{old:?} {new:?}");
            }
        }
    }

    #[test]
    fn as_people_know_it() {
        let old: String = (1..=20).map(|n| format!("{n}\n")).collect();
        let new = old.replace("10\n", "ten\n").replace("20\n", "20");
        let found = unified_diff("a", "b", &old, &new);
        let wanted = "--- a\n+++ b\n@@ -7,7 +7,7 @@\n 7\n 8\n 9\n-10\n+ten\n 11\n 12\n 13\n@@ -17,4 +17,4 @@\n 17\n 18\n 19\n-20\n+20\n\\ no newline at the end\n";
        assert_eq!(found, wanted, "{found}");
        assert_eq!(unified_diff("a", "b", &old, &old), "");
        assert_eq!(unified_diff("a", "b", "", "x\n"), "--- a\n+++ b\n@@ -0,0 +1,1 @@\n+x\n");
    }
}
