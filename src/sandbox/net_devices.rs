//! config-linux.md, "Network Devices": the parent moves devices of the host into the container's network namespace.
//!
//! They keep their MTU and hardware address, which the kernel sees to, and their permanent addresses of global scope,
//! which it drops. Their life in the container is none of keel's business: when the namespace ends, the kernel gives
//! physical devices back and removes virtual ones.

use crate::plan::{NetDevice, Plan};
use crate::sys::{self, Context, Error, Netlink, Result, ns};
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;

/// Moves the devices of the plan to `pid`. All are looked up before the first is touched.
pub fn establish(plan: &Plan, pid: i32) -> Result<()> {
    let theirs = namespace(&format!("/proc/{pid}/ns/net"))?;
    let open = || Netlink::open().context(|| "open a netlink socket").map_err(|e| e.at("linux.netDevices"));
    let mut outside = open()?;
    let mut inside = within(&theirs, open)?;
    let mut indices = Vec::with_capacity(plan.net_devices.len());
    for device in &plan.net_devices {
        let index =
            outside.index(&device.host).context(|| format!("find the network device {}", device.host)).map_err(|e| at(device, e))?;
        // The kernel would notice too, but only once the device has left the host.
        if inside.index(&device.name) != Err(Errno::NODEV) {
            let words = format!("the container's network namespace has a device {} already", device.name);
            return Err(at(device, Error::new(words)));
        }
        indices.push(index);
    }
    let devices = plan.net_devices.iter().zip(indices);
    devices.into_iter().try_for_each(|(device, index)| one(device, index, &theirs, &mut outside, &mut inside).map_err(|e| at(device, e)))
}

fn at(device: &NetDevice, error: Error) -> Error {
    error.at(format!("linux.netDevices.{}", device.host))
}

fn one(device: &NetDevice, index: u32, theirs: &OwnedFd, outside: &mut Netlink, inside: &mut Netlink) -> Result<()> {
    let NetDevice { host, name } = device;
    let addresses = outside.addresses(index).context(|| format!("read the addresses of {host}"))?;
    let what = || format!("look at the container's network devices for {host}");
    let before = inside.indices().context(what)?;
    outside.move_into(index, theirs, name).context(|| format!("move the network device {host} into the container as {name}")).map_err(
        |error| match error.get_errno() {
            Some(Errno::INVAL | Errno::OPNOTSUPP) => error.hint("this kind of device, such as lo or a bridge, cannot leave its namespace"),
            _ => error,
        },
    )?;
    // The kernel chose its index, and its name if that is a template (`eth%d`).
    let arrived = inside.indices().context(what)?.into_iter().find(|index| !before.contains(index));
    let index =
        arrived.ok_or_else(|| Error::new(format!("the network device {host} did not arrive: the container is in its namespace")))?;
    for address in &addresses {
        inside.add_address(index, address).context(|| format!("set the addresses of {host} in the container"))?;
    }
    inside.up(index).context(|| format!("bring {host} up in the container"))
}

fn namespace(path: &str) -> Result<OwnedFd> {
    open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).context(|| format!("open {path}"))
}

/// Runs `act` in another network namespace and steps back.
fn within<T>(namespace_fd: &OwnedFd, act: impl FnOnce() -> Result<T>) -> Result<T> {
    let own = namespace("/proc/self/ns/net")?;
    sys::setns(namespace_fd, ns::NET).context(|| "join the container's network namespace")?;
    let done = act();
    sys::setns(own, ns::NET).context(|| "step back into our own network namespace")?;
    done
}
