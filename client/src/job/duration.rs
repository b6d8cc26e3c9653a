//! Spans of time as people write them: `14 days`, `36 hours`, `90 s`.

/// What a text should have been.
pub(crate) const EXPECTED: &str =
    "a time with its unit, such as \"14 days\", \"36 hours\", \"10 minutes\" or \"90 s\" (at most 100 years)";

const MS_MAX: u64 = 100 * 366 * DAY_MS;
const SECOND_MS: u64 = 1000;
const MINUTE_MS: u64 = 60 * SECOND_MS;
const HOUR_MS: u64 = 60 * MINUTE_MS;
/// Milliseconds of a day.
pub const DAY_MS: u64 = 24 * HOUR_MS;

const UNITS: &[(&[&str], u64)] = &[
    (&["ms", "millisecond", "milliseconds"], 1),
    (&["s", "second", "seconds"], SECOND_MS),
    (&["min", "minute", "minutes"], MINUTE_MS),
    (&["h", "hour", "hours"], HOUR_MS),
    (&["d", "day", "days"], DAY_MS),
    (&["week", "weeks"], 7 * DAY_MS),
];

/// Milliseconds, or `None` when it is not a positive whole number and a unit, or longer than 100 years.
pub fn parse(text: &str) -> Option<u64> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = (text.get(..split)?, text.get(split..)?.trim());
    let (_, unit_ms) = UNITS.iter().find(|(words, _)| words.contains(&unit))?;
    number.parse::<u64>().ok()?.checked_mul(*unit_ms).filter(|ms| (1..=MS_MAX).contains(ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read() {
        assert_eq!(parse("14 days"), Some(14 * DAY_MS));
        assert_eq!(parse(" 1week "), Some(7 * DAY_MS));
        assert_eq!(parse("90 s"), Some(90_000));
        for bad in ["", "14", "days", "0 days", "-1 day", "1.5 days", "14 dayz", "99999999999999999999 d", "40000 days"]
        {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
