//! Mode expressions of chmod(1), octal or symbolic, read as BuildKit reads `--chmod`: a umask of 0, clauses from left to right.
use crate::{Error, Result};

/// A parsed mode expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModeChange {
    steps: Vec<Step>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Step {
    /// Bits that the clause is about.
    who: u32,
    operator: Operator,
    what: What,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Add,
    Remove,
    Set,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    /// These bits.
    Bits(u32),
    /// Search bits, for directories and what somebody may execute already (`X`), beside these bits.
    BitsAndSearch(u32),
    /// The permissions that this class (0 others, 3 group, 6 user: a shift) has.
    CopyOf(u32),
}

const USER: u32 = 0o4700;
const GROUP: u32 = 0o2070;
const OTHERS: u32 = 0o0007;
const STICKY: u32 = 0o1000;

impl ModeChange {
    /// Parses `text`.
    ///
    /// # Errors
    /// [`Error::BadMode`].
    pub fn parse(text: &str) -> Result<Self> {
        Self::read(text.as_bytes()).ok_or_else(|| Error::BadMode { text: text.to_owned() })
    }

    fn read(text: &[u8]) -> Option<Self> {
        if text.first()?.is_ascii_digit() {
            let bits = u32::from_str_radix(std::str::from_utf8(text).ok()?, 8).ok()?;
            let step = Step { who: 0o7777, operator: Operator::Set, what: What::Bits(bits) };
            return (bits <= 0o7777).then(|| Self { steps: vec![step] });
        }
        let mut steps = Vec::new();
        for clause in text.split(|b| *b == b',') {
            clause_steps(clause, &mut steps)?;
        }
        Some(Self { steps })
    }

    /// The mode that `mode` (at most 0o7777) becomes; `is_dir` matters to `X`.
    pub fn apply(&self, mode: u32, is_dir: bool) -> u32 {
        let mut now = mode & 0o7777;
        for step in &self.steps {
            let bits = match step.what {
                What::Bits(bits) => bits,
                What::BitsAndSearch(bits) if is_dir || mode & 0o111 != 0 => bits | (0o111 & step.who),
                What::BitsAndSearch(bits) => bits,
                What::CopyOf(shift) => {
                    let permissions = (now >> shift) & 7;
                    ((permissions << 6) | (permissions << 3) | permissions) & step.who
                }
            };
            now = match step.operator {
                Operator::Add => now | bits,
                Operator::Remove => now & !bits,
                Operator::Set => (now & !step.who) | bits,
            };
        }
        now
    }
}

fn clause_steps(clause: &[u8], steps: &mut Vec<Step>) -> Option<()> {
    let mut at = 0;
    let mut who = 0;
    while let Some(class) = clause.get(at).and_then(|b| class_bits(*b)) {
        who |= class;
        at += 1;
    }
    let everybody = who == 0;
    if everybody {
        who = USER | GROUP | OTHERS;
    }
    clause.get(at)?;
    while at < clause.len() {
        let operator = match clause[at] {
            b'+' => Operator::Add,
            b'-' => Operator::Remove,
            b'=' => Operator::Set,
            _ => return None,
        };
        at += 1;
        let mut bits = 0;
        let mut search = false;
        let mut sticky = false;
        let mut copied = None;
        while let Some(byte) = clause.get(at).filter(|b| !matches!(b, b'+' | b'-' | b'=')) {
            match byte {
                b'r' => bits |= 0o444,
                b'w' => bits |= 0o222,
                b'x' => bits |= 0o111,
                b'X' if operator == Operator::Remove => bits |= 0o111,
                b'X' => search = true,
                // Set-id and sticky mean nothing to "others" alone.
                b's' if who != OTHERS => bits |= 0o6000,
                b't' if who != OTHERS => sticky = true,
                b's' | b't' => {}
                b'u' => copied = Some(6),
                b'g' => copied = Some(3),
                b'o' => copied = Some(0),
                _ => return None,
            }
            at += 1;
        }
        let scope = if sticky { who | STICKY } else { who };
        let bits = (bits & who) | if sticky { STICKY } else { 0 };
        let copy_scope = who & 0o777;
        match copied {
            Some(shift) => {
                steps.push(Step { who: copy_scope, operator, what: What::CopyOf(shift) });
                if bits != 0 || search {
                    let what = if search { What::BitsAndSearch(bits) } else { What::Bits(bits) };
                    let operator = if operator == Operator::Set { Operator::Add } else { operator };
                    steps.push(Step { who: scope, operator, what });
                }
            }
            None if search => steps.push(Step { who: scope, operator, what: What::BitsAndSearch(bits) }),
            None => steps.push(Step { who: scope, operator, what: What::Bits(bits) }),
        }
    }
    Some(())
}

fn class_bits(byte: u8) -> Option<u32> {
    match byte {
        b'u' => Some(USER),
        b'g' => Some(GROUP),
        b'o' => Some(OTHERS),
        b'a' => Some(USER | GROUP | OTHERS),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octal_and_symbolic() {
        for (text, from, is_dir, want) in [
            ("755", 0o644, false, 0o755),
            ("0644", 0o777, false, 0o644),
            ("4755", 0, false, 0o4755),
            ("u+x", 0o644, false, 0o744),
            ("a=r", 0o755, false, 0o444),
            ("go=", 0o755, false, 0o700),
            ("u=rwx,go=rx", 0o600, false, 0o755),
            ("+x", 0o644, false, 0o755),
            ("a+X", 0o644, false, 0o644),
            ("a+X", 0o644, true, 0o755),
            ("a+X", 0o744, false, 0o755),
            ("g=u", 0o640, false, 0o660),
            ("go=u-w", 0o700, false, 0o755),
            ("u+s", 0o755, false, 0o4755),
            ("+t", 0o755, true, 0o1755),
            ("o+t", 0o755, true, 0o755),
            ("a-x", 0o755, false, 0o644),
            ("u=rwX,go=rX", 0o600, false, 0o644),
            ("u=rwX,go=rX", 0o600, true, 0o755),
            ("g-s", 0o2755, true, 0o755),
        ] {
            assert_eq!(ModeChange::parse(text).unwrap().apply(from, is_dir), want, "{text} on {from:o}");
        }
        for bad in ["", "8", "99999", "x", "u", "u*r", "u+q", "rwx", "+x,"] {
            assert!(ModeChange::parse(bad).is_err(), "{bad}");
        }
    }
}
