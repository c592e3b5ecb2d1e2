//! What can be typed: docker's commands and flags.

mod create;

pub use create::{Create, Limits, Run};

use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// Containers without a daemon, on keel's library.
#[derive(Debug, Parser)]
#[command(name = "mydocker", version, disable_help_subcommand = true, arg_required_else_help = true, max_term_width = 100)]
pub struct Cli {
    /// Where images, containers and volumes are kept [default: /var/lib/mydocker, or $MYDOCKER_ROOT]
    #[arg(long, global = true, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Where sockets and the runtime's state are kept [default: /run/mydocker, or DIR/run with --root]
    #[arg(long, global = true, value_name = "DIR", hide = true)]
    pub run_root: Option<PathBuf>,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant)] // there is one of it
pub enum Command {
    #[command(flatten)]
    Container(ContainerCommand),
    #[command(flatten)]
    Image(super::images::Command),
    /// Manage containers
    #[command(name = "container")]
    Containers {
        /// What to do
        #[command(subcommand)]
        command: ContainersCommand,
    },
    /// Manage networks
    Network {
        /// What to do
        #[command(subcommand)]
        command: super::networks::Command,
    },
    /// Manage volumes
    Volume {
        /// What to do
        #[command(subcommand)]
        command: super::volumes::Command,
    },
    /// Manage the installation
    System {
        /// What to do
        #[command(subcommand)]
        command: super::system::Command,
    },
    /// Get events as they happen
    Events(super::events::Events),
    /// Display system-wide information
    Info(super::system::Format),
    /// Show the version information
    Version(super::system::Format),
    /// Write the completions for a shell to standard output
    Completion {
        /// Which one
        #[arg(value_parser = ["bash", "zsh", "fish", "elvish"])]
        shell: String,
    },
    /// Write the man pages into a directory
    #[command(hide = true)]
    Man {
        /// Which one
        directory: PathBuf,
    },
    /// Display detailed information on containers, images, volumes and networks
    Inspect(Inspect),
}

/// What `container` has besides.
#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant)] // there is one of it
pub enum ContainersCommand {
    #[command(flatten)]
    Any(ContainerCommand),
    /// List containers
    #[command(visible_alias = "list")]
    Ls(Ps),
    /// Display detailed information on one or more containers
    Inspect(Inspect),
    /// Remove all stopped containers
    Prune(super::prune::One),
}

/// The commands on containers.
#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant)] // there is one of it
pub enum ContainerCommand {
    /// Create and run a new container from an image
    Run(Run),
    /// Create a new container
    Create(Create),
    /// Start one or more stopped containers
    Start(Start),
    /// Stop one or more running containers
    Stop(Stop),
    /// Restart one or more containers
    Restart(Stop),
    /// Kill one or more running containers
    Kill(Kill),
    /// Remove one or more containers
    Rm(Rm),
    /// Execute a command in a running container
    Exec(Exec),
    /// Attach local standard input, output, and error streams to a running container
    Attach(Attach),
    /// Fetch the logs of a container
    Logs(Logs),
    /// List containers
    Ps(Ps),
    /// Block until one or more containers stop, then print their exit codes
    Wait(Names),
    /// Pause all processes within one or more containers
    Pause(Names),
    /// Unpause all processes within one or more containers
    Unpause(Names),
    /// Create a new image from a container's changes
    Commit(super::commit::Commit),
    /// Copy files/folders between a container and the local filesystem
    Cp(super::cp::Cp),
    /// Inspect changes to files or directories on a container's filesystem
    Diff(super::commit::Diff),
    /// Export a container's filesystem as a tar archive
    Export(super::commit::Export),
    /// Rename a container
    Rename(Rename),
    /// Display the running processes of a container
    Top(super::top::Top),
    /// List port mappings or a specific mapping for the container
    Port(super::top::PortArgs),
    /// Display a live stream of container(s) resource usage statistics
    Stats(super::stats::Stats),
    /// Update configuration of one or more containers
    Update(super::update::Update),
}

/// Names or ids.
#[derive(Args, Debug)]
pub struct Names {
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    pub containers: Vec<String>,
}

/// `start`.
#[derive(Args, Debug)]
pub struct Start {
    /// Attach STDOUT/STDERR and forward signals
    #[arg(short, long)]
    pub attach: bool,
    /// Attach container's STDIN
    #[arg(short, long)]
    pub interactive: bool,
    /// Override the key sequence for detaching a container
    #[arg(long, value_name = "KEYS", default_value = "ctrl-p,ctrl-q")]
    pub detach_keys: String,
    /// Start every container whose restart policy wants it, as after a reboot
    #[arg(long, conflicts_with = "containers")]
    pub by_policy: bool,
    /// Names or ids
    #[arg(required_unless_present = "by_policy", value_name = "CONTAINER")]
    pub containers: Vec<String>,
}

