//! The command line of `mydocker`. `run` is a table; an error is printed once, here.

mod args;
mod commit;
mod cp;
mod create;
mod doctor;
mod events;
mod exec;
pub mod filter;
mod images;
mod inspect;
mod logs;
pub mod names;
mod networks;
pub mod options;
pub mod pages;
pub mod progress;
mod prune;
mod ps;
mod quick;
mod run;
mod session;
mod stats;
mod stop;
mod streams;
mod system;
pub mod table;
pub mod template;
pub mod time;
mod top;
pub mod units;
mod update;
pub mod visible;
mod volumes;
pub mod words;

use super::container::{Container, Containers, State};
use super::files::Dirs;
use super::{monitor, userns};
use crate::store::ProcessId;
use crate::sys::{Context, Error, Kind, Result};
use args::{Cli, Command, ContainerCommand, ContainersCommand};
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use std::cell::Cell;
use std::ffi::OsString;
use std::io::Write;

/// docker's exit code for its own failures of `run`, `create` and `exec`.
const OURS: i32 = 125;

/// Runs one command; the exit code.
pub fn run(args: Vec<OsString>) -> i32 {
    if args.first().is_some_and(|name| name.as_encoded_bytes().ends_with(b"docker-init")) {
        return super::monitor::init(&args);
    }
    if let Some(code) = monitor(&args) {
        return code;
    }
    // The monitor stays when we have ended, and is to hold nothing of the caller's open until then.
    if let Err(error) = crate::arm::close_leaked(0) {
        let _ = writeln!(std::io::stderr(), "mydocker: {error}");
        return OURS;
    }
    let cli = match quick::parse(&args).map_or_else(|| Cli::try_parse_from(&args), Ok) {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let dirs = match Dirs::new(cli.root.as_deref()) {
        Ok(dirs) => Dirs { run: cli.run_root.clone().unwrap_or_else(|| dirs.run.clone()), ..dirs },
        Err(error) => return fail(&cli.command, &error),
    };
    match dispatch(&cli.command, &dirs, &args) {
        Ok(code) => code,
        Err(error) => fail(&cli.command, &error),
    }
}

/// The monitor's own command line, as [`monitor::begin`] writes it: to read it by clap would take longer than all else of its start,
/// and memory for as long as it stays.
fn monitor(args: &[OsString]) -> Option<i32> {
    match args {
        [_, root, data, run_root, run, command, id]
            if root == "--root" && run_root == "--run-root" && command.as_os_str() == monitor::COMMAND =>
        {
            crate::sys::retire_arena();
            let dirs = Dirs { data: data.into(), run: run.into() };
            Some(id.to_str().map_or(1, |id| monitor::main(&dirs, id)))
        }
        _ => None,
    }
}

fn dispatch(command: &Command, dirs: &Dirs, args: &[OsString]) -> Result<i32> {
    if !matches!(command, Command::Version(_) | Command::Completion { .. } | Command::Man { .. }) {
        userns::enter(dirs, || monitors(dirs))?;
    }
    match command {
        Command::Container(command) | Command::Containers { command: ContainersCommand::Any(command) } => {
            on_containers(command, dirs, args)
        }
        Command::Containers { command: ContainersCommand::Ls(options) } => ps::ps(options, dirs),
        Command::Containers { command: ContainersCommand::Inspect(options) } => inspect::inspect_containers(options, dirs),
        Command::Containers { command: ContainersCommand::Prune(options) } => prune::containers(options, dirs),
        Command::Network { command } => networks::run(command, dirs),
        Command::Volume { command } => volumes::run(command, dirs),
        Command::System { command } => system::run(command, dirs),
        Command::Events(options) => events::events(options, dirs),
        Command::Info(options) => system::info(options, dirs),
        Command::Version(options) => system::version(options),
        Command::Completion { shell } => pages::completion(&mut Cli::command(), shell, &mut std::io::stdout().lock()).map(|()| 0),
        Command::Man { directory } => pages::man(Cli::command(), directory).map(|()| 0),
        Command::Image(command) => images::run(command, dirs),
        Command::Inspect(options) => inspect::inspect(options, dirs),
    }
}

/// The monitors and programs of all containers that are up.
fn monitors(dirs: &Dirs) -> Vec<ProcessId> {
    let containers = Containers::new(dirs).list().unwrap_or_default();
    let states = containers.iter().filter_map(|container| container.state().ok().map(|state| (container, state)));
    let alive = |(container, state): (&Container, State)| {
        let monitor = state.monitor.filter(|_| container.monitored(&state));
        monitor.or(state.process.filter(|_| container.process(&state).is_some()))
    };
    states.filter_map(alive).collect()
}

fn on_containers(command: &ContainerCommand, dirs: &Dirs, args: &[OsString]) -> Result<i32> {
    match command {
        ContainerCommand::Run(options) => run::run(options, dirs),
        ContainerCommand::Create(options) => run::create(options, dirs),
        ContainerCommand::Start(options) => run::start(options, dirs),
        ContainerCommand::Stop(options) => stop::stop(options, dirs),
        ContainerCommand::Restart(options) => stop::restart(options, dirs),
        ContainerCommand::Kill(options) => stop::kill(options, dirs),
        ContainerCommand::Rm(options) => stop::rm(options, dirs),
        ContainerCommand::Exec(options) => exec::exec(options, dirs, args),
        ContainerCommand::Attach(options) => run::attach(options, dirs),
        ContainerCommand::Logs(options) => logs::logs(options, dirs),
        ContainerCommand::Ps(options) => ps::ps(options, dirs),
        ContainerCommand::Wait(options) => stop::wait(options, dirs),
        ContainerCommand::Pause(options) => stop::pause(options, dirs),
        ContainerCommand::Unpause(options) => stop::unpause(options, dirs),
        ContainerCommand::Commit(options) => commit::commit(options, dirs),
        ContainerCommand::Cp(options) => cp::cp(options, dirs),
        ContainerCommand::Diff(options) => commit::diff(options, dirs),
        ContainerCommand::Export(options) => commit::export(options, dirs),
        ContainerCommand::Rename(options) => stop::rename(options, dirs),
        ContainerCommand::Top(options) => top::top(options, dirs),
        ContainerCommand::Port(options) => top::port(options, dirs),
        ContainerCommand::Stats(options) => stats::stats(options, dirs),
        ContainerCommand::Update(options) => update::update(options, dirs),
    }
}

thread_local! {
    /// The exit code that a failure asked for.
    static CODE: Cell<Option<i32>> = const { Cell::new(None) };
}

/// Gives the error the exit code that docker has for it.
fn with_code(code: i32, error: Error) -> Error {
    CODE.set(Some(code));
    error
}

/// The one place where an error is printed.
fn fail(command: &Command, error: &Error) -> i32 {
    let _ = writeln!(std::io::stderr(), "mydocker: {error}");
    let (Command::Container(inner) | Command::Containers { command: ContainersCommand::Any(inner) }) = command else {
        return CODE.get().unwrap_or(1);
    };
    let runs = matches!(inner, ContainerCommand::Run(_) | ContainerCommand::Create(_));
    let default = if runs { OURS } else { 1 };
    CODE.get().unwrap_or(if error.get_kind() == Kind::Exec { 126 } else { default })
}

/// Help goes to stdout with 0; a wrong command line to stderr with docker's 125.
fn usage(error: &clap::Error) -> i32 {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            print(&error.to_string()).map_or(1, |()| 0)
        }
        _ => {
            let _ = write!(std::io::stderr(), "{error}");
            OURS
        }
    }
}

/// Does something to each; what fails is told, the rest goes on, and the exit code is 1.
fn each(names: &[String], mut act: impl FnMut(&str) -> Result<()>) -> Result<i32> {
    let mut code = 0;
    for name in names {
        if let Err(error) = act(name) {
            let _ = writeln!(std::io::stderr(), "mydocker: {error}");
            code = 1;
        }
    }
    Ok(code)
}

/// To stdout, whole.
fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context(|| "write to stdout")
}
