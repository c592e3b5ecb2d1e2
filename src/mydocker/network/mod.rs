//! Networks of containers: bridges with NAT, addresses, published ports and names.
//!
//! netavark makes the links and the firewall rules, to which `guard` adds what they leave open;
//! aardvark-dns answers for the names; both are podman's, found at run time. What is ours: which
//! networks there are ([`Networks`], kept below `Dirs::networks`), who has which address and port
//! (kept below `Dirs::run` with the id of the boot, so that a reboot voids it), and what goes into a
//! container's `resolv.conf` and `hosts`.

mod book;
mod dns;
mod guard;
mod mode;
pub mod names;
mod netavark;
mod pin;
pub mod ports;
pub mod rootless;
mod store;
mod subnet;
mod wire;

pub use book::{Attachment, Lease};
pub use mode::{Join, Mode};
pub use netavark::Netavark;
pub use pin::Namespace;
pub use store::{Create, Network, Networks};
pub use subnet::{Subnet, free, occupied};
pub use wire::{Connected, Guest};
