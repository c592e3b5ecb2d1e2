//! Sockets with a name in the file system.

use rustix::fd::OwnedFd;
use rustix::fs::Mode;
use rustix::io::Result;
use rustix::net::SocketAddrUnix;

/// bind(2) of a socket that only its owner may connect to: it is made with mode 0600, whatever the caller's
/// umask is. The umask is the whole process's, so this is for processes of one thread.
pub fn bind_private(socket: &OwnedFd, address: &SocketAddrUnix) -> Result<()> {
    let before = rustix::process::umask(Mode::from_raw_mode(0o177));
    let bound = rustix::net::bind(socket, address);
    rustix::process::umask(before);
    bound
}
