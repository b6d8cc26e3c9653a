//! "Since when", as an admin types it: a date, a date and a time (UTC), or a span back from now.

use crate::job::duration;
use crate::show::utc;

/// What a text should have been.
pub const EXPECTED: &str = "a UTC date such as \"2026-11-22\", a date and time such as \"2026-11-22 11:47\", or a span back from now such as \"2 days\"";

/// Unix milliseconds; `None` when it is none of [`EXPECTED`] or before 1970.
pub fn parse(text: &str, now_ms: u64) -> Option<u64> {
    let text = text.trim().trim_end_matches('Z').replace('T', " ");
    if let Some(span_ms) = duration::parse(&text) {
        return Some(now_ms.saturating_sub(span_ms));
    }
    let (date, time) = text.split_once(' ').unwrap_or((&text, "00:00:00"));
    let time = if time.len() == 5 { format!("{time}:00") } else { time.to_owned() };
    let [year, month, day] = numbers(date, '-')?;
    let [hour, minute, second] = numbers(&time, ':')?;
    let seconds = days(year, month, day)?.checked_mul(86_400)?.checked_add(hour * 3600 + minute * 60 + second)?;
    let ms = seconds.checked_mul(1000)?;
    // The 31st of February, or 25 o'clock, would come back as another time.
    (utc(ms) == format!("{date} {time}")).then_some(ms)
}

fn numbers(text: &str, between: char) -> Option<[u64; 3]> {
    let parts: Option<Vec<u64>> = text.split(between).map(|part| part.parse().ok().filter(|n| *n < 10_000)).collect();
    parts?.try_into().ok()
}

/// Days since 1970 (the days-from-civil algorithm of H. Hinnant).
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    let year = year.checked_sub(u64::from(month <= 2))?;
    let (era, year_of_era) = (year / 400, year % 400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day.checked_sub(1)?;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    (era * 146_097 + day_of_era).checked_sub(719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_times_and_spans() {
        let now_ms = 1_800_000_000_000;
        assert_eq!(parse("1970-01-01", now_ms), Some(0));
        assert_eq!(parse("2000-02-29", now_ms), Some(951_782_400_000));
        assert_eq!(parse("2025-12-31 23:59:59", now_ms), Some(1_767_225_599_000));
        assert_eq!(parse("2025-12-31T23:59Z", now_ms), Some(1_767_225_540_000));
        assert_eq!(parse("2 days", now_ms), Some(now_ms - 2 * 86_400_000));
        for ms in (0..4_000_000_000_000).step_by(86_399_999_000) {
            assert_eq!(parse(&utc(ms), 0), Some(ms / 1000 * 1000));
        }
        for bad in [
            "",
            "yesterday",
            "2025-02-30",
            "2025-13-01",
            "2025-1-1",
            "2025-12-31 25:00",
            "1969-12-31",
            "-1-1-1",
            "2025-12-31 1:00",
        ] {
            assert_eq!(parse(bad, now_ms), None, "{bad}");
        }
    }
}
