//! `--trace`: when each step of a command began and ended, on the host and in the child, in Chrome's Trace Event Format
//! (chrome://tracing, Perfetto, speedscope read it).

use crate::plan::{Op, Plan};
use crate::sandbox::failure;
use crate::sys::{Context, Error, Log, Result, Steps, now, rfc3339};
use serde_json::{Map, Value, json};
use std::cell::RefCell;
use std::fs::File;
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};

/// Runs a command with its timeline, which is written whatever becomes of the command. The caller has passed so many
/// descriptors from 3 on.
pub(super) fn traced<T>(path: Option<&Path>, preserve_fds: u32, log: &Log, command: impl FnOnce(&Timeline) -> Result<T>) -> Result<T> {
    let timeline = Timeline::open(path, preserve_fds + super::listen_fds())?;
    let done = command(&timeline);
    if let (Err(error), Ok(_)) = (timeline.write(), &done) {
        // On failure podman wants exactly one line in the log, which is about the container.
        log.warning(&error.to_string());
    }
    done
}

/// What is written down while a command runs; nothing, unless somebody asked for it.
pub(super) struct Timeline(Option<Open>);

struct Open {
    file: File,
    path: PathBuf,
    begun: u64,
    spans: RefCell<Vec<Span>>,
    child: RefCell<Vec<Value>>,
}

/// A step of the host; times in nanoseconds since 1970, an `ended` of 0 is not reached yet.
struct Span {
    name: String,
    at: String,
    begun: u64,
    ended: u64,
    error: Option<String>,
}

impl Timeline {
    /// For commands without `--trace`.
    pub const OFF: Self = Self(None);

    /// Makes the file, so that one that cannot be written is told before anything is touched. `descriptors` from 3 on are
    /// the caller's: each has to be open by now, or the file would get its number.
    fn open(path: Option<&Path>, descriptors: u32) -> Result<Self> {
        let Some(path) = path else { return Ok(Self::OFF) };
        let begun = now();
        crate::arm::preserved(descriptors)?;
        let file = File::create(path).context(|| format!("make the timeline {}", path.display()))?;
        Ok(Self(Some(Open { file, path: path.to_owned(), begun, spans: RefCell::default(), child: RefCell::default() })))
    }

    /// Runs a step of the host. `at` is its place in config.json, or empty.
    pub fn step<T>(&self, name: &str, at: &str, act: impl FnOnce() -> Result<T>) -> Result<T> {
        let Some(open) = &self.0 else { return act() };
        let number = open.spans.borrow().len();
        open.spans.borrow_mut().push(Span { name: name.into(), at: at.into(), begun: now(), ended: 0, error: None });
        let done = act();
        let span = &mut open.spans.borrow_mut()[number];
        span.ended = now();
        span.error = done.as_ref().err().map(Error::to_string);
        done
    }

    /// Memory for the times of a child, if anybody asked.
    pub fn steps(&self, plan: &Plan) -> Result<Option<Steps>> {
        self.0.as_ref().map(|_| Steps::new(plan.ops.len())).transpose()
    }

    /// Takes over what a child and its parent have noted of a plan.
    pub fn child(&self, plan: &Plan, steps: Option<Steps>) {
        if let (Some(open), Some(steps)) = (&self.0, steps) {
            *open.child.borrow_mut() = Child { plan, steps, zero: open.begun, until: now() }.events();
        }
    }

    /// Writes what is known so far: once the program runs, and again at the end.
    pub fn write(&self) -> Result<()> {
        let Some(open) = &self.0 else { return Ok(()) };
        let host = std::process::id();
        let mut events = vec![json!({"ph": "M", "name": "process_name", "pid": host, "tid": host, "args": {"name": "keel"}})];
        for span in open.spans.borrow().iter() {
            let mut args = Map::new();
            args.extend((!span.at.is_empty()).then(|| ("at".into(), json!(span.at))));
            args.extend(span.error.as_ref().map(|error| ("error".into(), json!(error))));
            args.extend((span.ended == 0).then(|| ("unfinished".into(), json!(true))));
            let ended = if span.ended == 0 { now() } else { span.ended };
            events.push(event(&span.name, "host", host, open.begun, (span.begun, ended), args));
        }
        events.extend(open.child.borrow().iter().cloned());
        let (seconds, nanoseconds) = (open.begun / 1_000_000_000, open.begun % 1_000_000_000);
        let begun = rfc3339(seconds.cast_signed(), nanoseconds.cast_signed());
        let document = json!({"displayTimeUnit": "ns", "otherData": {"begun": begun}, "traceEvents": events});
        let mut file = &open.file;
        let written = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{document}"));
        written.context(|| format!("write the timeline {}", open.path.display()))
    }
}

