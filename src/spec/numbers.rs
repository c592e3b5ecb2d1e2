//! Lists of CPUs and of memory nodes as the kernel writes them (cpuset(7), "List format"): `0-3,7`.

/// The most CPUs (`NR_CPUS` of distributions is at most 8192, the kernel ignores what it does not have) or nodes
/// (`MAX_NUMNODES`, 1024) that a list may name.
pub const MAX: usize = 1024;

/// One bit for each number, lowest first, as sched_setaffinity(2) and set_mempolicy(2) take it.
pub type Set = [u64; MAX / 64];

/// Every number.
pub const ALL: Set = [u64::MAX; MAX / 64];

/// Parses a list. The error ends a sentence that begins with the list.
pub fn parse(text: &str) -> Result<Set, String> {
    let mut set = [0; MAX / 64];
    for part in text.split(',') {
        let (first, last) = part.trim().split_once('-').unwrap_or((part.trim(), part.trim()));
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(format!("has the range {first}-{last}, which is empty"));
        }
        for n in first..=last {
            set[n / 64] |= 1 << (n % 64);
        }
    }
    Ok(set)
}

fn number(text: &str) -> Result<usize, String> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match text.parse() {
        Ok(n) if digits && n < MAX => Ok(n),
        Ok(n) if digits => Err(format!("names {n}; the last that can be named is {}", MAX - 1)),
        _ => Err(format!("has {text:?}, which is no number")),
    }
}

#[cfg(test)]
mod tests {
    use super::{ALL, parse};

    #[test]
    fn lists() {
        assert_eq!(parse("0").unwrap()[0], 1);
        assert_eq!(parse("0-3,7").unwrap()[0], 0b1000_1111);
        assert_eq!(parse(" 64 , 63-65").unwrap()[..2], [1 << 63, 3]);
        assert_eq!(parse("0-1023").unwrap(), ALL);
        for (text, why) in [
            ("", "has \"\", which is no number"),
            ("0,", "has \"\", which is no number"),
            ("3-1", "has the range 3-1, which is empty"),
            ("1024", "names 1024; the last that can be named is 1023"),
            ("+1", "has \"+1\", which is no number"),
            ("1-2-3", "has \"2-3\", which is no number"),
            ("99999999999999999999999", "has \"99999999999999999999999\", which is no number"),
        ] {
            assert_eq!(parse(text).unwrap_err(), why, "{text:?}");
        }
    }
}
