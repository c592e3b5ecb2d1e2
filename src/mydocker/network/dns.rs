//! Standing by aardvark-dns, which comes, goes and re-reads its files in its own time.
//!
//! Before 1.11 or so it gives its sockets up at each signal and takes them again, and now and then ends because one is not free yet
//! (its issue 389). So we ask for the new container's name until it answers, and start it again where it has ended.

use super::pin::Namespace;
use crate::sys::{Context, Error, Result};
use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long it may take.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long one answer may take; the question is cheap to repeat.
const ANSWER: Duration = Duration::from_millis(20);
/// Standard query, recursion desired, one question (RFC 1035, 4.1.1).
const HEADER: [u8; 12] = [0x6d, 0x64, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];

/// aardvark-dns of one installation.
#[derive(Clone, Copy, Debug)]
pub struct Dns<'a> {
    /// The program.
    pub program: &'a Path,
    /// The directory with its files, one for each network, and its pid.
    pub dir: &'a Path,
}

impl Dns<'_> {
    /// Waits until it answers for `name` (a single label) in the namespace; false if it does not.
    pub fn answers(&self, namespace: &Namespace, gateway: Ipv4Addr, name: &str) -> Result<bool> {
        let what = || format!("ask the DNS at {gateway}");
        let socket = namespace.inside(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)))?.context(what)?;
        socket.connect((gateway, 53)).and_then(|()| socket.set_read_timeout(Some(ANSWER))).context(what)?;
        let label = u8::try_from(name.len()).ok().filter(|length| (1..64).contains(length));
        let label = label.ok_or_else(|| Error::new(what()).hint(format!("{name:?} is no label")))?;
        // The root ends the name; type A, class IN.
        let question = [&HEADER[..], &[label], name.as_bytes(), &[0, 0, 1, 0, 1]].concat();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut answer = [0; 512];
            // Refused as long as nobody listens.
            let length = socket.send(&question).and_then(|_| socket.recv(&mut answer)).unwrap_or(0);
            let good = length > HEADER.len() && answer[..2] == HEADER[..2] && answer[3] & 15 == 0 && answer[6..8] != [0, 0];
            if good || Instant::now() > deadline {
                return Ok(good);
            }
            self.revive()?;
            sleep(Duration::from_millis(1));
        }
    }

    /// Starts it where it has ended though there are names; it returns when it answers.
    pub fn revive(&self) -> Result<()> {
        if self.lives() || !self.has_names() {
            return Ok(());
        }
        let mut command = Command::new(self.program);
        // The variable is netavark's, which gives it the same port.
        let port = std::env::var_os("NETAVARK_DNS_PORT").unwrap_or_else(|| "53".into());
        command.arg("--config").arg(self.dir).arg("-p").arg(port).arg("run").env_clear().current_dir("/");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().context(|| format!("execute {}", self.program.display())).map(drop)
    }

    /// After the last container it ends. Until it has taken its pid away, netavark would leave the names of a new container with the
    /// one that is ending.
    pub fn wait_for_end(&self) {
        let deadline = Instant::now() + PATIENCE;
        while !self.has_names() && self.lives() && Instant::now() < deadline {
            sleep(Duration::from_millis(1));
        }
    }

    fn has_names(&self) -> bool {
        let ours = |name: &std::ffi::OsStr| name != "aardvark.pid" && name != "aardvark.lock";
        fs::read_dir(self.dir).into_iter().flatten().flatten().any(|entry| ours(&entry.file_name()))
    }

    /// Whether the pid in its file is alive, is no zombie, and is aardvark-dns. A pid that is not is taken away, or netavark would send
    /// its signals there.
    fn lives(&self) -> bool {
        let file = self.dir.join("aardvark.pid");
        let Ok(pid) = fs::read_to_string(&file) else { return false };
        let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
        let lives = stat.contains("(aardvark-dns) ") && !stat.contains(") Z ");
        if !lives {
            drop(fs::remove_file(file));
        }
        lives
    }
}
