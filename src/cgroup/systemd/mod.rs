//! The cgroup of a container as a scope of systemd, which then knows of it, accounts for it and does not take it away.
//!
//! systemd makes and removes the directory and hears of every limit it has a property for; the files below it are ours
//! (`Delegate=yes`). Asked over D-Bus, by a small client of ours ([`bus`]): no thread and no runtime may be there when the
//! container is cloned (docs/decisions/0012-systemd.md).

mod bus;
mod holder;
mod message;
mod property;
mod variant;

pub(super) use holder::Holder;

use super::file::get;
use super::layout::own_paths;
use crate::plan::limits::{Limits, Version};
use crate::sys::{Context, Error, Result, in_user_namespace};
use bus::{Bus, Refusal};
use holder::failed;
use message::{Message, Method, Value};
use property::{Property, of_annotations, of_files, of_limits, property};
use rustix::fs::CWD;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

const AT: &str = "linux.cgroupsPath";

/// A scope: part of the container's record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Unit {
    /// `keel-x.scope`
    name: String,
    /// `machine.slice`
    slice: String,
    /// Of this user's own systemd.
    user: bool,
    /// What annotations ask for; only wanted when it is made.
    #[serde(skip)]
    properties: Vec<Property>,
}

const SYSTEMD: &str = "org.freedesktop.systemd1";

fn manager(member: &str) -> Method<'_> {
    Method { destination: SYSTEMD, path: "/org/freedesktop/systemd1", interface: "org.freedesktop.systemd1.Manager", member }
}

/// The daemon of the system for root, that of the user for everybody else, also for who is root only in a user namespace.
fn is_user() -> bool {
    !rustix::process::geteuid().is_root() || in_user_namespace()
}

impl Unit {
    /// Reads `linux.cgroupsPath`, `slice:prefix:name` for this manager, and gives the unit and its path below the mount of
    /// each hierarchy. Nothing is touched, but a user's systemd is asked where it is.
    pub(super) fn locate(cgroups_path: &str, id: &str, annotations: &BTreeMap<String, String>, version: Version) -> Result<(Self, String)> {
        let user = is_user();
        if user && version == Version::V1 {
            // It has a part of the hierarchy name=systemd alone: no limit can be set there.
            let what = "the systemd of a user has no controllers on cgroup v1, so it can keep no container";
            return Err(Error::new(what).hint("use --cgroup-manager cgroupfs, or cgroup v2"));
        }
        if !user && !std::path::Path::new("/run/systemd/system").is_dir() {
            return Err(Error::new("systemd does not run on this host").hint("without it, use --cgroup-manager cgroupfs"));
        }
        let (slice, prefix, name) = match cgroups_path.split(':').collect::<Vec<_>>()[..] {
            [""] => ("", "keel", id),
            [slice, prefix, name] => (slice, prefix, name),
            _ => {
                let what =
                    format!("expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got {cgroups_path:?} instead");
                return Err(Error::new(what).at(AT));
            }
        };
        let slice = match slice {
            "" if user => "user.slice",
            "" => "system.slice",
            slice => slice,
        };
        let name = unit_name(prefix, name)?;
        let parent = expand_slice(slice)?;
        let properties = of_annotations(annotations)?;
        let root = if user { Connection::new(true)?.control_group()? } else { String::new() };
        let path = format!("{root}{parent}/{name}");
        Ok((Self { name, slice: slice.into(), user, properties }, path))
    }

    /// Makes the scope with the properties for its limits and waits until it is there. It lasts as long as the holder, or
    /// somebody else, is in it.
    pub(super) fn start(&self, limits: &Limits, version: Version) -> Result<Holder> {
        let mut connection = Connection::new(self.user)?;
        connection.come_closer()?;
        let holder = Holder::new()?;
        let mut properties = scope(&format!("container {}", self.name.trim_end_matches(".scope")), &self.slice, holder.pid, version);
        properties.extend(of_limits(limits, version));
        properties.extend_from_slice(&self.properties);
        connection.start(&self.name, properties)?;
        Ok(holder)
    }

