//! `events`: what happens, as it happens, and what has happened.

use super::filter::Filters;
use super::print;
use super::template::Template;
use super::time::{self, Nanos};
use super::visible::visible;
use crate::mydocker::container::journal::{self, Happening};
use crate::mydocker::files::{Dirs, make_dir};
use crate::sys::{Context, Error, Result};
use clap::Args;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;
use serde_json::{Value, json};
use std::fs::File;
use std::io::{ErrorKind, Read};

/// `events`.
#[derive(Args, Debug)]
pub struct Events {
    /// Filter output based on conditions provided
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub filter: Vec<String>,
    /// Format output using a Go template, or json
    #[arg(long, value_name = "TEMPLATE")]
    pub format: Option<String>,
    /// Show all events created since timestamp
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Stream events until this timestamp
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
}

const KNOWN: [&str; 9] = ["container", "event", "image", "label", "label!", "network", "scope", "type", "volume"];

/// What is shown, and how.
struct View {
    filters: Filters,
    /// With whether it is for the document as it is.
    template: Option<(Template, bool)>,
    since: Nanos,
    until: Option<Nanos>,
}

/// `mydocker events`: until `--until`, or for ever.
pub fn events(args: &Events, dirs: &Dirs) -> Result<i32> {
    let template = match args.format.as_deref() {
        None | Some("") => None,
        Some("json") => Some((Template::parse("{{json .}}")?, true)),
        Some(text) => Some((Template::parse(text)?, false)),
    };
    let now = time::now();
    let until = args.until.as_deref().map(time::parse).transpose()?;
    let since = args.since.as_deref().map(time::parse).transpose()?.unwrap_or(now);
    if until.is_some_and(|until| until < since) && args.since.is_some() {
        return Err(Error::new("`since` time cannot be after `until` time"));
    }
    let view = View { filters: Filters::parse(&args.filter, &KNOWN)?, template, since, until };
    let what = || "watch the journal of events";
    make_dir(&dirs.run)?;
    let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK).context(what)?;
    inotify::add_watch(&watch, &dirs.run, inotify::WatchFlags::MODIFY | inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_TO)
        .context(what)?;
    let [older, path] = journal::journals(dirs);
    let mut text = String::new();
    if args.since.is_some() {
        read(&mut Some(open(&older)?).flatten(), &mut text)?;
    }
    let mut file = open(&path)?;
    loop {
        // What is read up to the end now was written before the check that follows.
        let late = until.is_some_and(|until| time::now() >= until);
        read(&mut file, &mut text)?;
        if !file.as_ref().is_some_and(|file| journal::is(&path, file)) {
            let new = open(&path)?;
            // It was put aside; what was written into it last is read before the new one.
            read(&mut file, &mut text)?;
            file = new;
            if file.is_some() {
                continue;
            }
        }
        view.show(&mut text)?;
        if late {
            return Ok(0);
        }
        wait(&watch, until)?;
    }
}

fn open(path: &std::path::Path) -> Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).context(|| format!("read {}", path.display())),
    }
}

fn read(file: &mut Option<File>, text: &mut String) -> Result<()> {
    let Some(file) = file else { return Ok(()) };
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).context(|| "read the journal of events")?;
    text.push_str(&String::from_utf8_lossy(&bytes));
    Ok(())
}

/// Until the journal changes, or its end has come.
fn wait(watch: &rustix::fd::OwnedFd, until: Option<Nanos>) -> Result<()> {
    let left = until.map(|until| (until - time::now()).max(0));
    let timeout = left.map(|left| Timespec { tv_sec: (left / 1_000_000_000) as i64, tv_nsec: (left % 1_000_000_000) as i64 });
    match poll(&mut [PollFd::new(watch, PollFlags::IN)], timeout.as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        other => drop(other.context(|| "wait for events")?),
    }
    // What changed is seen in the files themselves.
    while rustix::io::read(watch, &mut [0_u8; 4096]).is_ok_and(|count| count > 0) {}
    Ok(())
}

impl View {
    /// Shows whole lines and takes them away.
    fn show(&self, text: &mut String) -> Result<()> {
        let end = text.rfind('\n').map_or(0, |at| at + 1);
        let mut out = String::new();
        for line in text[..end].lines() {
            let Ok(event) = serde_json::from_str::<Happening>(line) else { continue };
            let Some(at) = time::parse_rfc3339(&event.time) else { continue };
            if at < self.since || self.until.is_some_and(|until| at > until) || !self.fits(&event) {
                continue;
            }
            match &self.template {
                None => out += &words(&event, at),
                Some((template, json)) => out += &template.render(&if *json { value(&event, at) } else { named(&event, at) })?,
            }
            out.push('\n');
        }
        text.drain(..end);
        if out.is_empty() { Ok(()) } else { print(&out) }
    }

