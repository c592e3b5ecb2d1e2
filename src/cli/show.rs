//! Commands that only show.

use super::args::{self, Format, PlanFormat};
use super::print;
use crate::lifecycle::{self, CreateOptions, Finding, Runtime, State};
use crate::plan::Op;
use crate::spec;
use crate::store::ContainerId;
use crate::sys::{Context, Error, Log, Result};
use serde_json::{Value, json};
use std::fmt::Write;

fn json_text(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string_pretty(value).map(|text| text + "\n").map_err(|e| Error::new(format!("write JSON: {e}")))
}

pub fn state(options: &args::Id, runtime: &Runtime) -> Result<i32> {
    let state = lifecycle::state(runtime, &ContainerId::new(&options.id)?)?;
    print(&json_text(&state)?).map(|()| 0)
}

pub fn features() -> Result<i32> {
    print(&json_text(&spec::features())?).map(|()| 0)
}

pub fn list(options: &args::List, runtime: &Runtime) -> Result<i32> {
    if options.quiet {
        let ids = runtime.root.list()?;
        return print(&ids.iter().fold(String::new(), |text, id| text + id.as_str() + "\n")).map(|()| 0);
    }
    let states = lifecycle::states(runtime)?;
    let text = match options.format {
        Format::Json if states.is_empty() => "null\n".into(),
        Format::Json => serde_json::to_string(&states).map_err(|e| Error::new(format!("write JSON: {e}")))? + "\n",
        Format::Table => table(&states),
    };
    print(&text).map(|()| 0)
}

/// runc's columns, three spaces apart.
fn table(states: &[State]) -> String {
    let header = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(String::from);
    let row = |s: &State| {
        let status = json!(s.status).as_str().unwrap_or_default().to_owned();
        [s.id.clone(), s.pid.to_string(), status, s.bundle.display().to_string(), s.created.clone(), s.owner.clone()]
    };
    let rows: Vec<_> = std::iter::once(header).chain(states.iter().map(row)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0) + 3;
    let widths: [usize; 6] = std::array::from_fn(width);
    rows.iter().fold(String::new(), |mut text, row| {
        for (cell, width) in row.iter().zip(widths) {
            let _ = write!(text, "{cell:<width$}");
        }
        text.truncate(text.trim_end().len());
        text + "\n"
    })
}

/// As a table through ps(1), of which the lines with the container's pids are kept.
pub fn ps(options: &args::Ps, runtime: &Runtime) -> Result<i32> {
    let pids = lifecycle::processes(runtime, &ContainerId::new(&options.id)?)?;
    if options.format == Format::Json {
        return print(&(json!(pids).to_string() + "\n")).map(|()| 0);
    }
    let args = if options.args.is_empty() { vec!["-ef".to_owned()] } else { options.args.clone() };
    let output = std::process::Command::new("ps").args(&args).output().context(|| "execute ps (Debian package procps)")?;
    if !output.status.success() {
        return Err(Error::new(format!("ps {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim())));
    }
    let all = String::from_utf8_lossy(&output.stdout);
    let mut lines = all.lines();
    let header = lines.next().unwrap_or_default();
    let column = header.split_whitespace().position(|name| name == "PID");
    let column = column.ok_or_else(|| Error::new(format!("ps {} prints no PID column", args.join(" "))))?;
    let ours = |line: &&str| {
        let pid = line.split_whitespace().nth(column).and_then(|field| field.parse().ok());
        pid.is_some_and(|pid| pids.contains(&pid))
    };
    let kept = lines.filter(ours).fold(format!("{header}\n"), |text, line| text + line + "\n");
    print(&kept).map(|()| 0)
}

pub fn plan(options: &args::Plan, runtime: &Runtime, log: &Log) -> Result<i32> {
    let chosen = CreateOptions { bundle: options.bundle.clone(), no_pivot: options.no_pivot, ..CreateOptions::default() };
    let (plan, warnings) = lifecycle::plan(runtime, &ContainerId::new(&options.id)?, &chosen)?;
    warnings.iter().for_each(|warning| log.warning(warning));
    let place = |op: &Op| op.at(&plan.trees, &plan.joins).to_string();
    let text = match options.format {
        PlanFormat::Text => plan.text(),
        PlanFormat::Json => {
            let row = |(i, op): (usize, &Op)| -> Value { json!({"index": i, "op": op.name(), "does": plan.sentence(op), "at": place(op)}) };
            let ops: Vec<Value> = plan.ops.iter().enumerate().map(row).collect();
            json_text(&json!({"clone": plan.clone_sentence(), "ops": ops}))?
        }
    };
    print(&text).map(|()| 0)
}

/// One line for each finding, errors first; 1 if there is an error.
pub fn validate(options: &args::Validate, runtime: &Runtime) -> Result<i32> {
    let chosen = CreateOptions { bundle: options.bundle.clone(), ..CreateOptions::default() };
    let findings = lifecycle::lint(runtime, &ContainerId::new("validate")?, &chosen);
    let text = findings.iter().fold(String::new(), |text, finding| match finding {
        Finding::Error(error) => text + &format!("error: {error}\n"),
        Finding::Warning(words) => text + &format!("warning: {}\n", crate::sys::plain(words)),
    });
    print(&text)?;
    Ok(i32::from(findings.iter().any(|finding| matches!(finding, Finding::Error(_)))))
}
