//! Room `cli`: the command line of `keel`. `run` is a table; an error is printed once, here.

mod args;
mod checkpoint;
mod commands;
mod events;
mod exec;
mod go_flags;
mod quick;
mod show;
mod update;

use crate::arm;
use crate::cgroup::Manager;
use crate::lifecycle::Runtime;
use crate::store::Root;
use crate::sys::{Error, Log, Result};
use args::{CgroupManager, Cli, Command};
use clap::error::ErrorKind;
use std::ffi::OsString;
use std::io::Write;

/// The commit, if the build knew it.
const COMMIT: Option<&str> = option_env!("KEEL_COMMIT");

/// Runs one command; the exit code.
pub fn run(args: Vec<OsString>) -> i32 {
    let protected = arm::protect_early(&args);
    let cli = match quick::parse(&args).map_or_else(|| go_flags::parse::<Cli>(&args), Ok) {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    if cli.version {
        return print(&version()).map_or_else(|error| fail(None, &error), |()| 0);
    }
    let log = match Log::open(cli.globals.log.as_deref(), cli.globals.log_format == args::LogFormat::Json, cli.globals.debug) {
        Ok(log) => log,
        Err(error) => return fail(None, &error),
    };
    let Some(command) = &cli.command else {
        return fail(Some(&log), &Error::new("no command").hint("keel --help lists them"));
    };
    let log = if command.starts_a_program() { log.quiet() } else { log };
    let done = protected.and_then(|()| runtime(&cli)).and_then(|runtime| dispatch(&cli, command, &runtime, &log, &args));
    match done {
        Ok(code) => code,
        Err(error) => {
            log.error(&error.to_string());
            // runc's exec says 255, so that it cannot be taken for the program's 1.
            if matches!(command, Command::Exec(_)) { 255 } else { 1 }
        }
    }
}

fn dispatch(cli: &Cli, command: &Command, runtime: &Runtime, log: &Log, args: &[OsString]) -> Result<i32> {
    match command {
        Command::Create(options) => commands::create(options, runtime, log, args),
        Command::Run(options) => commands::run(options, runtime, log, args),
        Command::Exec(options) => exec::exec(options, runtime, log, args),
        Command::Start(options) => commands::start(options, runtime, log, args),
        Command::State(options) => show::state(options, runtime),
        Command::Kill(options) => commands::kill(options, runtime),
        Command::Delete(options) => commands::delete(options, runtime, log),
        Command::List(options) => show::list(options, runtime),
        Command::Ps(options) => show::ps(options, runtime),
        Command::Pause(options) => commands::pause(options, runtime),
        Command::Resume(options) => commands::resume(options, runtime),
        Command::Spec(options) => commands::spec(options),
        Command::Features => show::features(),
        Command::Plan(options) => show::plan(options, runtime, log),
        Command::Validate(options) => show::validate(options, runtime),
        Command::Update(options) => update::update(options, runtime, log),
        Command::Events(options) => events::events(options, runtime),
        Command::Checkpoint(options) => checkpoint::checkpoint(options, cli.globals.criu.as_deref(), runtime, log),
        Command::Restore(options) => checkpoint::restore(options, cli.globals.criu.as_deref(), runtime, log, args),
    }
}

fn runtime(cli: &Cli) -> Result<Runtime> {
    let manager = match cli.globals.cgroup_manager {
        Some(CgroupManager::Systemd) => Manager::Systemd,
        Some(CgroupManager::Disabled) => Manager::Disabled,
        None if cli.globals.systemd_cgroup => Manager::Systemd,
        Some(CgroupManager::Cgroupfs) | None => Manager::Cgroupfs,
    };
    let root = Root::new(cli.globals.root.as_deref())?;
    Ok(Runtime { root, manager })
}

/// Help goes to stdout with 0; a wrong command line to stderr with 1, as in runc.
fn usage(error: &clap::Error) -> i32 {
    match error.kind() {
        ErrorKind::DisplayHelp => print(&error.to_string()).map_or(1, |()| 0),
        _ => {
            let _ = write!(std::io::stderr(), "{error}");
            1
        }
    }
}

fn fail(log: Option<&Log>, error: &Error) -> i32 {
    match log {
        Some(log) => log.error(&error.to_string()),
        None => drop(writeln!(std::io::stderr(), "keel: error: {error}")),
    }
    1
}

fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    crate::sys::Context::context(out.write_all(text.as_bytes()).and_then(|()| out.flush()), || "write to stdout")
}

/// go-runc takes what follows `runc version ` at the start of the first line, docker what follows
/// the word `version` and the `commit:` line. So the first line says whose command line this is a
/// drop-in for, and who really speaks. A line more, as runc has for libseccomp, is read by neither.
fn version() -> String {
    let (keel, spec) = (env!("CARGO_PKG_VERSION"), crate::spec::VERSIONS.1);
    let commit = COMMIT.unwrap_or(concat!("v", env!("CARGO_PKG_VERSION")));
    format!("runc version 1.3.0 (keel {keel})\ncommit: {commit}\nspec: {spec}\nlibc: {}\n", crate::sys::c_library())
}
