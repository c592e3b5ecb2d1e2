//! The values of flags: what docker accepts, and one clear sentence for what it does not.

use crate::sys::{Context, Error, Result};
use std::path::Path;

/// The first word that is no flag, such as an image's name: a flag that is not known is taken for it, as flags end there.
pub fn first_word<'a>(words: &'a [String], what: &str) -> Result<(&'a str, &'a [String])> {
    let (first, rest) = words.split_first().ok_or_else(|| Error::new(format!("no {what} was named")))?;
    if first.starts_with('-') {
        let flag = first.split('=').next().unwrap_or_default();
        return Err(Error::new(format!("unknown flag: {flag}")).hint(format!("flags end at the name of the {what}")));
    }
    Ok((first, rest))
}

/// The period of the CPU quota that docker uses, in microseconds.
pub const CPU_PERIOD: u64 = 100_000;

/// `--cpus 1.5` as a quota of microseconds in each [`CPU_PERIOD`]. The kernel's least is 1 ms, 0.01 of a CPU.
pub fn cpus(text: &str) -> Result<i64> {
    let bad = |why: &str| Error::new(format!("invalid value {text:?} for --cpus: {why}"));
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if whole.len() + fraction.len() == 0 || !digits(whole) || !digits(fraction) {
        return Err(bad("it is no decimal number"));
    }
    if fraction.len() > 9 {
        return Err(bad("more than nine digits after the point"));
    }
    let nano = format!("{whole}{fraction:0<9}").parse::<i64>().map_err(|_| bad("it is too large"))?;
    let quota = nano / (1_000_000_000 / CPU_PERIOD as i64);
    if quota < 1_000 { Err(bad("less than 0.01")) } else { Ok(quota) }
}

/// A limit of setrlimit(2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ulimit {
    /// As in config.json: `RLIMIT_NOFILE`.
    pub name: String,
    /// The limit in force; `u64::MAX` is none.
    pub soft: u64,
    /// How far the program may raise it.
    pub hard: u64,
}

const ULIMITS: [&str; 15] = [
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// `--ulimit nofile=1024:2048`; one number is both limits, -1 is none.
pub fn ulimit(text: &str) -> Result<Ulimit> {
    let bad = |why: String| Error::new(format!("invalid ulimit {text:?}: {why}"));
    let (name, limits) = text.split_once('=').ok_or_else(|| bad("it is not name=soft[:hard]".into()))?;
    if !ULIMITS.contains(&name) {
        return Err(bad(format!("there is no limit {name:?}")).hint(format!("one of {}", ULIMITS.join(", "))));
    }
    let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
    let number = |text: &str| match text {
        "-1" | "unlimited" => Ok(u64::MAX),
        text => text.parse().map_err(|_| bad(format!("{text:?} is no number"))),
    };
    let (soft, hard) = (number(soft)?, number(hard)?);
    if soft > hard {
        return Err(bad("the soft limit is above the hard limit".into()));
    }
    Ok(Ulimit { name: format!("RLIMIT_{}", name.to_ascii_uppercase()), soft, hard })
}

/// A device of the host, given to a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its path on the host.
    pub host: String,
    /// Its path in the container.
    pub container: String,
    /// What the cgroup allows: some of `r`, `w` and `m`.
    pub access: String,
}

/// `--device host[:container[:rwm]]`, or `host:rwm`.
pub fn device(text: &str) -> Result<Device> {
    let bad = |why: &str| Error::new(format!("invalid device {text:?}: {why}"));
    let is_access = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|b| b"rwm".contains(&b))
            && part.bytes().enumerate().all(|(i, b)| !part[..i].contains(b as char))
    };
    let parts: Vec<&str> = text.split(':').collect();
    let (host, container, access) = match parts[..] {
        [host] => (host, host, "rwm"),
        [host, access] if is_access(access) => (host, host, access),
        [host, container] => (host, container, "rwm"),
        [host, container, access] if is_access(access) => (host, container, access),
        [_, _, _] => return Err(bad("the access is not made of r, w and m")),
        _ => return Err(bad("it is not host[:container[:rwm]]")),
    };
    if !host.starts_with('/') || !container.starts_with('/') {
        return Err(bad("a path of it is not absolute"));
    }
    Ok(Device { host: host.into(), container: container.into(), access: access.into() })
}

/// `-e KEY=VALUE`; `-e KEY` takes the value of our own environment, and is nothing where there is none.
pub fn env(text: &str) -> Result<Option<(String, String)>> {
    match text.split_once('=') {
        Some(("", _)) => Err(Error::new(format!("no variable name in {text:?}"))),
        None if text.is_empty() => Err(Error::new("invalid environment variable: empty")),
        Some((key, value)) => Ok(Some((key.into(), value.into()))),
        None => Ok(std::env::var(text).ok().map(|value| (text.into(), value))),
    }
}

/// `--label key=value`; without `=` the value is empty.
pub fn label(text: &str) -> Result<(String, String)> {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    if key.is_empty() { Err(Error::new(format!("no label name in {text:?}"))) } else { Ok((key.into(), value.into())) }
}