    fn fits(&self, event: &Happening) -> bool {
        let attribute = |key: &str| event.attributes.get(key).map_or("", String::as_str);
        let actor = |kind: &str| {
            self.filters.any(kind, |wanted| {
                // Events of networks name the container that was connected.
                let other = attribute(kind);
                (event.kind == kind && (event.id.starts_with(wanted) || attribute("name") == wanted))
                    || (event.kind != kind && !other.is_empty() && other.starts_with(wanted))
            })
        };
        // `exec_start: ls` is found as `exec_start`, `health_status: healthy` as either.
        let action = |wanted: &str| event.action == wanted || event.action.split(':').next() == Some(wanted);
        self.filters.any("event", action)
            && self.filters.is("type", &event.kind)
            && self.filters.is("scope", "local")
            && ["container", "network", "volume"].into_iter().all(actor)
            && self.filters.any("image", |wanted| attribute("image") == wanted || attribute("image").split(':').next() == Some(wanted))
            && self.filters.labels(&event.attributes)
    }
}

/// docker's line: local time, type, action, id, and the attributes by name.
fn words(event: &Happening, at: Nanos) -> String {
    let (seconds, nanoseconds) = ((at.div_euclid(1_000_000_000)) as i64, at.rem_euclid(1_000_000_000) as i64);
    let offset = crate::sys::local_offset(seconds);
    let stamp = crate::sys::rfc3339(seconds + i64::from(offset), nanoseconds);
    let zone = match offset {
        0 => "Z".to_owned(),
        _ => format!("{}{:02}:{:02}", if offset < 0 { '-' } else { '+' }, offset.abs() / 3600, offset.abs() / 60 % 60),
    };
    let attributes: Vec<String> = event.attributes.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let line = format!("{}{zone} {} {} {} ({})", stamp.trim_end_matches('Z'), event.kind, event.action, event.id, attributes.join(", "));
    // Commands and labels are whatever somebody wrote: the terminal is not to obey them.
    visible(&line).into_owned()
}

/// docker's document.
fn value(event: &Happening, at: Nanos) -> Value {
    let mut value = json!({
        "Type": event.kind,
        "Action": event.action,
        "Actor": {"ID": event.id, "Attributes": event.attributes},
        "scope": "local",
        "time": (at / 1_000_000_000) as i64,
        "timeNano": at as i64,
    });
    if event.kind == "container" {
        value["status"] = json!(event.action);
        value["id"] = json!(event.id);
        value["from"] = json!(event.attributes.get("image"));
    }
    value
}

/// The same under the names that docker's templates have for it.
fn named(event: &Happening, at: Nanos) -> Value {
    let mut value = value(event, at);
    for (key, name) in
        [("scope", "Scope"), ("time", "Time"), ("timeNano", "TimeNano"), ("status", "Status"), ("id", "ID"), ("from", "From")]
    {
        let taken = value.as_object_mut().and_then(|object| object.remove(key));
        value[name] = taken.unwrap_or_else(|| json!(""));
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn filters_and_words() {
        let attributes = BTreeMap::from([("image", "busybox:1"), ("name", "web")].map(|(key, value)| (key.to_owned(), value.to_owned())));
        let event = Happening {
            kind: "container".into(),
            action: "exec_start: ls\u{1b}[2J".into(),
            id: "abc".into(),
            attributes,
            time: "2026-11-21T10:00:00Z".into(),
        };
        let fits = |given: &str| {
            let filters = Filters::parse(&[given.to_owned()], &KNOWN).unwrap();
            View { filters, template: None, since: 0, until: None }.fits(&event)
        };
        for given in ["event=exec_start", "container=web", "container=ab", "image=busybox", "image=busybox:1", "type=container"] {
            assert!(fits(given), "{given}");
        }
        for given in ["event=exec", "container=db", "image=busy", "type=network", "volume=web", "label=x"] {
            assert!(!fits(given), "{given}");
        }
        let line = words(&event, time::parse_rfc3339(&event.time).unwrap());
        assert!(line.ends_with(" container exec_start: ls\\x1b[2J abc (image=busybox:1, name=web)"), "{line}");
        assert!(value(&event, 1_500_000_000)["timeNano"] == 1_500_000_000_i64);
    }
}
