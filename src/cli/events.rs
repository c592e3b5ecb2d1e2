//! `events`: one JSON object a line, as runc prints them.

use super::{args, print};
use crate::lifecycle::{self, Event, Runtime, Stats};
use crate::store::ContainerId;
use crate::sys::{Error, Result};
use serde::Serialize;
use std::time::Duration;

#[derive(Serialize)]
struct Line<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a Stats>,
}

pub fn events(options: &args::Events, runtime: &Runtime) -> Result<i32> {
    let id = ContainerId::new(&options.id)?;
    let interval = duration(&options.interval)?;
    let line = |kind: &str, data: Option<&Stats>| {
        let text = serde_json::to_string(&Line { kind, id: id.as_str(), data });
        print(&(text.map_err(|e| Error::new(format!("write JSON: {e}")))? + "\n"))
    };
    if options.stats {
        return line("stats", Some(&lifecycle::stats(runtime, &id)?)).map(|()| 0);
    }
    lifecycle::events(runtime, &id, interval, |event| match event {
        Event::Stats(stats) => line("stats", Some(&stats)),
        Event::Oom => line("oom", None),
    })
    .map(|()| 0)
}

/// A duration as Go writes it: `5s`, `1m30s`, `1.5h`.
fn duration(text: &str) -> Result<Duration> {
    let invalid = || Error::new(format!("invalid value {text:?} for --interval")).hint("a number and a unit: ns, us, ms, s, m, h");
    let (mut rest, mut seconds) = (text, 0.0);
    while !rest.is_empty() && text != "0" {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(invalid)?;
        let number: f64 = rest[..end].parse().map_err(|_| invalid())?;
        let units = rest[end..].find(|c: char| c.is_ascii_digit() || c == '.').map_or(rest.len(), |length| end + length);
        let unit = match &rest[end..units] {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(invalid()),
        };
        seconds += number * unit;
        rest = &rest[units..];
    }
    let duration = Duration::try_from_secs_f64(seconds).map_err(|_| invalid())?;
    match (text, duration) {
        ("", _) => Err(invalid()),
        (_, Duration::ZERO) => Err(Error::new("duration interval must be greater than 0")),
        // The clock of waiting has a signed number of seconds.
        (_, duration) => Ok(duration.min(Duration::from_secs(u64::from(u32::MAX)))),
    }
}

#[cfg(test)]
mod tests {
    use super::duration;
    use std::time::Duration;

    #[test]
    fn intervals_are_read_as_go_reads_them() {
        for (text, millis) in [("5s", 5000), ("500ms", 500), ("1m30s", 90_000), ("1.5h", 5_400_000), ("2000us", 2), (".5s", 500)] {
            assert_eq!(duration(text).unwrap(), Duration::from_millis(millis), "{text}");
        }
        for text in ["", "5", "s", "5x", "-5s", "1m30", "0", "0s", "1..5s", "nans"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
