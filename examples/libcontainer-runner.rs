//! A thin command line with runc's names on youki's library `libcontainer`: the second opinion of `tests/oracle.rs`, and one
//! more peer for `hack/bench --libcontainer PATH`.
//!
//! It does nothing of its own but parse, call, wait and say: what it costs and what a container of it sees is libcontainer's.
//! The `youki` program differs in one thing that can be measured: before every command it copies its executable into a sealed
//! memfd against CVE-2019-5736, which is not part of the library. So run no hostile image with this.

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand};
use libcontainer::container::Container;
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::signal::Signal;
use libcontainer::syscall::syscall::SyscallType;
use rustix::process::{Pid, WaitOptions, waitpid};
use std::path::PathBuf;
use std::process::{ExitCode, exit};

#[derive(Parser)]
#[command(name = "libcontainer-runner", about = "Runs OCI bundles with youki's libcontainer")]
struct Cli {
    /// Where the state of the containers is kept
    #[arg(long, default_value = "/run/libcontainer-runner")]
    root: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Makes a container that waits for start
    Create(Create),
    /// Starts the program of a created container
    Start { id: String },
    /// Create, start, wait, delete; exits as the program did
    Run {
        #[command(flatten)]
        create: Create,
        /// Return once the program runs; delete is left to the caller
        #[arg(long, short)]
        detach: bool,
    },
    /// Runs another program in a running container
    Exec(Exec),
    /// Prints the state as JSON
    State { id: String },
    /// Sends a signal to the init process
    Kill {
        /// Signal every process of the container
        #[arg(long, short)]
        all: bool,
        id: String,
        #[arg(default_value = "TERM")]
        signal: String,
    },
    /// Removes a stopped container
    Delete {
        /// Kill it first if it runs; no error if there is none
        #[arg(long, short)]
        force: bool,
        id: String,
    },
}

#[derive(Args)]
struct Create {
    /// The folder with config.json
    #[arg(long, short, default_value = ".")]
    bundle: PathBuf,
    #[arg(long)]
    pid_file: Option<PathBuf>,
    #[arg(long)]
    console_socket: Option<PathBuf>,
    #[arg(long, default_value_t = 0)]
    preserve_fds: i32,
    #[arg(long)]
    no_pivot: bool,
    id: String,
}

#[derive(Args)]
struct Exec {
    /// The process document (instead of a command)
    #[arg(long, short)]
    process: Option<PathBuf>,
    #[arg(long)]
    pid_file: Option<PathBuf>,
    #[arg(long, short)]
    detach: bool,
    id: String,
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

fn main() -> ExitCode {
    match command(&Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("libcontainer-runner: error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn command(cli: &Cli) -> Result<ExitCode> {
    match &cli.command {
        Command::Create(options) => {
            create(cli, options, true)?;
        }
        Command::Start { id } => load(cli, id)?.start().context("start")?,
        Command::Run { create: options, detach } => return run(cli, options, *detach),
        Command::Exec(options) => return exec(cli, options),
        Command::State { id } => println!("{}", serde_json::to_string_pretty(&load(cli, id)?.state)?),
        Command::Kill { all, id, signal } => {
            let signal = Signal::try_from(signal.as_str()).with_context(|| format!("signal {signal:?}"))?;
            load(cli, id)?.kill(signal, *all).context("kill")?;
        }
        Command::Delete { force, id } if *force && !cli.root.join(id).exists() => {}
        Command::Delete { force, id } => load(cli, id)?.delete(*force).context("delete")?,
    }
    Ok(ExitCode::SUCCESS)
}

fn builder(cli: &Cli, id: &str) -> Result<ContainerBuilder> {
    Ok(ContainerBuilder::new(id.to_owned(), SyscallType::default()).validate_id()?.with_root_path(&cli.root)?)
}

fn load(cli: &Cli, id: &str) -> Result<Container> {
    let state = cli.root.join(id);
    if !state.exists() {
        bail!("container {id} does not exist");
    }
    Container::load(state).with_context(|| format!("load the state of {id}"))
}

fn create(cli: &Cli, options: &Create, detach: bool) -> Result<Container> {
    builder(cli, &options.id)?
        .with_pid_file(options.pid_file.as_ref())?
        .with_console_socket(options.console_socket.as_ref())
        .with_preserved_fds(options.preserve_fds)
        .as_init(&options.bundle)
        .with_systemd(false)
        .with_detach(detach)
        .with_no_pivot(options.no_pivot)
        .build()
        .with_context(|| format!("create {}", options.id))
}

fn run(cli: &Cli, options: &Create, detach: bool) -> Result<ExitCode> {
    let mut container = create(cli, options, detach)?;
    container.start().context("start")?;
    if detach {
        return Ok(ExitCode::SUCCESS);
    }
    let pid = container.pid().context("the container has no process")?;
    let code = wait(pid.as_raw())?;
    container.delete(true).context("delete")?;
    exit(code)
}

fn exec(cli: &Cli, options: &Exec) -> Result<ExitCode> {
    let pid = builder(cli, &options.id)?
        .with_pid_file(options.pid_file.as_ref())?
        .as_tenant()
        .with_detach(options.detach)
        .with_process(options.process.as_ref())
        .with_container_args(options.args.clone())
        .build()
        .with_context(|| format!("exec in {}", options.id))?;
    if options.detach {
        return Ok(ExitCode::SUCCESS);
    }
    exit(wait(pid.as_raw())?)
}

/// Waits for a child (libcontainer clones with CLONE_PARENT, so that init is ours) and gives runc's exit code: the program's
/// own, or 128 + the signal that ended it.
fn wait(pid: i32) -> Result<i32> {
    loop {
        match waitpid(Pid::from_raw(pid), WaitOptions::empty()) {
            Ok(Some((_, status))) if status.exited() => return Ok(status.exit_status().unwrap_or_default()),
            Ok(Some((_, status))) if status.signaled() => return Ok(128 + status.terminating_signal().unwrap_or_default()),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).with_context(|| format!("wait for process {pid}")),
        }
    }
}
