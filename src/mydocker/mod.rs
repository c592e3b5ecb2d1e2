//! Room `mydocker`: the docker-like front-end, daemonless, on the same library as keel; it executes no runtime binary.
//!
//! Its own rooms, each using only those to its left:
//!
//! ```text
//! files → userns → image → {volume, network} → container → monitor → cli
//! ```
//!
//! - [`files`]: where everything is kept; atomic writes, locks, ids.
//! - [`userns`]: an ordinary user's user namespace.
//! - [`image`]: references, the OCI layout with its blobs, layers unpacked once, archives, registries, commit.
//! - [`volume`]: named volumes.
//! - [`network`]: bridges, addresses, published ports and names, by netavark and aardvark-dns.
//! - [`container`]: the record of a container, and the bundle made from it.
//! - [`monitor`]: the one small process that stands by a running container.
//! - [`cli`]: the command line.

pub mod cli;
pub mod container;
pub mod files;
pub mod image;
pub mod monitor;
pub mod network;
pub mod userns;
pub mod volume;
