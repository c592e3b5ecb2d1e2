//! The user namespace of an ordinary user, in which he is root: all his commands, monitors and containers are in this one, so
//! that they may signal, enter and clear away each other, and files have the owners that images give them.
//!
//! A process, the *keeper*, holds it open as long as anybody is in it. Whoever is in it has a shared lock on `Dirs::run/userns`, its
//! *lease*; the keeper waits for all of them to be gone.

use super::files::{Dirs, Keep, Lock, make_dir, read_json, write_json};
use crate::arm;
use crate::sandbox;
use crate::spec::IdMapping;
use crate::store::ProcessId;
use crate::sys::{self, Cloned, Context, Error, Result, close_range, in_user_namespace, ns, setns};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::io::Errno;
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};
use std::path::Path;

/// The most lines of a map (user_namespaces(7)).
const LINES_MAX: usize = 340;

/// Whether we are an ordinary user, also one who is root in a user namespace.
pub fn is_rootless() -> bool {
    !rustix::process::geteuid().is_root() || in_user_namespace()
}

/// Whether there is no id but one in our user namespace: files have one owner, and nobody has further groups.
pub fn has_one_id() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let counts = map.lines().filter_map(|line| line.split_whitespace().nth(2)?.parse::<u64>().ok());
    counts.sum::<u64>() == 1
}

/// Puts an ordinary user's command into his namespace, which is made if there is none, and into a mount namespace. Root stays where
/// he is. `others` are processes that may be in it, for the case that the keeper was killed.
pub fn enter(dirs: &Dirs, others: impl FnOnce() -> Vec<ProcessId>) -> Result<()> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    make_dir(&dirs.run)?;
    lease(&dirs.run)?;
    let path = dirs.run.join("keeper.json");
    let kept = |path: &Path| read_json::<ProcessId>(path).ok().flatten().and_then(open);
    let namespace = match kept(&path) {
        Some(namespace) => namespace,
        None => {
            let _turn = Lock::file(&dirs.run.join("keeper.lock"))?;
            // Somebody else may have made it meanwhile.
            match kept(&path).or_else(|| others().into_iter().find_map(open)) {
                Some(namespace) => namespace,
                None => make(&dirs.run, &path)?,
            }
        }
    };
    let what = || "enter the user namespace of mydocker";
    setns(&namespace, ns::USER).context(what)?;
    // Mounts can be made in a namespace of one's own only; those of the host still come and go in it.
    sys::unshare(ns::MOUNT).context(what)
}

/// The lock that says that we are in it: held to our end, and by what we become and leave behind (a monitor).
fn lease(run: &Path) -> Result<()> {
    let file = open_lease(run)?;
    let what = || "lock the user namespace of mydocker";
    rustix::io::retry_on_intr(|| flock(&file, FlockOperation::LockShared)).context(what)?;
    rustix::io::fcntl_setfd(&file, rustix::io::FdFlags::empty()).context(what)?;
    std::mem::forget(file); // for the kernel to close
    Ok(())
}

fn open_lease(run: &Path) -> Result<OwnedFd> {
    let path = run.join("userns");
    let flags = OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR).context(|| format!("open {}", path.display()))
}

