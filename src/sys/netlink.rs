//! rtnetlink(7): as much of it as it takes to move a network device with its addresses into another namespace.

use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::io::{Errno, Result};
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, connect, recv, send, socket_with};

const HEADER: usize = 16;
const LINK: usize = 16;
const ADDRESS: usize = 8;

/// Flags of an address that the kernel sets by itself: permanent, tentative, failed, secondary (linux/if_addr.h).
const BY_KERNEL: u32 = 0x80 | 0x40 | 0x08 | 0x01;

/// A socket of the network namespace in which it was opened.
pub struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

/// An address of a device: what RTM_NEWADDR needs to set it again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetAddress {
    head: [u8; ADDRESS],
    attributes: Vec<(u16, Vec<u8>)>,
}

/// An attribute's type and value.
type Attribute<'a> = (u16, &'a [u8]);

/// A reply: its type and what follows its header.
type Reply = (u16, Vec<u8>);

impl Netlink {
    /// A socket in the network namespace of the caller.
    pub fn open() -> Result<Self> {
        // NETLINK_ROUTE is protocol 0.
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
        // From now on only the kernel is heard: root of a namespace that others use could forge replies.
        connect(&socket, &SocketAddrNetlink::new(0, 0))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// The index of the device of that name; ENODEV if there is none.
    pub fn index(&mut self, name: &str) -> Result<u32> {
        let replies = self.request(libc::RTM_GETLINK, 0, &[0; LINK], &[(libc::IFLA_IFNAME, terminated(name).as_slice())])?;
        replies.iter().find_map(|(kind, body)| if *kind == libc::RTM_NEWLINK { word(body, 4) } else { None }).ok_or(Errno::NODEV)
    }

    /// The indices of all devices.
    pub fn indices(&mut self) -> Result<Vec<u32>> {
        let replies = self.request(libc::RTM_GETLINK, libc::NLM_F_DUMP as u16, &[0; LINK], &[])?;
        Ok(replies.iter().filter_map(|(_, body)| word(body, 4)).collect())
    }

    /// The permanent addresses of global scope of a device: those that somebody gave it.
    pub fn addresses(&mut self, index: u32) -> Result<Vec<NetAddress>> {
        let replies = self.request(libc::RTM_GETADDR, libc::NLM_F_DUMP as u16, &[0; ADDRESS], &[])?;
        Ok(replies.iter().filter(|(_, body)| word(body, 4) == Some(index)).filter_map(|(_, body)| permanent(body)).collect())
    }

    /// Moves a device into the network namespace `into` and calls it `name` there. It arrives down and without addresses.
    pub fn move_into(&mut self, index: u32, into: impl AsFd, name: &str) -> Result<()> {
        let (namespace, name) = (into.as_fd().as_raw_fd().to_ne_bytes(), terminated(name));
        self.request(libc::RTM_NEWLINK, 0, &link(index, 0), &[(libc::IFLA_NET_NS_FD, &namespace), (libc::IFLA_IFNAME, &name)]).map(drop)
    }

    /// Gives a device an address.
    pub fn add_address(&mut self, index: u32, address: &NetAddress) -> Result<()> {
        let mut head = address.head;
        head[4..].copy_from_slice(&index.to_ne_bytes());
        let attributes: Vec<Attribute<'_>> = address.attributes.iter().map(|(kind, value)| (*kind, value.as_slice())).collect();
        self.request(libc::RTM_NEWADDR, (libc::NLM_F_CREATE | libc::NLM_F_EXCL) as u16, &head, &attributes).map(drop)
    }

    /// Brings a device up.
    pub fn up(&mut self, index: u32) -> Result<()> {
        self.request(libc::RTM_NEWLINK, 0, &link(index, libc::IFF_UP as u32), &[]).map(drop)
    }

    /// Sends a request and collects its replies up to the acknowledgement, or to the end of a dump.
    fn request(&mut self, kind: u16, flags: u16, head: &[u8], attributes: &[Attribute<'_>]) -> Result<Vec<Reply>> {
        self.sequence += 1;
        let flags = flags | (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
        let mut message = [&[0; 4][..], &kind.to_ne_bytes(), &flags.to_ne_bytes(), &self.sequence.to_ne_bytes(), &[0; 4], head].concat();
        for (kind, value) in attributes {
            message.extend_from_slice(&(4 + value.len() as u16).to_ne_bytes());
            message.extend_from_slice(&kind.to_ne_bytes());
            message.extend_from_slice(value);
            message.resize(message.len().next_multiple_of(4), 0);
        }
        let length = message.len() as u32;
        message[..4].copy_from_slice(&length.to_ne_bytes());
        send(&self.socket, &message, SendFlags::empty())?;
        self.replies()
    }

    fn replies(&mut self) -> Result<Vec<Reply>> {
        // The kernel makes the parts of a dump no larger than 32 KiB.
        let mut buffer = vec![0; 64 << 10];
        let mut replies = Vec::new();
        loop {
            let length = rustix::io::retry_on_intr(|| recv(&self.socket, &mut buffer[..], RecvFlags::empty()))?.0;
            let mut rest = &buffer[..length];
            while let Some(size) = word(rest, 0).map(|size| size as usize).filter(|size| (HEADER..=rest.len()).contains(size)) {
                let (kind, body) = (half(rest, 4), &rest[HEADER..size]);
                match i32::from(kind) {
                    _ if word(rest, 8) != Some(self.sequence) => {}
                    libc::NLMSG_DONE => return Ok(replies),
                    libc::NLMSG_ERROR => {
                        return match word(body, 0).unwrap_or_default().cast_signed() {
                            0 => Ok(replies),
                            error => Err(Errno::from_raw_os_error(-error)),
                        };
                    }
                    _ => replies.push((kind, body.to_vec())),
                }
                rest = &rest[size.next_multiple_of(4).min(rest.len())..];
            }
        }
    }
}

/// `struct ifinfomsg` of rtnetlink(7): a device, and whether to bring it up.
fn link(index: u32, up: u32) -> [u8; LINK] {
    let mut head = [0; LINK];
    head[4..8].copy_from_slice(&index.to_ne_bytes());
    head[8..12].copy_from_slice(&up.to_ne_bytes());
    head[12..].copy_from_slice(&up.to_ne_bytes());
    head
}

/// What is worth keeping of an RTM_NEWADDR message, whose head is `struct ifaddrmsg`.
fn permanent(body: &[u8]) -> Option<NetAddress> {
    let head: [u8; ADDRESS] = body.get(..ADDRESS)?.try_into().ok()?;
    let all = attributes(&body[ADDRESS..]);
    let flags = all.iter().find(|(kind, _)| *kind == libc::IFA_FLAGS).and_then(|(_, value)| word(value, 0)).unwrap_or(head[2].into());
    if flags & libc::IFA_F_PERMANENT == 0 || head[3] != libc::RT_SCOPE_UNIVERSE {
        return None;
    }
    let kept = [libc::IFA_ADDRESS, libc::IFA_LOCAL, libc::IFA_BROADCAST];
    let mut attributes: Vec<_> = all.into_iter().filter(|(kind, _)| kept.contains(kind)).map(|(kind, v)| (kind, v.to_vec())).collect();
    attributes.push((libc::IFA_FLAGS, (flags & !BY_KERNEL).to_ne_bytes().to_vec()));
    Some(NetAddress { head: [head[0], head[1], 0, head[3], 0, 0, 0, 0], attributes })
}

fn attributes(mut rest: &[u8]) -> Vec<Attribute<'_>> {
    let mut all = Vec::new();
    while rest.len() >= 4 {
        let size = usize::from(half(rest, 0)).clamp(4, rest.len());
        all.push((half(rest, 2), &rest[4..size]));
        rest = &rest[size.next_multiple_of(4).min(rest.len())..];
    }
    all
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4).and_then(|four| four.try_into().ok()).map(u32::from_ne_bytes)
}

fn half(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).and_then(|two| two.try_into().ok()).map_or(0, u16::from_ne_bytes)
}

fn terminated(name: &str) -> Vec<u8> {
    [name.as_bytes(), &[0]].concat()
}
