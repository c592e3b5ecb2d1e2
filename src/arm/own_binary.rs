//! Protection of our own executable (CVE-2019-5736): before it enters a container, keel runs from a read-only clone.
//!
//! A process in the container can reach the runtime's executable as /proc/PID/exe, or execute it through
//! `#!/proc/self/exe` and write to it afterwards. A detached mount (open_tree(2)) that is read-only cannot be made
//! writable by anyone but its creator, and costs a re-execution, 0.2 ms, where a copy into a memfd costs megabytes.

use crate::sys::{CStrings, Context, Error, MountAttr, Result, executed_as, execveat, mount_setattr};
use rustix::fd::OwnedFd;
use rustix::fs::{CWD, MemfdFlags, Mode, OFlags, SealFlags, StatVfsMountFlags};
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};
use std::ffi::{CString, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// Our executable as nobody can write it; `None` if this process runs from such a one already.
pub fn executable() -> Result<Option<OwnedFd>> {
    let what = || "open our own executable through /proc/self/exe";
    let exe = rustix::fs::open(c"/proc/self/exe", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).context(what)?;
    if rustix::fs::fstatvfs(&exe).context(what)?.f_flag.contains(StatVfsMountFlags::RDONLY) {
        return Ok(None);
    }
    match read_only_clone() {
        Err(Errno::PERM | Errno::NOSYS | Errno::INVAL) => {
            let sealed = rustix::fs::fcntl_get_seals(reopen()?).is_ok_and(|seals| seals.contains(SealFlags::WRITE));
            if sealed { Ok(None) } else { sealed_copy().map(Some) }
        }
        other => other.context(|| "clone the mount of our own executable").map(Some),
    }
}

/// Goes on as a process whose executable cannot be written; returns at once if it is one already.
pub fn protect(args: &[OsString]) -> Result<()> {
    let Some(clone) = executable()? else { return Ok(()) };
    let strings = |list: &mut dyn Iterator<Item = Vec<u8>>| {
        list.map(|s| CString::new(s).map_err(|_| Error::new("an argument contains a NUL byte"))).collect::<Result<_>>().map(CStrings::new)
    };
    let argv = strings(&mut args.iter().map(|a| a.as_bytes().to_vec()))?;
    let envp = strings(&mut std::env::vars_os().map(|(key, value)| [key.into_vec(), value.into_vec()].join(&b'=')))?;
    Err(Error::new("execute the read-only clone of our own executable").errno(execveat(clone, &argv, &envp)))
}

/// [`protect`] for the commands that need it, before anything else is done: what this process would read of its command line
/// has to be read again by the next. The words are not weighed; a container of such a name costs an execution more.
pub fn protect_early(args: &[OsString]) -> Result<()> {
    const COMMANDS: [&str; 4] = ["create", "run", "exec", "restore"];
    // So execveat(2) names a descriptor: this is the clone, or somebody else's, which `protect` will see.
    let is_clone = executed_as().to_bytes().starts_with(b"/dev/fd/");
    let enters = args.iter().any(|arg| COMMANDS.iter().any(|command| arg == command));
    if enters && !is_clone { protect(args) } else { Ok(()) }
}

fn reopen() -> Result<OwnedFd> {
    let what = || "open our own executable through /proc/self/exe";
    rustix::fs::open(c"/proc/self/exe", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).context(what)
}

fn read_only_clone() -> rustix::io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let clone = open_tree(CWD, c"/proc/self/exe", flags)?;
    mount_setattr(&clone, c"", false, &MountAttr::RDONLY)?;
    Ok(clone)
}

/// What an ordinary user can do: a sealed memfd, as its own containers run with its own rights over the file.
fn sealed_copy() -> Result<OwnedFd> {
    let what = || "copy our own executable into a memfd";
    let mut from = std::fs::File::from(reopen()?);
    let to = rustix::fs::memfd_create(c"keel", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).context(what)?;
    let mut to = std::fs::File::from(to);
    std::io::copy(&mut from, &mut to).context(what)?;
    rustix::fs::fcntl_add_seals(&to, SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE).context(what)?;
    Ok(to.into())
}
