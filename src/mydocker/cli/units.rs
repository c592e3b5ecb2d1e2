//! Sizes and durations as docker's users type and read them.

use crate::sys::{Error, Result};
use std::time::Duration;

/// Bytes of `512m`, `1.5g`, `10MB`, `10 MiB` or a plain number. Every unit is a power of 1024, whatever its spelling, as
/// for docker's `--memory`, `--shm-size` and the log's `max-size`.
pub fn size(text: &str) -> Result<u64> {
    scaled(text, 1024.0)
}

/// Bytes with units that are powers of 1000, as for the sizes docker prints (`4.26MB`).
pub fn decimal_size(text: &str) -> Result<u64> {
    scaled(text, 1000.0)
}

/// [`size`], or -1 for "unlimited", as for `--memory-swap`.
pub fn size_or_unlimited(text: &str) -> Result<i64> {
    if text.trim() == "-1" {
        return Ok(-1);
    }
    i64::try_from(size(text)?).map_err(|_| bad_size(text))
}

fn bad_size(text: &str) -> Error {
    Error::new(format!("invalid size: '{text}'")).hint("a number with b, k, m, g, t or p, such as 512m")
}

fn scaled(text: &str, base: f64) -> Result<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.strip_prefix(' ').unwrap_or(unit).to_ascii_lowercase();
    let power = match unit.trim_end_matches('b').trim_end_matches('i') {
        "" if matches!(unit.as_str(), "" | "b") => 0,
        "" => return Err(bad_size(text)),
        letter => 1 + ["k", "m", "g", "t", "p", "e"].iter().position(|known| *known == letter).ok_or_else(|| bad_size(text))?,
    };
    // Only one i and one b may follow the letter.
    if power > 0 && !["", "b", "i", "ib"].contains(&&unit[1..])
        || !number.starts_with(|c: char| c.is_ascii_digit())
        || number.ends_with('.')
    {
        return Err(bad_size(text));
    }
    // Whole numbers stay exact above 2^53.
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul((base as u64).checked_pow(power as u32).unwrap_or(u64::MAX)).ok_or_else(|| bad_size(text));
    }
    let bytes = number.parse::<f64>().map_err(|_| bad_size(text))? * base.powi(power as i32);
    if bytes < u64::MAX as f64 { Ok(bytes as u64) } else { Err(bad_size(text)) }
}

/// `4.26MB`: powers of 1000 and three digits, as docker prints images' and layers' sizes.
pub fn human_size(bytes: u64) -> String {
    with_unit(bytes, 1000.0, 3, &["B", "kB", "MB", "GB", "TB", "PB", "EB"])
}

/// `3.2MiB`: powers of 1024 and four digits, as docker prints memory.
pub fn bytes_size(bytes: u64) -> String {
    with_unit(bytes, 1024.0, 4, &["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"])
}

fn with_unit(bytes: u64, base: f64, digits: usize, units: &[&str]) -> String {
    let (mut value, mut unit) = (bytes as f64, 0);
    // Rounded first: 999,999 bytes are 1MB, where docker says 1e+03kB.
    let rounded = |value: f64| general(value, Some(digits)).parse().unwrap_or(value);
    while rounded(value) >= base && unit + 1 < units.len() {
        value /= base;
        unit += 1;
    }
    format!("{}{}", general(value, Some(digits)), units[unit])
}

/// A number as C's `%.{digits}g` prints it; without `digits`, as Go's `%v`: the shortest text that reads back the same.
pub fn general(value: f64, digits: Option<usize>) -> String {
    if !value.is_finite() {
        return if value.is_nan() { "NaN".into() } else { format!("{}Inf", if value < 0.0 { '-' } else { '+' }) };
    }
    let scientific = match digits {
        Some(digits) => format!("{value:.*e}", digits.max(1) - 1),
        None => format!("{value:e}"),
    };
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let trimmed =
        |text: &str| if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text.to_owned() };
    let limit = digits.map_or(21, |digits| digits.max(1) as i32);
    if exponent < -4 || exponent >= limit {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{}e{sign}{:02}", trimmed(mantissa), exponent.abs());
    }
    match digits {
        Some(_) => trimmed(&format!("{value:.*}", usize::try_from(limit - 1 - exponent).unwrap_or(0))),
        None => format!("{value}"),
    }
}

/// `About a minute`, `2 hours`, `3 weeks`: how docker says for how long something has been so.
pub fn human_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (minutes, hours) = (seconds / 60, (seconds + 1800) / 3600);
    match () {
        () if seconds < 1 => "Less than a second".into(),
        () if seconds == 1 => "1 second".into(),
        () if seconds < 60 => format!("{seconds} seconds"),
        () if minutes == 1 => "About a minute".into(),
        () if minutes < 60 => format!("{minutes} minutes"),
        () if hours == 1 => "About an hour".into(),
        () if hours < 48 => format!("{hours} hours"),
        () if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        () if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        () if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        () => format!("{} years", seconds / 3600 / 24 / 365),
    }
}