/// The user namespace of a process that lives, unless it is the host's.
fn open(process: ProcessId) -> Option<OwnedFd> {
    let path = |pid: &str| format!("/proc/{pid}/ns/user");
    let namespace = rustix::fs::open(path(&process.pid.to_string()), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let (own, theirs) = (rustix::fs::stat(path("self")).ok()?, rustix::fs::fstat(&namespace).ok()?);
    // If it lives now, it lived then, and the number was not another's.
    process.open().filter(|_| own.st_ino != theirs.st_ino).map(|_| namespace)
}

/// Makes the namespace and its keeper.
fn make(run: &Path, record: &Path) -> Result<OwnedFd> {
    let what = || "make a user namespace";
    let lease = open_lease(run)?;
    let null = rustix::fs::open(c"/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).context(|| "open /dev/null")?;
    let (maps, by_helper) = maps()?;
    match sys::clone3(ns::USER, None) {
        Ok(Cloned::Child(_)) => keep(&lease, &null),
        Ok(Cloned::Parent(pid, pidfd)) => {
            let made = sandbox::map(pid, &maps, by_helper, true).and_then(|()| {
                let keeper = ProcessId::of(pid)?;
                write_json(record, &keeper, Keep::UntilReboot)?;
                open(keeper).ok_or_else(|| Error::new(what()))
            });
            made.inspect_err(|_| {
                let _ = pidfd_send_signal(&pidfd, Signal::KILL);
                let _ = rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED));
            })
        }
        Err(errno @ (Errno::PERM | Errno::ACCESS | Errno::NOSPC | Errno::USERS | Errno::INVAL)) => {
            let hint =
                "this host forbids user namespaces to ordinary users: see user.max_user_namespaces and kernel.unprivileged_userns_clone";
            Err(Error::new(what()).errno(errno).hint(hint))
        }
        Err(errno) => Err(Error::new(what()).errno(errno)),
    }
}

/// The keeper: waits until it gets the lease for itself, with nothing else open.
fn keep(lease: &OwnedFd, null: &OwnedFd) -> ! {
    let _ = rustix::process::setsid();
    let _ = rustix::process::chdir("/");
    let _ = rustix::stdio::dup2_stdout(null);
    let _ = rustix::stdio::dup2_stderr(null);
    // The last of the three is the place for the lease, since all from 3 on is closed.
    if rustix::stdio::dup2_stdin(lease).is_ok() && close_range(3, u32::MAX, false).is_ok() {
        let _ = rustix::io::retry_on_intr(|| flock(rustix::stdio::stdin(), FlockOperation::LockExclusive));
    }
    sys::exit(0)
}

type Maps = (Vec<IdMapping>, Vec<IdMapping>);

/// Our own ids are root's inside, and those from 1 on are the ranges of subuid(5) and subgid(5). Whether newuidmap(1) has to write
/// them; without ranges one id is all there is.
fn maps() -> Result<(Maps, bool)> {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = account(&passwd, uid);
    let read = |path: &str| ranges(&std::fs::read_to_string(path).unwrap_or_default(), &name, uid);
    let (uids, gids) = (read("/etc/subuid"), read("/etc/subgid"));
    if uids.is_empty() || gids.is_empty() {
        return Ok(((map(uid, &[]), map(gid, &[])), false));
    }
    Ok(((map(uid, &uids), map(gid, &gids)), true))
}

/// The name of the account in passwd(5), or its number.
fn account(passwd: &str, uid: u32) -> String {
    let fields = |line: &str| line.split(':').take(3).map(str::to_owned).collect::<Vec<_>>();
    let row = passwd.lines().map(fields).find(|row| row.get(2).is_some_and(|id| id.parse() == Ok(uid)));
    row.and_then(|row| row.into_iter().next()).unwrap_or_else(|| uid.to_string())
}

/// The ranges of an account, by name or number: first id and count.
pub fn ranges(text: &str, name: &str, uid: u32) -> Vec<(u32, u32)> {
    let parse = |line: &str| {
        let (owner, range) = line.split_once(':')?;
        let (first, count) = range.split_once(':')?;
        let (first, count) = (first.trim().parse::<u32>().ok()?, count.trim().parse::<u32>().ok()?);
        let whole = count > 0 && first.checked_add(count).is_some();
        (whole && (owner == name || owner.parse() == Ok(uid))).then_some((first, count))
    };
    text.lines().filter_map(parse).collect()
}

fn map(own: u32, ranges: &[(u32, u32)]) -> Vec<IdMapping> {
    let mut all = vec![IdMapping { container_id: 0, host_id: own, size: 1 }];
    let mut next = 1_u32;
    for (first, count) in ranges.iter().take(LINES_MAX - 1) {
        all.push(IdMapping { container_id: next, host_id: *first, size: *count });
        match next.checked_add(*count) {
            Some(sum) => next = sum,
            None => {
                all.pop();
                break;
            }
        }
    }
    all
}

/// How many ids a container of `--userns auto` has.
pub const COUNT: u32 = 65536;