    /// Tells systemd of other limits, and waits until it has written its view of them.
    pub(super) fn set(&self, limits: &Limits, version: Version) -> Result<()> {
        Connection::new(self.user)?.set(&self.name, of_limits(limits, version))
    }

    /// Tells systemd what control files said before.
    pub(super) fn put_back<'a>(&self, files: impl Iterator<Item = (&'a str, &'a str)>, version: Version) -> Result<()> {
        Connection::new(self.user)?.set(&self.name, of_files(files, version))
    }

    /// Ends the scope, which nobody is in any more, and waits until systemd has forgotten it: its name can be used again.
    pub(super) fn stop(&self) -> Result<()> {
        Connection::new(self.user)?.stop(&self.name)
    }

    /// The kernel lets a user move a process only within a part of the tree that is his: from a login session, which
    /// belongs to root, we first become a scope of his systemd ourselves.
    pub(super) fn come_closer(&self) -> Result<()> {
        if self.user { Connection::new(true)?.come_closer() } else { Ok(()) }
    }
}

/// `prefix-name.scope`; systemd.unit(5) says which characters there may be.
fn unit_name(prefix: &str, name: &str) -> Result<String> {
    if name.ends_with(".slice") {
        return Err(Error::new(format!("a container is a scope, {name:?} is a slice")).at(AT));
    }
    let unit = if prefix.is_empty() { format!("{name}.scope") } else { format!("{prefix}-{name}.scope") };
    let fits = |c: char| c.is_ascii_alphanumeric() || "_.:-@\\".contains(c);
    match !name.is_empty() && unit.len() < 256 && unit.chars().all(fits) && !unit.starts_with(['.', '_']) {
        true => Ok(unit),
        false => Err(Error::new(format!("{unit:?} cannot be the name of a systemd unit")).at(AT)),
    }
}

/// The directory of a slice: `a-b.slice` is in `a.slice`, systemd.slice(5).
fn expand_slice(slice: &str) -> Result<String> {
    let refuse = || Error::new(format!("invalid slice name {slice:?}")).at(AT).hint("such as system.slice or a-b.slice");
    let stem = slice.strip_suffix(".slice").filter(|_| slice.len() < 256).ok_or_else(refuse)?;
    if stem == "-" {
        return Ok(String::new());
    }
    let fits =
        |part: &&str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "_.:@\\".contains(c)) && !part.starts_with('.');
    let parts: Vec<&str> = stem.split('-').collect();
    if !parts.iter().all(fits) {
        return Err(refuse());
    }
    Ok((1..=parts.len()).map(|count| format!("/{}.slice", parts[..count].join("-"))).collect())
}

/// What every scope of ours has. Device rules are ours alone (docs/decisions/0012-systemd.md): with DevicePolicy=auto and no
/// DeviceAllow systemd attaches nothing, and so takes nothing away when it reads its units again.
fn scope(description: &str, slice: &str, pid: i32, version: Version) -> Vec<Property> {
    let io = if version == Version::V1 { "BlockIOAccounting" } else { "IOAccounting" };
    let yes = |name: &str| property(name, Value::Bool(true));
    vec![
        property("Description", Value::text(description)),
        property("Slice", Value::text(slice)),
        property("PIDs", Value::Array("u".into(), vec![Value::U32(pid.cast_unsigned())])),
        yes("Delegate"),
        yes("MemoryAccounting"),
        yes("CPUAccounting"),
        yes(io),
        yes("TasksAccounting"),
        property("DefaultDependencies", Value::Bool(false)),
        // A scope whose processes were killed is not kept as a failed one.
        property("CollectMode", Value::text("inactive-or-failed")),
    ]
}

/// A conversation with one systemd.
struct Connection {
    bus: Bus,
    user: bool,
    /// The unique name under which systemd answers: signals are believed from nobody else.
    systemd: String,
    subscribed: bool,
}

impl Connection {
    fn new(user: bool) -> Result<Self> {
        Ok(Self { bus: Bus::connect(user)?, user, systemd: String::new(), subscribed: false })
    }

