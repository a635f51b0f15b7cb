//! Durations such as `1m30s`, read as Go's `time.ParseDuration` reads them, in nanoseconds.

/// `None` for what Go refuses: no number, no or unknown unit, more than 292 years.
pub(super) fn nanoseconds(source: &str) -> Option<i64> {
    const LIMIT: u64 = 1 << 63;
    let (negative, mut rest) = match source.as_bytes().first()? {
        b'-' => (true, &source[1..]),
        b'+' => (false, &source[1..]),
        _ => (false, source),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let whole_length = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (digits, after) = rest.split_at(whole_length);
        let whole: u64 = if digits.is_empty() { 0 } else { digits.parse().ok().filter(|n| *n <= LIMIT)? };
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => after.split_at(after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len())),
            None => ("", after),
        };
        if digits.is_empty() && fraction.is_empty() {
            return None;
        }
        let (name, after) = after.split_at(after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len()));
        let unit: u64 = match name {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        let part = whole.checked_mul(unit).filter(|n| *n <= LIMIT)?.checked_add(scaled(fraction, unit))?;
        total = total.checked_add(part).filter(|n| *n <= LIMIT && part <= LIMIT)?;
        rest = after;
    }
    match (negative, total) {
        (true, LIMIT) => Some(i64::MIN),
        (true, _) => i64::try_from(total).ok().map(|n| -n),
        (false, _) => i64::try_from(total).ok(),
    }
}

/// The digits behind the point in units of nanoseconds. Digits that no longer fit a number are dropped, and the product
/// is taken in floating point: that is what Go computes.
fn scaled(fraction: &str, unit: u64) -> u64 {
    let (mut value, mut scale) = (0u64, 1f64);
    for digit in fraction.bytes().map(|b| u64::from(b - b'0')) {
        let Some(next) = value.checked_mul(10).and_then(|v| v.checked_add(digit)).filter(|v| *v <= i64::MAX as u64)
        else {
            break;
        };
        value = next;
        scale *= 10.0;
    }
    (value as f64 * (unit as f64 / scale)) as u64
}

#[cfg(test)]
mod tests {
    use super::nanoseconds;

    #[test]
    fn accepted() {
        for (text, nanos) in [
            ("0", 0),
            ("+0", 0),
            ("-0", 0),
            ("0s", 0),
            ("5s", 5_000_000_000),
            ("1m30s", 90_000_000_000),
            ("1.5h", 5_400_000_000_000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("-1s", -1_000_000_000),
            ("100ms", 100_000_000),
            ("1us", 1_000),
            ("1µs", 1_000),
            ("1μs", 1_000),
            ("3ns", 3),
            ("0.3333333333333333333h", 1_200_000_000_000),
            ("0.9223372036854775807h", 3_320_413_933_267),
            ("9223372036854775807ns", i64::MAX),
            ("-9223372036854775808ns", i64::MIN),
            ("1h1m1s1ms1us1ns", 3_661_001_001_001),
        ] {
            assert_eq!(nanoseconds(text), Some(nanos), "{text}");
        }
    }

    #[test]
    fn refused() {
        for text in [
            "",
            "-",
            "+",
            "5",
            "s",
            ".",
            ".s",
            "1",
            "5 s",
            "5S",
            "1d",
            "1x",
            "--1s",
            "9223372036854775808ns",
            "3000000h",
            "1e3s",
        ] {
            assert_eq!(nanoseconds(text), None, "{text}");
        }
    }
}