/// Whose ranges in subuid(5) those containers have, as with podman, and the ranges where that account has none.
const ACCOUNT: (&str, (u32, u32)) = ("containers", (2_147_483_647, 2_147_483_648));

/// The first ids that are free, [`COUNT`] of them, beside those of other containers.
pub fn free_ids(taken: &[u32]) -> Result<u32> {
    let read = |path: &str| ranges(&std::fs::read_to_string(path).unwrap_or_default(), ACCOUNT.0, u32::MAX);
    let (uids, gids) = (read("/etc/subuid"), read("/etc/subgid"));
    let all = match (uids.is_empty(), gids.is_empty()) {
        (true, true) => vec![ACCOUNT.1],
        _ => uids.into_iter().filter(|range| gids.contains(range)).collect(),
    };
    choose(&all, taken).ok_or_else(|| {
        Error::new(format!("no {COUNT} ids are left for --userns auto"))
            .hint(format!("give the account {} more in /etc/subuid, and the same in /etc/subgid", ACCOUNT.0))
    })
}

fn choose(ranges: &[(u32, u32)], taken: &[u32]) -> Option<u32> {
    let places = ranges.iter().flat_map(|(first, count)| (0..count / COUNT).map(move |place| first + place * COUNT));
    let mut free = places.filter(|place| taken.iter().all(|other| other.abs_diff(*place) >= COUNT));
    free.next()
}

/// A user namespace of these ids, for a container.
pub fn of_ids(first: u32) -> Result<OwnedFd> {
    let map = || [IdMapping { container_id: 0, host_id: first, size: COUNT }];
    arm::user_namespace(&map(), &map())
}

/// While this lives, what this thread makes belongs to the id in a file system whose mounts map no other: to root of a container.
#[derive(Debug)]
pub struct FileOwner(());

impl FileOwner {
    /// Begins with that.
    pub fn new(id: u32) -> Result<Self> {
        let what = || format!("make files as the user {id}");
        let before = rustix::thread::capabilities(None).context(what)?;
        sys::set_fs_ids(id, id).context(what)?;
        let owner = Self(());
        rustix::thread::set_capabilities(None, before).context(what)?;
        Ok(owner)
    }
}

impl Drop for FileOwner {
    fn drop(&mut self) {
        let _ = sys::set_fs_ids(0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_those_of_the_account_by_name_or_number() {
        let text = "a:100000:65536\n7:200000:10\nb:1:5\na:300000:0\na:bad:1\na:4294967295:2\n\n";
        assert_eq!(ranges(text, "a", 7), [(100_000, 65536), (200_000, 10)]);
        assert_eq!(ranges(text, "c", 8), []);
        let passwd = "root:x:0:0::/:/bin/sh\na:x:7:7::/:/bin/sh\n";
        assert_eq!((account(passwd, 7), account(passwd, 8)), ("a".into(), "8".into()));
    }

    #[test]
    fn each_container_has_ids_of_its_own() {
        let ranges = [(1000, 10), (100_000, 2 * COUNT + 5)];
        assert_eq!(choose(&ranges, &[]), Some(100_000));
        assert_eq!(choose(&ranges, &[100_000]), Some(165_536));
        assert_eq!(choose(&ranges, &[99_999]), Some(165_536), "one that overlaps is taken");
        assert_eq!(choose(&ranges, &[100_000, 165_536]), None);
        assert_eq!(choose(&[ACCOUNT.1], &[]), Some(2_147_483_647));
    }

    #[test]
    fn the_map_begins_with_our_own_id_and_has_no_gaps() {
        let triples = |list: Vec<IdMapping>| list.iter().map(|m| (m.container_id, m.host_id, m.size)).collect::<Vec<_>>();
        assert_eq!(triples(map(7, &[])), [(0, 7, 1)]);
        assert_eq!(triples(map(7, &[(100, 10), (300, 5)])), [(0, 7, 1), (1, 100, 10), (11, 300, 5)]);
        assert_eq!(triples(map(7, &[(1, u32::MAX)])), [(0, 7, 1)]);
    }
}
