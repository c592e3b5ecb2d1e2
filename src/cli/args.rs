//! What was typed. Flags and texts are runc's, so that callers need not know the difference.

mod criu;

pub use criu::{CgroupsMode, Checkpoint, Criu, EmptyNamespace, Restore};

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// An OCI container runtime that plans every start before it touches anything.
#[derive(Debug, Parser)]
#[command(name = "keel", disable_version_flag = true, subcommand_negates_reqs = true, args_override_self = true)]
pub struct Cli {
    #[command(flatten)]
    pub globals: Globals,
    /// Print the version
    #[arg(short = 'v', long)]
    pub version: bool,
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Flags before the command.
#[derive(Args, Debug)]
pub struct Globals {
    /// Directory of all containers' state [default: /run/keel, or $XDG_RUNTIME_DIR/keel for an ordinary user]
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Append messages to this file instead of writing them to stderr
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// Format of messages
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// Say each step
    #[arg(long)]
    pub debug: bool,
    /// Make cgroups through systemd
    #[arg(long)]
    pub systemd_cgroup: bool,
    /// Who makes cgroups
    #[arg(long, value_enum)]
    pub cgroup_manager: Option<CgroupManager>,
    /// Accepted for runc's callers: what an ordinary user may do is found out, not declared
    #[arg(long, value_name = "true|false|auto", num_args = 0..=1, require_equals = true, hide = true)]
    pub rootless: Option<Option<String>>,
    /// The program for `checkpoint` and `restore` [default: criu in $PATH]
    #[arg(long, value_name = "FILE")]
    pub criu: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CgroupManager {
    Cgroupfs,
    Systemd,
    Disabled,
}

#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant)] // one value a process
pub enum Command {
    /// Create a container; its program waits for `start`
    Create(Create),
    /// Start the program of a created container
    Start(Id),
    /// Create and start a container, and wait for its end
    Run(Run),
    /// Execute a process in a running container
    Exec(Exec),
    /// Print the state of a container
    State(Id),
    /// Send a signal to a container
    Kill(Kill),
    /// Delete a container
    Delete(Delete),
    /// List the containers
    #[command(alias = "ls")]
    List(List),
    /// Show the processes of a container
    Ps(Ps),
    /// Suspend the processes of a container
    Pause(Id),
    /// Resume a paused container
    Resume(Id),
    /// Write a sample config.json
    Spec(Spec),
    /// Print what this runtime can do, as JSON
    Features,
    /// Print what `create` would do, step by step, without doing it
    Plan(Plan),
    /// Print what is wrong with a bundle, by the specification and on this host
    Validate(Validate),
    /// Change the limits of a container
    Update(Update),
    /// Show what a container uses and when it runs out of memory
    Events(Events),
    /// Save a container's processes with CRIU, so that they can be restored
    Checkpoint(Checkpoint),
    /// Make a container of what `checkpoint` has saved
    Restore(Restore),
}

impl Command {
    /// Whether a container's program gets the standard descriptors of this command.
    pub fn starts_a_program(&self) -> bool {
        matches!(self, Self::Create(_) | Self::Start(_) | Self::Run(_) | Self::Exec(_) | Self::Restore(_))
    }
}

#[derive(Args, Debug)]
pub struct Id {
    /// The container
    pub id: String,
}

#[derive(Args, Debug)]
pub struct Create {
    /// The bundle directory
    #[arg(short, long, default_value = ".")]
    pub bundle: PathBuf,
    /// The configuration, relative to the bundle
    #[arg(long, value_name = "FILE", default_value = "config.json")]
    pub config: PathBuf,
    /// Write the pid of the container's process to this file
    #[arg(long)]
    pub pid_file: Option<PathBuf>,
    /// Send the terminal's master to this unix socket
    #[arg(long)]
    pub console_socket: Option<PathBuf>,
    /// Send a pidfd of the container's process to this unix socket
    #[arg(long)]
    pub pidfd_socket: Option<PathBuf>,
    /// Do not use pivot_root (for a root file system on a ramfs)
    #[arg(long)]
    pub no_pivot: bool,
    /// Do not create a session keyring
    #[arg(long)]
    pub no_new_keyring: bool,
    /// Pass this many further descriptors to the program
    #[arg(long, default_value_t = 0)]
    pub preserve_fds: u32,
    /// Write how long each step took to this file, for chrome://tracing and Perfetto
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// A name for the container
    pub id: String,
}

#[derive(Args, Debug)]
pub struct Run {
    #[command(flatten)]
    pub create: Create,
    /// Return once the program runs
    #[arg(short, long)]
    pub detach: bool,
    /// Keep the container's state after its end
    #[arg(long)]
    pub keep: bool,
    /// Tell which system calls the seccomp profile refuses, each once
    #[arg(long)]
    pub seccomp_log: bool,
    /// Write the least seccomp profile that permits what the container did to this file
    #[arg(long, value_name = "FILE")]
    pub seccomp_record: Option<PathBuf>,
    /// Accepted for runc's callers: keel is no subreaper
    #[arg(long, hide = true)]
    pub no_subreaper: bool,
}

#[derive(Args, Debug)]
pub struct Exec {
    /// The process as a JSON document
    #[arg(short, long)]
    pub process: Option<PathBuf>,
    /// Return once the program runs
    #[arg(short, long)]
    pub detach: bool,
    /// Write the pid of the process to this file
    #[arg(long)]
    pub pid_file: Option<PathBuf>,
    /// Send the terminal's master to this unix socket
    #[arg(long)]
    pub console_socket: Option<PathBuf>,
    /// Send a pidfd of the process to this unix socket
    #[arg(long)]
    pub pidfd_socket: Option<PathBuf>,
    /// Allocate a pseudoterminal
    #[arg(short, long)]
    pub tty: bool,
    /// Working directory in the container
    #[arg(long)]
    pub cwd: Option<String>,
    /// Environment variables, NAME=VALUE
    #[arg(short, long)]
    pub env: Vec<String>,
    /// UID[:GID]
    #[arg(short, long)]
    pub user: Option<String>,
    /// Additional group ids
    #[arg(short = 'g', long, value_delimiter = ',')]
    pub additional_gids: Vec<u32>,
    /// Additional capabilities
    #[arg(short, long)]
    pub cap: Vec<String>,
    /// AppArmor profile
    #[arg(long)]
    pub apparmor: Option<String>,
    /// SELinux label
    #[arg(long)]
    pub process_label: Option<String>,
    /// Set no_new_privs
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub no_new_privs: Option<bool>,
    /// Pass this many further descriptors to the program
    #[arg(long, default_value_t = 0)]
    pub preserve_fds: u32,
    /// Sub-cgroup to run in, [CONTROLLER,...:]PATH
    #[arg(long)]
    pub cgroup: Vec<String>,
    /// Also in a paused container
    #[arg(long)]
    pub ignore_paused: bool,
    /// Write a timeline of each step to this file, for Perfetto or chrome://tracing
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// Accepted for runc's callers: keel is no subreaper
    #[arg(long, hide = true)]
    pub no_subreaper: bool,
    /// The container
    pub id: String,
    /// Program and arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub args: Vec<String>,
}

#[derive(Args, Debug)]
pub struct Kill {
    /// Send it to all processes of the container
    #[arg(short, long)]
    pub all: bool,
    /// The container
    pub id: String,
    /// Name or number
    #[arg(default_value = "TERM")]
    pub signal: String,
}

#[derive(Args, Debug)]
pub struct Delete {
    /// Kill it first if it runs; a missing container is no error
    #[arg(short, long)]
    pub force: bool,
    /// ID is a POSIX extended regular expression: all containers whose ids it matches
    #[arg(long)]
    pub regex: bool,
    /// The container
    pub id: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Table,
    Json,
}

#[derive(Args, Debug)]
pub struct List {
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
    /// Only the ids
    #[arg(short, long)]
    pub quiet: bool,
}

/// Texts, as runc has them: `--cpu-share ""` is a flag that is not given.
#[derive(Args, Debug)]
pub struct Update {
    /// Read the resources from this JSON file, or from stdin if it is -; all other options are then ignored
    #[arg(short, long, value_name = "FILE")]
    pub resources: Option<PathBuf>,
    /// Memory limit, in bytes or with a unit such as 512m; -1 is unlimited
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    pub memory: Option<String>,
    /// Limit of memory and swap together; -1 is unlimited
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    pub memory_swap: Option<String>,
    /// Memory that is left alone while the host has enough
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    pub memory_reservation: Option<String>,
    /// Ignored: kernel memory has no limit of its own any more
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true, hide = true)]
    pub kernel_memory: Option<String>,
    /// Ignored
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true, hide = true)]
    pub kernel_memory_tcp: Option<String>,
    /// Length of a CPU period, in microseconds
    #[arg(long, value_name = "USEC", allow_hyphen_values = true)]
    pub cpu_period: Option<String>,
    /// CPU time in each period, in microseconds; -1 is unlimited
    #[arg(long, value_name = "USEC", allow_hyphen_values = true)]
    pub cpu_quota: Option<String>,
    /// CPU time that may be saved up for a later period, in microseconds
    #[arg(long, value_name = "USEC", allow_hyphen_values = true)]
    pub cpu_burst: Option<String>,
    /// CPU shares, 2 to 262144, relative to other containers
    #[arg(long, value_name = "SHARES", allow_hyphen_values = true)]
    pub cpu_share: Option<String>,
    /// Real-time period, in microseconds
    #[arg(long, value_name = "USEC", allow_hyphen_values = true)]
    pub cpu_rt_period: Option<String>,
    /// Real-time CPU time in each period, in microseconds
    #[arg(long, value_name = "USEC", allow_hyphen_values = true)]
    pub cpu_rt_runtime: Option<String>,
    /// CPUs to use, such as 0-2,4
    #[arg(long, value_name = "LIST")]
    pub cpuset_cpus: Option<String>,
    /// Memory nodes to use
    #[arg(long, value_name = "LIST")]
    pub cpuset_mems: Option<String>,
    /// 1: only while no other wants the CPU
    #[arg(long, value_name = "0|1", allow_hyphen_values = true)]
    pub cpu_idle: Option<String>,
    /// Number of processes; -1 is unlimited
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub pids_limit: Option<String>,
    /// Block I/O weight, 10 to 1000
    #[arg(long, value_name = "WEIGHT", allow_hyphen_values = true)]
    pub blkio_weight: Option<String>,
    /// Intel RDT: schema of the L3 cache
    #[arg(long, value_name = "SCHEMA")]
    pub l3_cache_schema: Option<String>,
    /// Intel RDT: schema of memory bandwidth
    #[arg(long, value_name = "SCHEMA")]
    pub mem_bw_schema: Option<String>,
    /// The container
    pub id: String,
}