/// A duration as Go's `time.ParseDuration` reads it: `1h30m`, `300ms`, `1.5s`, `0`. Negative ones are refused.
pub fn duration(text: &str) -> Result<Duration> {
    let bad = || Error::new(format!("invalid duration {text:?}")).hint("numbers with h, m, s, ms, us or ns, such as 1h30m");
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(bad());
    }
    let mut nanoseconds = 0u128;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(bad)?;
        let (number, tail) = rest.split_at(end);
        let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let unit: u128 = match &tail[..unit_end] {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return Err(bad()),
        };
        nanoseconds = nanoseconds.checked_add(times(number, unit).ok_or_else(bad)?).ok_or_else(bad)?;
        rest = &tail[unit_end..];
    }
    // Go's durations are 64 signed bits of nanoseconds: 292 years.
    i64::try_from(nanoseconds).map(|n| Duration::from_nanos(n as u64)).map_err(|_| bad())
}

/// A decimal number times a unit, without rounding through a float.
fn times(number: &str, unit: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let fraction = &fraction[..fraction.len().min(18)];
    let part: u128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    whole.checked_mul(unit)?.checked_add(part * unit / 10u128.pow(fraction.len() as u32))
}

/// A duration as Go prints it: `1h30m0s`, `1.5s`, `300ms`, `0s`.
pub fn go_duration(duration: Duration) -> String {
    let nanoseconds = duration.as_nanos();
    let small = |unit: u128, name: &str| {
        let fraction = format!("{:0width$}", nanoseconds % unit, width = unit.ilog10() as usize);
        let fraction = fraction.trim_end_matches('0');
        format!("{}{}{fraction}{name}", nanoseconds / unit, if fraction.is_empty() { "" } else { "." })
    };
    match nanoseconds {
        0 => "0s".into(),
        1..1_000 => format!("{nanoseconds}ns"),
        1_000..1_000_000 => small(1_000, "µs"),
        1_000_000..1_000_000_000 => small(1_000_000, "ms"),
        _ => {
            let (seconds, minutes) = (duration.as_secs(), duration.as_secs() / 60);
            let hours = if minutes >= 60 { format!("{}h", minutes / 60) } else { String::new() };
            let minutes = if minutes > 0 { format!("{}m", minutes % 60) } else { String::new() };
            let fraction = format!("{:09}", duration.subsec_nanos());
            let fraction = fraction.trim_end_matches('0');
            format!("{hours}{minutes}{}{}{fraction}s", seconds % 60, if fraction.is_empty() { "" } else { "." })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        for (text, bytes) in
            [("512m", 512 << 20), ("1.5g", 3 << 29), ("10MB", 10 << 20), ("10 MiB", 10 << 20), ("77", 77), ("5b", 5), ("0", 0)]
        {
            assert_eq!(size(text).unwrap(), bytes, "{text}");
        }
        assert_eq!(decimal_size("10MB").unwrap(), 10_000_000);
        assert_eq!(size("9007199254740993").unwrap(), 9_007_199_254_740_993);
        assert_eq!(size_or_unlimited("-1").unwrap(), -1);
        for text in ["", "m", "-1", "1x", "1bb", "1ii", "1.", ".5g", "1.2.3m", "1ib", "99999999e", "1mi ", "1 2", "ten"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_printed() {
        for (bytes, text) in [(0, "0B"), (999, "999B"), (1000, "1kB"), (4_261_550, "4.26MB"), (12_000_000_000, "12GB"), (999_999, "1MB")] {
            assert_eq!(human_size(bytes), text);
        }
        for (bytes, text) in [(0, "0B"), (3_355_443, "3.2MiB"), (1024, "1KiB"), (1_048_575, "1MiB"), (16_678_195_200, "15.53GiB")] {
            assert_eq!(bytes_size(bytes), text);
        }
    }

    #[test]
    fn numbers_are_printed_as_go_does() {
        for (value, text) in [(0.0, "0"), (1.5, "1.5"), (-2.0, "-2"), (1e20, "100000000000000000000"), (1e21, "1e+21"), (0.00001, "1e-05")]
        {
            assert_eq!(general(value, None), text);
        }
        assert_eq!(general(0.1 + 0.2, Some(3)), "0.3");
        assert_eq!(general(12345.0, Some(3)), "1.23e+04");
    }

    #[test]
    fn ages() {
        let ages = [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (119, "About a minute"),
            (120, "2 minutes"),
            (3599, "59 minutes"),
            (3600, "About an hour"),
            (7200, "2 hours"),
            (47 * 3600, "47 hours"),
            (48 * 3600, "2 days"),
            (14 * 86_400, "2 weeks"),
            (60 * 86_400, "2 months"),
            (730 * 86_400, "2 years"),
        ];
        for (seconds, text) in ages {
            assert_eq!(human_duration(Duration::from_secs(seconds)), text, "{seconds}");
        }
    }

    #[test]
    fn durations() {
        for (text, nanoseconds, printed) in [
            ("1h30m", 5_400_000_000_000, "1h30m0s"),
            ("300ms", 300_000_000, "300ms"),
            ("1.5s", 1_500_000_000, "1.5s"),
            ("0", 0, "0s"),
            ("+2us", 2_000, "2µs"),
            ("1500ns", 1_500, "1.5µs"),
            (".5m", 30_000_000_000, "30s"),
        ] {
            let read = duration(text).unwrap();
            assert_eq!((read.as_nanos(), go_duration(read).as_str()), (nanoseconds, printed), "{text}");
        }
        for text in ["", "1", "-1s", "1x", "s", ".s", "1.2.3s", "300000000000h", "1h 2m"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
