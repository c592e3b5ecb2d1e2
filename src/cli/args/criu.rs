//! Flags of `checkpoint` and `restore`.

use clap::{Args, ValueEnum};
use std::path::PathBuf;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CgroupsMode {
    Soft,
    Full,
    Strict,
    Ignore,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EmptyNamespace {
    Network,
}

/// What `checkpoint` and `restore` share.
#[derive(Args, Debug)]
pub struct Criu {
    /// The directory of the images
    #[arg(long, value_name = "DIR", default_value = "checkpoint")]
    pub image_path: PathBuf,
    /// The directory of CRIU's log [default: that of the images]
    #[arg(long, value_name = "DIR")]
    pub work_path: Option<PathBuf>,
    /// TCP connections too
    #[arg(long)]
    pub tcp_established: bool,
    /// Leave out TCP connections that are not accepted yet
    #[arg(long)]
    pub tcp_skip_in_flight: bool,
    /// Name files that are open and deleted
    #[arg(long)]
    pub link_remap: bool,
    /// Unix sockets whose other end is outside of the container
    #[arg(long)]
    pub ext_unix_sk: bool,
    /// A session or terminal that began outside of the container
    #[arg(long)]
    pub shell_job: bool,
    /// File locks too
    #[arg(long)]
    pub file_locks: bool,
    /// What CRIU does about cgroups
    #[arg(long, value_enum, default_value_t = CgroupsMode::Soft)]
    pub manage_cgroups_mode: CgroupsMode,
    /// Make this namespace empty instead of saving it
    #[arg(long, value_enum)]
    pub empty_ns: Vec<EmptyNamespace>,
    /// Drop memory from older images that newer ones have
    #[arg(long)]
    pub auto_dedup: bool,
    /// Refused
    #[arg(long, hide = true)]
    pub lazy_pages: bool,
}

#[derive(Args, Debug)]
pub struct Checkpoint {
    #[command(flatten)]
    pub criu: Criu,
    /// Images of an earlier pre-dump, relative to those of this one
    #[arg(long, value_name = "DIR")]
    pub parent_path: Option<String>,
    /// The container goes on
    #[arg(long)]
    pub leave_running: bool,
    /// Save memory only; the container goes on
    #[arg(long)]
    pub pre_dump: bool,
    /// Send memory to a `criu page-server`
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub page_server: Option<String>,
    /// Refused
    #[arg(long, hide = true, value_name = "FD")]
    pub status_fd: Option<i32>,
    /// The container
    pub id: String,
}

#[derive(Args, Debug)]
pub struct Restore {
    #[command(flatten)]
    pub criu: Criu,
    /// The bundle directory
    #[arg(short, long, default_value = ".")]
    pub bundle: PathBuf,
    /// Return once the program runs
    #[arg(short, long)]
    pub detach: bool,
    /// Write the pid of the container's process to this file
    #[arg(long)]
    pub pid_file: Option<PathBuf>,
    /// Send the terminal's master to this unix socket
    #[arg(long)]
    pub console_socket: Option<PathBuf>,
    /// Keep the container's state after its end
    #[arg(long)]
    pub keep: bool,
    /// Accepted for runc's callers: CRIU chooses how the root is entered
    #[arg(long, hide = true)]
    pub no_pivot: bool,
    /// Accepted for runc's callers: keel is no subreaper
    #[arg(long, hide = true)]
    pub no_subreaper: bool,
    /// AppArmor profile or SELinux label in the place of the saved one, such as apparmor:NAME
    #[arg(long)]
    pub lsm_profile: Option<String>,
    /// SELinux context of mounts in the place of the saved one
    #[arg(long)]
    pub lsm_mount_context: Option<String>,
    /// A name for the container
    pub id: String,
}