/// The lines of `--env-file`, as [`env()`] reads them: nothing is quoted, values are taken to the end of the line, lines
/// that begin with `#` are comments, and a name with white space is refused.
pub fn env_file(path: &Path) -> Result<Vec<(String, String)>> {
    let lines = lines(path)?;
    Ok(lines
        .iter()
        .map(|line| env(line).map_err(|e| e.within(path.display())))
        .collect::<Result<Vec<_>>>()?
        .into_iter()
        .flatten()
        .collect())
}

/// The lines of `--label-file`, as [`label`] reads them, by the rules of [`env_file`].
pub fn label_file(path: &Path) -> Result<Vec<(String, String)>> {
    lines(path)?.iter().map(|line| label(line).map_err(|e| e.within(path.display()))).collect()
}

fn lines(path: &Path) -> Result<Vec<String>> {
    let what = || format!("read {}", path.display());
    let bytes = std::fs::read(path).context(what)?;
    let text = String::from_utf8(bytes).map_err(|_| Error::new(what()).hint("it is not UTF-8"))?;
    let mut out = Vec::new();
    for (number, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let name = line.split('=').next().unwrap_or_default();
        if name.contains(char::is_whitespace) || line.contains('\0') {
            return Err(Error::new(format!("{}: line {}: variable '{name}' contains whitespaces", path.display(), number + 1)));
        }
        out.push(line.to_owned());
    }
    Ok(out)
}

/// docker's rule for the names of containers, volumes and networks: `[a-zA-Z0-9][a-zA-Z0-9_.-]+`.
pub fn name<'a>(kind: &str, name: &'a str) -> Result<&'a str> {
    let rest = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    let good = name.len() >= 2 && name.len() <= 255 && name.as_bytes()[0].is_ascii_alphanumeric() && name.bytes().all(rest);
    if good { Ok(name) } else { Err(Error::new(format!("Invalid {kind} name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_become_a_quota() {
        for (text, quota) in [("1", 100_000), ("1.5", 150_000), (".5", 50_000), ("0.01", 1_000), ("128", 12_800_000)] {
            assert_eq!(cpus(text).unwrap(), quota, "{text}");
        }
        for text in ["", ".", "-1", "0", "0.001", "1.0000000001", "1e3", "two", "99999999999"] {
            assert!(cpus(text).is_err(), "{text}");
        }
    }

    #[test]
    fn ulimits() {
        let both = ulimit("nofile=1024:2048").unwrap();
        assert_eq!((both.name.as_str(), both.soft, both.hard), ("RLIMIT_NOFILE", 1024, 2048));
        assert_eq!(ulimit("core=-1").unwrap().hard, u64::MAX);
        for text in ["nofile", "nofile=", "files=1", "nofile=2:1", "nofile=-2", "nofile=1:2:3"] {
            assert!(ulimit(text).is_err(), "{text}");
        }
    }

    #[test]
    fn devices() {
        let read = |text| device(text).map(|d| format!("{} {} {}", d.host, d.container, d.access)).map_err(|e| e.to_string());
        assert_eq!(read("/dev/fuse").unwrap(), "/dev/fuse /dev/fuse rwm");
        assert_eq!(read("/dev/sda:r").unwrap(), "/dev/sda /dev/sda r");
        assert_eq!(read("/dev/sda:/dev/xvda:rw").unwrap(), "/dev/sda /dev/xvda rw");
        for text in ["", "fuse", "/dev/a:/dev/b:x", "/dev/a:/dev/b:rr", "/dev/a:b", "/dev/a:/b:r:w"] {
            assert!(device(text).is_err(), "{text}");
        }
    }

    #[test]
    fn env_files_are_taken_as_they_are() {
        let path = std::env::temp_dir().join(format!("mydocker-env-{}", std::process::id()));
        std::fs::write(&path, "\u{feff}# comment\n\n  A=1\nB=\"q\" # no comment\nNOT_SET_ANYWHERE_9\nC=\n").unwrap();
        let read = env_file(&path);
        std::fs::write(&path, "GOOD=1\nA B=2\n").unwrap();
        let refused = env_file(&path).unwrap_err().to_string();
        std::fs::write(&path, "a.b=c\nd\n").unwrap();
        let labels = label_file(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(read.unwrap(), [pair("A", "1"), pair("B", "\"q\" # no comment"), pair("C", "")]);
        assert!(refused.ends_with("line 2: variable 'A B' contains whitespaces"), "{refused}");
        assert_eq!(labels, [pair("a.b", "c"), pair("d", "")]);
    }

    #[test]
    fn names() {
        for good in ["ab", "a_b", "0.1-x"] {
            assert!(name("container", good).is_ok(), "{good}");
        }
        for bad in ["", "a", "-a", ".a", "_a", "a b", "a/b", "é1", &"a".repeat(256)] {
            assert!(name("container", bad).is_err(), "{bad}");
        }
    }
}