#[derive(Args, Debug)]
pub struct Events {
    /// Print what the container uses at this interval: a number and a unit, such as 500ms or 1m30s
    #[arg(long, value_name = "DURATION", default_value = "5s", allow_hyphen_values = true)]
    pub interval: String,
    /// Print what the container uses now, and exit
    #[arg(long)]
    pub stats: bool,
    /// The container
    pub id: String,
}

#[derive(Args, Debug)]
pub struct Ps {
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
    /// The container
    pub id: String,
    /// Options for ps(1)
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub args: Vec<String>,
}

#[derive(Args, Debug)]
pub struct Spec {
    /// Where to write it
    #[arg(short, long, default_value = ".")]
    pub bundle: PathBuf,
    /// For an ordinary user
    #[arg(long)]
    pub rootless: bool,
}

#[derive(Args, Debug)]
pub struct Validate {
    /// The bundle directory
    #[arg(short, long, default_value = ".")]
    pub bundle: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PlanFormat {
    Text,
    Json,
}

#[derive(Args, Debug)]
pub struct Plan {
    /// The bundle directory
    #[arg(short, long, default_value = ".")]
    pub bundle: PathBuf,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = PlanFormat::Text)]
    pub format: PlanFormat,
    /// Do not use pivot_root
    #[arg(long)]
    pub no_pivot: bool,
    /// A name for the container
    #[arg(default_value = "plan")]
    pub id: String,
}
