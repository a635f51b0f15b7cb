//! Dates of HTTP headers (RFC 9110, 5.6.7): three forms are read, one is written.
use jiff::Timestamp;
use jiff::fmt::strtime::BrokenDownTime;
use jiff::tz::TimeZone;

const FIXED: &str = "%a, %d %b %Y %H:%M:%S GMT";
const OBSOLETE: [&str; 2] = ["%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"];

/// The time that `text` names; `None` for what is no date.
pub fn parse(text: &str) -> Option<Timestamp> {
    [FIXED].iter().chain(&OBSOLETE).find_map(|form| {
        let time = BrokenDownTime::parse(form, text.trim()).ok()?.to_datetime().ok()?;
        Some(time.to_zoned(TimeZone::UTC).ok()?.timestamp())
    })
}

/// In the fixed form.
pub fn format(time: Timestamp) -> String {
    time.to_zoned(TimeZone::UTC).strftime(FIXED).to_string()
}

#[cfg(test)]
mod tests {
    #[test]
    fn three_forms_are_one_time() {
        for text in ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"] {
            let time = super::parse(text).expect(text);
            assert_eq!(time.as_second(), 784_111_777, "{text}");
            assert_eq!(super::format(time), "Sun, 06 Nov 1994 08:49:37 GMT");
        }
        assert_eq!(super::parse("yesterday"), None);
    }
}
