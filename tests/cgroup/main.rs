//! The room `cgroup` against the real kernel, as root: on the host as it is (hybrid v1 or v2), and again in views of
//! it that show nothing but cgroup2 (a private mount and cgroup namespace; no controllers there, but devices, freezer
//! and kill) or nothing but v1.

mod devices;
mod layout;
mod life;
mod limits;
mod place;
mod views;