/// `stop` and `restart`.
#[derive(Args, Debug)]
pub struct Stop {
    /// Seconds to wait before killing the container
    #[arg(short = 't', long = "timeout", alias = "time", value_name = "SECONDS", allow_hyphen_values = true)]
    pub timeout: Option<i64>,
    /// Signal to send to the container
    #[arg(short, long)]
    pub signal: Option<String>,
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    pub containers: Vec<String>,
}

/// `kill`.
#[derive(Args, Debug)]
pub struct Kill {
    /// Signal to send to the container
    #[arg(short, long, default_value = "KILL")]
    pub signal: String,
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    pub containers: Vec<String>,
}

/// `rm`.
#[derive(Args, Debug)]
pub struct Rm {
    /// Force the removal of a running container (uses SIGKILL)
    #[arg(short, long)]
    pub force: bool,
    /// Remove anonymous volumes associated with the container
    #[arg(short, long)]
    pub volumes: bool,
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    pub containers: Vec<String>,
}

/// `exec`.
#[derive(Args, Debug)]
pub struct Exec {
    /// Detached mode: run command in the background
    #[arg(short, long)]
    pub detach: bool,
    /// Keep STDIN open even if not attached
    #[arg(short, long)]
    pub interactive: bool,
    /// Allocate a pseudo-TTY
    #[arg(short, long)]
    pub tty: bool,
    /// Set environment variables
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub env: Vec<String>,
    /// Read in a file of environment variables
    #[arg(long, value_name = "FILE")]
    pub env_file: Vec<PathBuf>,
    /// Username or UID (format: <name|uid>[:<group|gid>])
    #[arg(short, long)]
    pub user: Option<String>,
    /// Working directory inside the container
    #[arg(short, long, value_name = "DIR")]
    pub workdir: Option<String>,
    /// Give extended privileges to the command
    #[arg(long)]
    pub privileged: bool,
    /// Container, then command and arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, num_args = 2.., value_names = ["CONTAINER", "COMMAND"])]
    pub container_and_args: Vec<String>,
}

/// `attach`.
#[derive(Args, Debug)]
pub struct Attach {
    /// Do not attach STDIN
    #[arg(long)]
    pub no_stdin: bool,
    /// Override the key sequence for detaching a container
    #[arg(long, value_name = "KEYS", default_value = "ctrl-p,ctrl-q")]
    pub detach_keys: String,
    /// Proxy all received signals to the process
    #[arg(long, value_name = "BOOL", default_value_t = true, default_missing_value = "true", num_args = 0..=1, require_equals = true, action = clap::ArgAction::Set)]
    pub sig_proxy: bool,
    /// Name or id
    pub container: String,
}

/// `logs`.
#[derive(Args, Debug)]
pub struct Logs {
    /// Follow log output
    #[arg(short, long)]
    pub follow: bool,
    /// Number of lines to show from the end of the logs
    #[arg(short = 'n', long, alias = "last", value_name = "N", default_value = "all")]
    pub tail: String,
    /// Show logs since timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Show logs before a timestamp or relative
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Show timestamps
    #[arg(short, long)]
    pub timestamps: bool,
    /// Name or id
    pub container: String,
}

/// `ps`.
#[derive(Args, Debug)]
pub struct Ps {
    /// Show all containers (default shows just running)
    #[arg(short, long)]
    pub all: bool,
    /// Filter output based on conditions provided
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub filter: Vec<String>,
    /// Format output using a Go template, or json
    #[arg(long, value_name = "TEMPLATE")]
    pub format: Option<String>,
    /// Show n last created containers (includes all states)
    #[arg(short = 'n', long, value_name = "N")]
    pub last: Option<usize>,
    /// Show the latest created container (includes all states)
    #[arg(short, long)]
    pub latest: bool,
    /// Don't truncate output
    #[arg(long)]
    pub no_trunc: bool,
    /// Only display container IDs
    #[arg(short, long)]
    pub quiet: bool,
    /// Display total file sizes
    #[arg(short, long)]
    pub size: bool,
}

/// `rename`.
#[derive(Args, Debug)]
pub struct Rename {
    /// Name or id
    pub container: String,
    /// The new name
    pub name: String,
}

/// `inspect`.
#[derive(Args, Debug)]
pub struct Inspect {
    /// Format output using a Go template, or json
    #[arg(short, long, value_name = "TEMPLATE")]
    pub format: Option<String>,
    /// Display total file sizes if the type is container
    #[arg(short, long)]
    pub size: bool,
    /// Only look for this: container, image, volume or network
    #[arg(long = "type", value_name = "KIND", value_parser = ["container", "image", "volume", "network"])]
    pub kind: Option<String>,
    /// Names or ids
    #[arg(required = true, value_name = "NAME")]
    pub names: Vec<String>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn no_two_flags_of_a_command_are_the_same() {
        super::Cli::command().debug_assert();
    }
}