    fn call(&mut self, method: Method, arguments: &[Value]) -> Result<std::result::Result<Vec<Value>, Refusal>> {
        let answer = self.bus.call(method, arguments)?;
        Ok(answer.map(|message| {
            if method.destination == SYSTEMD {
                self.systemd = message.sender;
            }
            message.body
        }))
    }

    /// A call that must succeed.
    fn must(&mut self, method: Method, arguments: &[Value]) -> Result<Vec<Value>> {
        self.call(method, arguments)?.map_err(|refusal| Error::new(format!("systemd refuses {}: {}", method.member, refusal.text)))
    }

    /// From now on systemd tells of jobs that have ended.
    fn subscribe(&mut self) -> Result<()> {
        if std::mem::replace(&mut self.subscribed, true) {
            return Ok(());
        }
        let bus = "org.freedesktop.DBus";
        let add = Method { destination: bus, path: "/org/freedesktop/DBus", interface: bus, member: "AddMatch" };
        let rule = format!("type='signal',sender='{SYSTEMD}',interface='org.freedesktop.systemd1.Manager',member='JobRemoved'");
        self.must(add, &[Value::text(rule)])?;
        self.must(manager("Subscribe"), &[]).map(drop)
    }

    /// A property of systemd itself.
    fn property(&mut self, name: &str) -> Result<Value> {
        let get = Method { interface: "org.freedesktop.DBus.Properties", ..manager("Get") };
        let interface = Value::text("org.freedesktop.systemd1.Manager");
        match self.must(get, &[interface, Value::text(name)])?.pop() {
            Some(Value::Variant(value)) => Ok(*value),
            _ => Err(Error::new(format!("systemd does not tell its property {name}"))),
        }
    }

    /// Where this systemd's part of the tree begins, below the mount of cgroup2.
    fn control_group(&mut self) -> Result<String> {
        match self.property("ControlGroup")? {
            Value::Str(path) if !path.split('/').any(|part| part == "..") => Ok(path.trim_end_matches('/').to_string()),
            other => Err(Error::new(format!("systemd's own cgroup is none: {other:?}"))),
        }
    }

    /// Leaves out what this version of systemd does not know: the files have it all the same.
    fn known(&mut self, mut properties: Vec<Property>) -> Result<Vec<Property>> {
        if properties.iter().any(|property| property.since > 0) {
            let text = if let Value::Str(text) = self.property("Version")? { text } else { String::new() };
            let digits: String = text.chars().skip_while(|c| !c.is_ascii_digit()).take_while(char::is_ascii_digit).collect();
            let version = digits.parse().unwrap_or(0);
            properties.retain(|property| property.since <= version);
        }
        Ok(properties)
    }

    fn start(&mut self, unit: &str, properties: Vec<Property>) -> Result<()> {
        self.subscribe()?;
        let auxiliary = Value::Array("(sa(sv))".into(), Vec::new());
        let arguments = [Value::text(unit), Value::text("replace"), pairs(self.known(properties)?), auxiliary];
        let mut answer = self.call(manager("StartTransientUnit"), &arguments)?;
        if answer.as_ref().is_err_and(|refusal| refusal.name.ends_with(".UnitExists")) {
            // One that failed is still there; one that runs stays as it is.
            let _ = self.call(manager("ResetFailedUnit"), &[Value::text(unit)])?;
            answer = self.call(manager("StartTransientUnit"), &arguments)?;
        }
        let job = answer.map_err(|refusal| {
            let error = failed("start", unit, &refusal.text).at(AT);
            if refusal.name.ends_with(".UnitExists") { error.hint("another container or service uses it") } else { error.nowhere() }
        })?;
        self.done("start", unit, &job).inspect_err(|_| {
            // It is queued perhaps, and would come to be when nobody waits for it any more.
            let _ = self.call(manager("StopUnit"), &[Value::text(unit), Value::text("replace")]);
        })
    }

