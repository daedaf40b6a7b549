//! Networks of containers. What is asked for (`settings`, `wanted`; pure), who is in which with what addresses (`rows`,
//! `leases`: the database), what of it is on the host: a network's part (`make`, `host`), a container's (`attach`,
//! `record`, `live`, `detach`; `guest` for those of other runtimes). Below them the kernel's interfaces: `link` and
//! `firewall` over `netlink`; and the small processes beside them: `names`, `proxy`. Others may make the network in our
//! place: `cni`. Across hosts: `wide`, and `overlay` for what etcd has.

pub mod attach;
pub mod cni;
pub mod detach;
pub mod firewall;
pub mod guest;
mod host;
pub mod leases;
pub mod link;
pub mod live;
pub mod mac;
pub mod make;
pub mod names;
mod netlink;
pub mod overlay;
mod poll;
pub mod ports;
pub mod proxy;
pub mod record;
pub mod rows;
pub mod settings;
pub mod shown;
#[cfg(test)]
mod testbed;
pub mod wanted;
pub mod wide;
