//! Networks on the real kernel, netavark and aardvark-dns. Each test's thread moves into a network and a mount namespace of its own,
//! which is "the host" here; "outside" is one more namespace, and containers are namespaces with sockets in them.

#![cfg(feature = "mydocker")]

mod guard;
mod host;
mod records;
mod rootless;
mod traffic;