/// A complete event: begin and length in microseconds since the command began, with the nanoseconds as a fraction.
fn event(name: &str, category: &str, pid: u32, zero: u64, (begun, ended): (u64, u64), args: Map<String, Value>) -> Value {
    let micros = |nanoseconds: u64| nanoseconds as f64 / 1000.0;
    let (ts, dur) = (micros(begun.saturating_sub(zero)), micros(ended.saturating_sub(begun)));
    json!({"ph": "X", "name": name, "cat": category, "pid": pid, "tid": pid, "ts": ts, "dur": dur, "args": args})
}

/// A plan, and the times of its operations.
struct Child<'a> {
    plan: &'a Plan,
    steps: Steps,
    zero: u64,
    /// When the parent knew how it ended.
    until: u64,
}

impl Child<'_> {
    fn events(&self) -> Vec<Value> {
        let (host, pid) = (std::process::id(), self.steps.get_pid().cast_unsigned());
        let mut events = Vec::new();
        let (begun, ended, _) = self.steps.cloned().read();
        if begun != 0 {
            let args = Map::from_iter([("does".into(), json!(self.plan.clone_sentence()))]);
            events.push(event("clone", "host", host, self.zero, (begun, if ended == 0 { self.until } else { ended }), args));
        }
        if pid == 0 {
            return events;
        }
        let name = json!({"name": "the container's process"});
        events.push(json!({"ph": "M", "name": "process_name", "pid": pid, "tid": pid, "args": name}));
        for index in 0..self.plan.ops.len() {
            let (begun, ended, _) = self.steps.parent(index).read();
            if let (true, Op::Sync(stage)) = (begun != 0, &self.plan.ops[index]) {
                let answer = format!("answer {}", format!("{stage:?}").split('(').next().unwrap_or_default());
                let (times, args) =
                    ((begun, if ended == 0 { self.until } else { ended }), Map::from_iter([("index".into(), json!(index))]));
                events.push(event(&answer, "host", host, self.zero, times, args));
            }
            events.extend(self.operation(index, pid));
        }
        events
    }

    fn operation(&self, index: usize, pid: u32) -> Option<Value> {
        let op = &self.plan.ops[index];
        let (begun, ended, errno) = self.steps.child(index).read();
        if begun == 0 && errno == 0 {
            return None;
        }
        let at = op.at(&self.plan.trees, &self.plan.joins).to_string();
        let mut args = Map::from_iter([("index".into(), json!(index)), ("does".into(), json!(self.plan.sentence(op)))]);
        args.extend((!at.is_empty()).then(|| ("at".into(), json!(at))));
        let (answered, silent) = (self.steps.parent(index).read().1, self.silent(index));
        let ended = match (ended, answered) {
            _ if errno != 0 => {
                args.insert("error".into(), json!(failure(self.plan, index as u32, errno).to_string()));
                self.until
            }
            (0, _) if !silent.is_empty() => {
                // The operations under the seccomp filter, which read no clock.
                args.insert("with".into(), json!(silent.iter().map(|i| self.plan.ops[*i].name()).collect::<Vec<_>>()));
                self.until
            }
            // Let go a moment ago, it may not have taken its reading yet.
            (0, answered) if answered != 0 => answered,
            (0, _) => {
                args.insert("unfinished".into(), json!(true));
                self.until
            }
            (ended, _) => ended,
        };
        // Failed under the filter: all that is known is that it did by now.
        let begun = if begun == 0 { self.until } else { begun };
        Some(event(&op.name(), "child", pid, self.zero, (begun, ended), args))
    }

    /// The operations after this one that took no reading though the program was executed.
    fn silent(&self, index: usize) -> Vec<usize> {
        let last = self.plan.ops.len() - 1;
        let executed = self.steps.child(last).read().1 != 0;
        let silent = |i: &usize| self.steps.child(*i).read().0 == 0;
        if executed { (index + 1..=last).take_while(silent).collect() } else { Vec::new() }
    }
}
