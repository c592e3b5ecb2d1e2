//! Points in time, as nanoseconds since 1970: `--since`, `--until`, and the stamps of logs and events.

use super::units;
use crate::sys::{Error, Result};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const SECOND: i128 = 1_000_000_000;

/// Nanoseconds since 1970-01-01T00:00:00Z. 128 bits, because Go's zero time, the year 1, is before what 64 bits reach.
pub type Nanos = i128;

/// Now.
pub fn now() -> Nanos {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_nanos() as Nanos)
}

/// How long ago `time` was; zero if it is still to come.
pub fn since(time: Nanos) -> Duration {
    Duration::from_nanos(u64::try_from(now() - time).unwrap_or(0))
}

/// A time as `--since` and `--until` take it: RFC 3339 from the day on with any later part missing, seconds since 1970
/// with or without a fraction, or a duration before now such as `10m`. A date without a zone is local time.
pub fn parse(text: &str) -> Result<Nanos> {
    let bad = || Error::new(format!("invalid time {text:?}")).hint("as 2026-11-21T10:00:00, 1793270399.5 or 1h30m (ago)");
    if let Some(time) = unix(text) {
        return Ok(time);
    }
    if let Ok(ago) = units::duration(text) {
        return Ok(now() - ago.as_nanos() as Nanos);
    }
    let (time, zone) = date(text).ok_or_else(bad)?;
    let offset = zone.unwrap_or_else(|| crate::sys::local_offset((time / SECOND) as i64));
    Ok(time - Nanos::from(offset) * SECOND)
}

/// A complete RFC 3339 stamp with its zone, such as a log line begins with.
pub fn parse_rfc3339(text: &str) -> Option<Nanos> {
    let (time, zone) = date(text)?;
    Some(time - Nanos::from(zone?) * SECOND)
}

/// RFC 3339 in UTC with as much of a fraction as there is: `2026-11-21T10:32:31.5Z`, Go's `RFC3339Nano`.
pub fn rfc3339nano(time: Nanos) -> String {
    let text = crate::sys::rfc3339((time.div_euclid(SECOND)) as i64, time.rem_euclid(SECOND) as i64);
    format!("{}Z", text.trim_end_matches('Z').trim_end_matches('0').trim_end_matches('.'))
}

/// `1793270399` or `1793270399.123456789`.
fn unix(text: &str) -> Option<Nanos> {
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    let (seconds, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let numeric = |text: &str| !text.is_empty() && text.len() <= 18 && text.bytes().all(|b| b.is_ascii_digit());
    if !numeric(seconds) || !numeric(fraction) {
        return None;
    }
    Some(sign * (seconds.parse::<Nanos>().ok()? * SECOND + nanoseconds(fraction)?))
}

/// The digits after the point, as nanoseconds.
fn nanoseconds(fraction: &str) -> Option<Nanos> {
    format!("{fraction:0<9}").get(..9)?.parse().ok()
}

/// The date as if it were UTC, and the zone's seconds east of it, if one is given.
fn date(text: &str) -> Option<(Nanos, Option<i32>)> {
    let (day, clock) = text.split_once(['T', 't', ' ']).unwrap_or((text.get(..10)?, text.get(10..)?));
    let mut parts = day.splitn(3, '-').map(|part| number(part, if part.len() == 4 { 4 } else { 2 }));
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    let zone_at = clock.find(['Z', 'z', '+', '-']).unwrap_or(clock.len());
    let (clock, zone) = clock.split_at(zone_at);
    let mut seconds = days(year, month, day)? * 86_400;
    let mut fraction = 0;
    if !clock.is_empty() {
        let (clock, rest) = clock.split_once('.').unwrap_or((clock, "0"));
        if rest.is_empty() || !rest.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        fraction = nanoseconds(rest)?;
        let mut units = [(24, 3600), (60, 60), (60, 1)].into_iter();
        for part in clock.split(':') {
            let (limit, unit) = units.next()?;
            seconds += number(part, 2).filter(|n| *n < limit)? * unit;
        }
    }
    Some((Nanos::from(seconds) * SECOND + fraction, zone_offset(zone)?))
}

fn zone_offset(zone: &str) -> Option<Option<i32>> {
    let Some(sign) = zone.chars().next() else { return Some(None) };
    if sign.eq_ignore_ascii_case(&'z') {
        return (zone.len() == 1).then_some(Some(0));
    }
    let (hours, minutes) = zone[1..].split_once(':')?;
    let offset = number(hours, 2).filter(|h| *h < 24)? * 3600 + number(minutes, 2).filter(|m| *m < 60)? * 60;
    Some(Some(if sign == '-' { -offset } else { offset } as i32))
}

fn number(text: &str, digits: usize) -> Option<i64> {
    (text.len() == digits && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
}

/// Days from 1970-01-01 to a date of the Gregorian calendar; `None` if there is no such day.
fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=length).contains(&day) {
        return None;
    }
    // Years counted from March, so that the leap day is the last of its year.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    Some(y * 365 + y.div_euclid(4) - y.div_euclid(100) + y.div_euclid(400) + (153 * m + 2) / 5 + day - 1 - 719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_come_back_as_they_were() {
        for text in ["1970-01-01T00:00:00Z", "2026-11-21T10:32:31.5Z", "2000-02-29T23:59:59.000000001Z", "0001-01-01T00:00:00Z"] {
            assert_eq!(rfc3339nano(parse_rfc3339(text).unwrap()), text);
        }
        assert_eq!(parse_rfc3339("2026-11-21T10:32:31+02:00"), parse_rfc3339("2026-11-21T08:32:31Z"));
        assert_eq!(parse_rfc3339("2026-11-21T10:32:31"), None);
    }

    #[test]
    fn parts_may_be_missing() {
        let full = parse_rfc3339("2026-11-21T10:00:00Z").unwrap();
        assert_eq!(parse("2026-11-21T10Z").unwrap(), full);
        assert_eq!(parse("2026-11-21T10:00Z").unwrap(), full);
        assert_eq!(parse("2026-11-21Z").unwrap(), parse_rfc3339("2026-11-21T00:00:00Z").unwrap());
        assert_eq!(parse("1793270399.5").unwrap(), 1_793_270_399_500_000_000);
        assert_eq!(parse("0").unwrap(), 0);
        let offset = Nanos::from(crate::sys::local_offset((full / SECOND) as i64));
        assert_eq!(parse("2026-11-21T10:00:00").unwrap(), full - offset * SECOND);
    }

    #[test]
    fn durations_are_before_now() {
        let then = parse("1h").unwrap();
        let ago = now() - then;
        assert!((3600 * SECOND..3700 * SECOND).contains(&ago), "{ago}");
        assert!(since(parse("10m").unwrap()) >= Duration::from_secs(600));
    }

    #[test]
    fn bad_times_are_refused() {
        for text in [
            "",
            "yesterday",
            "2026-02-30",
            "2026-13-01",
            "2026-11-21T24:00",
            "2026-11-21T10:00:00:00",
            "2026-11-21T1:00",
            "1.2.3",
            "é026-11-21",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
