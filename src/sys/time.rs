//! Time as text.

use std::time::{SystemTime, UNIX_EPOCH};

/// Now in UTC, as RFC 3339 with nanoseconds: `2026-11-21T10:32:31.123456789Z`.
pub fn rfc3339_now() -> String {
    // Not rustix's clock_gettime: where a kernel's vDSO lacks getcpu (user-mode Linux) its first use panics.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    rfc3339(now.as_secs() as i64, now.subsec_nanos().into())
}

/// How many seconds the local zone is east of UTC at a point in time, by TZ or /etc/localtime; 0 if it cannot be told.
pub fn local_offset(seconds: i64) -> i32 {
    let mut local = std::mem::MaybeUninit::<libc::tm>::zeroed();
    // SAFETY: localtime_r reads the time given and writes one tm, both ours for the call; all-zero bytes are a valid tm
    // (its zone name is a nullable pointer), so it is initialised even where localtime_r fails.
    let offset = unsafe {
        libc::localtime_r(&seconds, local.as_mut_ptr());
        local.assume_init().tm_gmtoff
    };
    i32::try_from(offset).unwrap_or(0)
}

/// Seconds and nanoseconds since 1970 as RFC 3339, with nine digits of fraction.
pub fn rfc3339(seconds: i64, nanoseconds: i64) -> String {
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // The Gregorian calendar repeats every 146,097 days; years are counted from March so that a leap day is the last.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute) = (second / 3_600, second / 60 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{:02}.{nanoseconds:09}Z", second % 60)
}

#[cfg(test)]
mod tests {
    use super::rfc3339;

    #[test]
    fn calendar() {
        assert_eq!(rfc3339(0, 0), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(rfc3339(951_782_400, 5), "2000-02-29T00:00:00.000000005Z");
        assert_eq!(rfc3339(1_793_270_399, 999_999_999), "2026-10-29T10:39:59.999999999Z");
        assert_eq!(rfc3339(4_107_542_400, 0), "2100-03-01T00:00:00.000000000Z");
    }
}