    /// Waits for the end of a job.
    fn done(&mut self, verb: &str, unit: &str, answer: &[Value]) -> Result<()> {
        let [Value::Path(job)] = answer else { return Err(failed(verb, unit, "systemd did not answer with a job")) };
        let systemd = self.systemd.clone();
        let removed = |message: &Message| match &message.body[..] {
            [_, Value::Path(ended), _, Value::Str(result)]
                if message.member == "JobRemoved" && message.sender == systemd && ended == job =>
            {
                Some(result.clone())
            }
            _ => None,
        };
        match self.bus.wait(&format!("the job to {verb} {unit}"), removed)?.as_str() {
            "done" => Ok(()),
            result => Err(failed(verb, unit, &format!("the job ended as {result:?}")).hint("the journal of systemd says why")),
        }
    }

    fn set(&mut self, unit: &str, properties: Vec<Property>) -> Result<()> {
        if properties.is_empty() {
            return Ok(());
        }
        let arguments = [Value::text(unit), Value::Bool(true), pairs(self.known(properties)?)];
        self.call(manager("SetUnitProperties"), &arguments)?.map_err(|refusal| failed("change", unit, &refusal.text))?;
        // It writes the files before it looks at the next message; ours, more exact, come after that.
        self.must(Method { interface: "org.freedesktop.DBus.Peer", ..manager("Ping") }, &[]).map(drop)
    }

    fn stop(&mut self, unit: &str) -> Result<()> {
        self.subscribe()?;
        match self.call(manager("StopUnit"), &[Value::text(unit), Value::text("replace")])? {
            Ok(job) => self.done("stop", unit, &job)?,
            // It ended when its last process did.
            Err(refusal) if refusal.name.ends_with(".NoSuchUnit") => return Ok(()),
            Err(refusal) => return Err(failed("stop", unit, &refusal.text)),
        }
        match self.call(manager("ResetFailedUnit"), &[Value::text(unit)])? {
            Err(refusal) if !refusal.name.ends_with(".NoSuchUnit") => Err(failed("forget", unit, &refusal.text)),
            _ => Ok(()),
        }
    }

    fn come_closer(&mut self) -> Result<()> {
        if !self.user {
            return Ok(());
        }
        let text = get(CWD, "/proc/self/cgroup").context(|| "read /proc/self/cgroup")?;
        let own = own_paths(&text).find(|(controllers, _)| controllers.is_empty()).map_or("", |(_, path)| path).to_string();
        if own.starts_with(&format!("{}/", self.control_group()?)) {
            return Ok(());
        }
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        self.start(&format!("keel-{pid}.scope"), scope(&format!("keel, process {pid}"), "user.slice", pid, Version::V2))
    }
}

/// `a(sv)`
fn pairs(properties: Vec<Property>) -> Value {
    let pair = |p: Property| Value::Struct(vec![Value::Str(p.name), Value::Variant(Box::new(p.value))]);
    Value::Array("(sv)".into(), properties.into_iter().map(pair).collect())
}

#[cfg(test)]
mod tests {
    use super::{expand_slice, unit_name};

    #[test]
    fn slices_and_units_have_their_places() {
        let slice = |name: &str| expand_slice(name).ok();
        assert_eq!(slice("system.slice").as_deref(), Some("/system.slice"));
        assert_eq!(slice("a-b-c.slice").as_deref(), Some("/a.slice/a-b.slice/a-b-c.slice"));
        assert_eq!(slice("-.slice").as_deref(), Some(""));
        for bad in ["", "system", ".slice", "a--b.slice", "a/b.slice", "-a.slice", "../x.slice", "a-..slice"] {
            assert_eq!(slice(bad), None, "{bad}");
        }
        let unit = |prefix, name| unit_name(prefix, name).ok();
        assert_eq!(unit("keel", "x").as_deref(), Some("keel-x.scope"));
        assert_eq!(unit("", "x").as_deref(), Some("x.scope"));
        for (prefix, name) in [("keel", ""), ("a/b", "c"), ("a", "b c"), ("a", "b.slice"), ("a", "b\n"), ("..", "x")] {
            assert_eq!(unit(prefix, name), None, "{prefix} {name}");
        }
        assert_eq!(unit("a", &"x".repeat(260)), None);
    }
}
