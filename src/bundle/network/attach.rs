//! A container's networks on the machine: what a start makes. What an end undoes is in `detach.rs`.
//!
//! ```text
//! plan    which devices, addresses, ports (database)          nothing is made yet
//! hold    the host's ports are bound: a conflict is known here
//! begin   record ─► bridge, rules ─► names, name server ─► network namespace ─► pair of devices, addresses, routes
//!         ─► ports
//! finish  the name server answers; the monitor gets the descriptors
//! ```

use std::fs::File;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use ipnet::IpNet;

use super::cni::{self, Attached};
use super::firewall::{Firewall, Protocol, Published};
use super::link::{Links, Veth, inside as within, new_namespace};
use super::ports::{self, Families, Held, HostPorts, Publish};
use super::record::{self, Device, Entry, Forwarded, Record};
use super::rows::{self, Endpoint, Network};
use super::settings::Driver;
use super::{detach, host, names, proxy};
use crate::container::files::Site;
use crate::container::record::Container;
use crate::monitor::talk;
use crate::tool::Tool;

/// A container that is about to be in its networks.
pub struct Joining {
    endpoints: Vec<Endpoint>,
    record: Record,
    held: Vec<Held>,
    namespace: Option<OwnedFd>,
    servers: Vec<names::Starting>,
}

impl Joining {
    /// What a container is to be in, and its ports of the host, which are ours from now on.
    pub fn plan(tool: &Tool, container: &Container) -> Result<Self> {
        let endpoints = rows::endpoints(tool.store()?.db(), &container.id)?;
        let mut record = Record {
            container: container.id.clone(),
            table: table(tool)?,
            networks: networks_dir(tool),
            ..Record::default()
        };
        let flags = &container.settings.flags;
        let outward = endpoints.iter().position(leads_out);
        for (at, endpoint) in endpoints.iter().enumerate() {
            record.devices.push(device(container, endpoint, outward == Some(at)));
        }
        let mut joining = Self { endpoints, record, held: Vec::new(), namespace: None, servers: Vec::new() };
        let exposed = container.settings.image.exposed_ports.iter().flatten().map(|it| it.0.as_str());
        let wanted = ports::wanted(flags, exposed)?;
        if let Some(name) = super::wanted::cni(flags) {
            let mut attached = cni::find(name)?;
            attached.publish(&wanted)?;
            joining.record.cni = Some(attached);
        } else if !wanted.is_empty() && !joining.endpoints.is_empty() {
            let Some(outward) = outward else {
                bail!("--publish: network {} is internal: nothing comes in", joining.endpoints[0].network.name)
            };
            joining.hold(&wanted, outward).map_err(|error| name_holder(tool, &wanted, error))?;
        }
        Ok(joining)
    }

    /// Takes the host's ports for the device that leads out.
    fn hold(&mut self, wanted: &[Publish], outward: usize) -> Result<()> {
        let endpoint = &self.endpoints[outward];
        let of = |v6: bool| endpoint.addresses.iter().copied().find(|it| it.is_ipv6() == v6);
        self.held = ports::hold(wanted, Families { v4: of(false).is_some(), v6: of(true).is_some() })?;
        for held in &self.held {
            // By a process also from one family to the other.
            let to =
                of(held.host.is_ipv6()).or_else(|| of(!held.host.is_ipv6())).context("a container without address")?;
            if held.proxy {
                self.record.forwarded.push(Forwarded {
                    protocol: held.protocol,
                    listen: held.host,
                    to: SocketAddr::new(to, held.container),
                    sources: held.sources.clone(),
                });
            } else {
                self.record.published.push(held.published(to, &endpoint.network.device));
            }
        }
        Ok(())
    }

    /// Whether there is any network.
    pub fn is_alone(&self) -> bool {
        self.endpoints.is_empty() && self.record.cni.is_none()
    }

    /// What the networks say of the container's files.
    pub fn site(&self) -> Site {
        self.record.cni.as_ref().map_or_else(|| site(&self.endpoints), Attached::site)
    }

    /// Makes all of it around a new network namespace. With `later`, the runtime makes the namespace, in the container's
    /// own user namespace, and calls us from there: see [`attach_from_hook`].
    pub fn begin(&mut self, tool: &Tool, run_dir: &Path, later: bool) -> Result<()> {
        if self.is_alone() {
            return Ok(());
        }
        self.record.write(run_dir)?;
        if self.record.cni.is_some() {
            return self.begin_by_plugins(run_dir, later);
        }
        let mut links = Links::here()?;
        let mut firewall = Firewall::open(&self.record.table)?;
        for endpoint in &self.endpoints {
            host::ensure(&mut links, &mut firewall, tool, &endpoint.network)?;
        }
        // They start while we make the rest.
        for device in self.record.devices.iter().filter(|it| it.named) {
            self.servers.push(announce(&self.record, device)?);
        }
        if !later {
            let (namespace, mut inside) = new_namespace()?;
            inside.up("lo")?;
            for device in &self.record.devices {
                plug(&self.record, &mut links, &mut inside, namespace.as_fd(), device)?;
            }
            self.namespace = Some(namespace);
        }
        firewall.publish(&self.record.published)?;
        let forwarded: Vec<_> =
            self.held.iter().filter(|it| it.proxy).zip(self.record.forwarded.iter().map(|it| it.to.ip())).collect();
        if !forwarded.is_empty() {
            proxy::start(run_dir, &forwarded)?;
        }
        Ok(())
    }

    fn begin_by_plugins(&mut self, run_dir: &Path, later: bool) -> Result<()> {
        if later {
            bail!(
                "--network cni:NAME: plugins need a namespace before the container's own users are there: not with --userns"
            );
        }
        let (namespace, mut inside) = new_namespace()?;
        inside.up("lo")?;
        let path = PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), namespace.as_raw_fd()));
        self.namespace = Some(namespace);
        if let Some(attached) = &mut self.record.cni {
            attached.add(&self.record.container, &path)?;
        }
        // What they have said is said to them again at the end.
        self.record.write(run_dir)
    }

    /// The network namespace, as config.json names it for the runtime that a monitor calls.
    pub fn path(&self, monitor: u32) -> Option<String> {
        self.namespace.as_ref().map(|_| format!("/proc/{monitor}/fd/{}", talk::NETWORK))
    }

    /// The last steps for who has no monitor: the namespace is the caller's, who keeps it open.
    pub fn finish_alone(self) -> Result<Option<OwnedFd>> {
        self.lead_to_servers()?;
        Ok(self.namespace)
    }

    fn lead_to_servers(&self) -> Result<()> {
        for server in &self.servers {
            server.wait()?;
        }
        self.record.devices.iter().filter(|it| it.named).try_for_each(|it| lead_to_server(&self.record, it))
    }

    /// The last steps before the program runs.
    pub fn finish(self, monitor: &OwnedFd) -> Result<()> {
        self.lead_to_servers()?;
        // Where there is no namespace, something else stands in its place: the first is never a port.
        let namespace = self.namespace.as_ref().map_or(monitor.as_fd(), AsFd::as_fd);
        if !self.is_alone() {
            // The others are the forwarding process's.
            let sockets = self.held.iter().filter(|it| !it.proxy).map(|it| it.socket.as_fd());
            let fds: Vec<BorrowedFd<'_>> = [namespace].into_iter().chain(sockets).collect();
            talk::hand_over(monitor, &fds)?;
        }
        Ok(())
    }
}

/// The table of rules of the machine's usual store.
pub const TABLE: &str = "bundle";

/// The name of the table of rules: other stores on this machine have others.
pub fn table(tool: &Tool) -> Result<String> {
    let root = tool.store()?.root();
    if root == Path::new("/var/lib/bundle") {
        return Ok(TABLE.to_owned());
    }
    use sha2::Digest;
    let digest = sha2::Sha256::digest(root.as_os_str().as_encoded_bytes());
    Ok(format!("{TABLE}-{:02x}{:02x}{:02x}{:02x}", digest[0], digest[1], digest[2], digest[3]))
}

/// Where the networks' run-time files lie.
pub fn networks_dir(tool: &Tool) -> PathBuf {
    tool.state_dir().join("networks")
}

/// Who has a port that could not be had, where it is one of our containers.
fn name_holder(tool: &Tool, wanted: &[Publish], error: anyhow::Error) -> anyhow::Error {
    let asked = |protocol: Protocol, port: u16| {
        wanted.iter().any(|it| {
            let range = match &it.ports {
                HostPorts::Each(range) | HostPorts::FirstFree(range) => range,
                HostPorts::Random => return false,
            };
            it.protocol == protocol && range.contains(&port)
        })
    };
    let table = table(tool).ok();
    for entry in std::fs::read_dir(tool.state_dir()).into_iter().flatten().flatten() {
        // Another store's may be in another network namespace.
        let record = Record::read(&entry.path()).ok().flatten().filter(|it| table.as_ref() == Some(&it.table));
        let Some(record) = record else { continue };
        let published = record.ports().map(|it| (it.protocol, it.port));
        let mut ports = published.chain(record.forwarded.iter().map(|it| (it.protocol, it.listen.port())));
        if let Some((protocol, port)) = ports.find(|it| asked(it.0, it.1)) {
            let name = record.devices.first().and_then(|it| it.entry.names.first().cloned()).unwrap_or_default();
            return error.context(format!("--publish: port {port}/{protocol} of the host leads to container {name}"));
        }
    }
    error
}

fn leads_out(endpoint: &Endpoint) -> bool {
    !endpoint.network.settings.internal
}

/// What a container's files say of its networks.
pub fn site(endpoints: &[Endpoint]) -> Site {
    let served = endpoints.iter().find(|it| is_named(&it.network));
    let gateways = |it: &Endpoint| it.network.settings.subnets.iter().map(|it| it.gateway).collect::<Vec<IpAddr>>();
    Site {
        addresses: endpoints.iter().flat_map(|it| it.addresses.iter().copied()).collect(),
        servers: served.map(gateways).unwrap_or_default(),
        gateways: endpoints.iter().find(|it| leads_out(it)).map(gateways).unwrap_or_default(),
    }
}

/// Whether a network has a name server: the host must have an address in it.
fn is_named(network: &Network) -> bool {
    network.settings.names && network.settings.driver != Driver::Macvlan
}

/// A container's device in a network. `outward`: by it the container reaches the rest of the world.
pub fn device(container: &Container, endpoint: &Endpoint, outward: bool) -> Device {
    let flags = &container.settings.flags;
    let mut names = vec![container.name.clone(), container.short().to_owned()];
    names.extend(flags.hostname.clone());
    let servers = flags.dns.iter().filter_map(|it| it.parse().ok()).collect();
    device_of(&container.id, names, servers, endpoint, outward)
}

/// The same for anybody: an id of 64 hexadecimal digits, names, resolvers for what is not ours.
pub fn device_of(id: &str, mut names: Vec<String>, servers: Vec<IpAddr>, endpoint: &Endpoint, outward: bool) -> Device {
    let network = &endpoint.network;
    let prefix = |it: &IpAddr| network.settings.subnet_of(*it).map_or(32, |it| it.net.prefix_len());
    let macvlan = network.settings.driver == Driver::Macvlan;
    names.extend(endpoint.wanted.aliases.iter().cloned());
    Device {
        network: network.id.clone(),
        name: format!("eth{}", endpoint.position),
        host: if macvlan {
            network.settings.parent.clone().unwrap_or_default()
        } else {
            format!("v{}{}", &id[..12], endpoint.position)
        },
        macvlan,
        bridge: network.device.clone(),
        mac: endpoint.mac(),
        mtu: network.settings.mtu,
        addresses: endpoint.addresses.iter().filter_map(|it| IpNet::new(*it, prefix(it)).ok()).collect(),
        gateways: if outward { network.settings.subnets.iter().map(|it| it.gateway).collect() } else { Vec::new() },
        named: is_named(network),
        entry: Entry {
            container: id.to_owned(),
            addresses: endpoint.addresses.clone(),
            names,
            links: endpoint.wanted.links.iter().map(|(target, name)| (name.clone(), target.clone())).collect(),
            servers,
        },
    }
}

/// A device in a container's namespace, with its addresses and routes.
fn plug(
    record: &Record,
    links: &mut Links,
    inside: &mut Links,
    namespace: BorrowedFd<'_>,
    device: &Device,
) -> Result<()> {
    if device.macvlan {
        let parent = links.find(&device.host)?;
        let parent =
            parent.with_context(|| format!("--opt parent: the host has no device {} any more", device.host))?;
        links.macvlan(parent.index, &device.name, namespace, Some(device.mac.0), device.mtu)?;
    } else {
        let bridge = links.find(&device.bridge)?.with_context(|| format!("the bridge {} is gone", device.bridge))?;
        let veth = Veth {
            name: &device.host,
            bridge: bridge.index,
            peer: &device.name,
            namespace,
            mac: Some(device.mac.0),
            mtu: device.mtu.unwrap_or(bridge.mtu),
            hairpin: record.ports().next().is_some(),
            isolated: false,
        };
        // Of a run before this one, whose namespace the kernel has not taken down yet.
        links.remove(&device.host)?;
        links.veth(&veth)?;
    }
    // Before it is set up: no neighbour's router advertisement gives the container a way (CVE-2020-10749).
    within(namespace, || quiet(device))??;
    let link = inside.find(&device.name)?.with_context(|| format!("{} is not in the container", device.name))?;
    for address in &device.addresses {
        inside.address(link.index, address.addr(), address.prefix_len())?;
    }
    inside.up(&device.name)?;
    for gateway in &device.gateways {
        inside.default_route(*gateway)?;
    }
    Ok(())
}

/// IPv6 by our addresses alone, or not at all.
fn quiet(device: &Device) -> Result<()> {
    let v6 = device.addresses.iter().any(|it| it.addr().is_ipv6());
    for (name, value) in [("accept_ra", "0"), ("disable_ipv6", if v6 { "0" } else { "1" })] {
        let path = format!("/proc/sys/net/ipv6/conf/{}/{name}", device.name);
        match std::fs::write(&path, value) {
            // A kernel without IPv6.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !v6 => {}
            written => written.with_context(|| format!("writing {path} in the container"))?,
        }
    }
    Ok(())
}

/// Tells a network's name server of a container, and makes sure that there is one.
fn announce(record: &Record, device: &Device) -> Result<names::Starting> {
    let dir = record.network_dir(&device.network);
    let new = dir.join(format!(".{}", record.container));
    let write = || -> std::io::Result<()> {
        std::fs::write(&new, serde_json::to_vec(&device.entry)?)?;
        std::fs::rename(&new, dir.join("containers").join(&record.container))
    };
    write().with_context(|| format!("writing below {}", dir.display()))?;
    names::ensure(&dir)
}

/// Puts a running container into one network more.
pub fn plug_live(record: &Record, links: &mut Links, namespace: &File, device: &Device) -> Result<()> {
    let mut inside = Links::inside(namespace.as_fd())?;
    let server = device.named.then(|| announce(record, device)).transpose()?;
    plug(record, links, &mut inside, namespace.as_fd(), device)?;
    server.map_or(Ok(()), |it| it.wait())
}

/// Takes a running container out of one.
pub fn unplug_live(record: &Record, links: &mut Links, namespace: &File, device: &Device) -> Result<()> {
    detach::withdraw(record, device);
    if device.macvlan {
        return Links::inside(namespace.as_fd())?.remove(&device.name);
    }
    links.remove(&device.host)
}

/// Puts a running container's cables into bridges that were made anew, and its names before servers that were.
pub fn plug_again(record: &Record, links: &mut Links) -> Result<()> {
    for device in &record.devices {
        if !device.macvlan {
            links.put_into(&device.host, &device.bridge)?;
        }
    }
    announce_again(record)
}

/// Tells the name servers of a running container anew.
pub fn announce_again(record: &Record) -> Result<()> {
    record.devices.iter().filter(|it| it.named).try_for_each(|it| announce(record, it)?.wait())
}

/// The hidden word of the hook that a runtime calls for a container whose namespaces it makes itself.
pub const HOOK: &str = "attach-network";

/// The hook's part: the devices, in the namespace of the process that the runtime tells of (runtime specification,
/// "State", on the standard input).
pub fn attach_from_hook(words: &[String]) -> Result<()> {
    let [run_dir] = words else { bail!("{HOOK} RUN_DIR: a hook of OCI runtimes, not for people") };
    let state: serde_json::Value = serde_json::from_reader(std::io::stdin()).context("the container's state")?;
    let pid = state["pid"].as_i64().context("the container's state names no process")?;
    let namespace = File::open(format!("/proc/{pid}/ns/net")).context("the container's network namespace")?;
    let record = Record::read(Path::new(run_dir))?.context("its networks were not prepared")?;
    let (mut links, mut inside) = (Links::here()?, Links::inside(namespace.as_fd())?);
    inside.up("lo")?;
    for device in &record.devices {
        plug(&record, &mut links, &mut inside, namespace.as_fd(), device)?;
    }
    Ok(())
}

/// Holds the host's ports of a container anew whose monitor was killed. Where somebody has been quicker he has the
/// socket, and the container the packets.
pub fn hold_again(run_dir: &Path, monitor: &OwnedFd) -> Result<()> {
    let Some(record) = Record::read(run_dir)? else { return Ok(()) };
    let sockets = ports::hold_again(record.ports());
    let fds: Vec<BorrowedFd<'_>> = [monitor.as_fd()].into_iter().chain(sockets.iter().map(AsFd::as_fd)).collect();
    talk::hand_over(monitor, &fds)
}

/// Forwards ports anew whose process was killed. What somebody else has by now is his.
pub fn forward_again(run_dir: &Path) -> Result<()> {
    let _lock = record::lock(run_dir)?;
    let Some(record) = Record::read(run_dir)?.filter(|it| !it.ended) else { return Ok(()) };
    let held: Vec<(Held, IpAddr)> = record
        .forwarded
        .iter()
        .filter_map(|it| Some((ports::hold_forwarded(it.protocol, it.listen, it.to.port(), &it.sources)?, it.to.ip())))
        .collect();
    // Else a command is just starting it, or has ended it.
    if held.is_empty() || !proxy::is_killed(run_dir)? {
        return Ok(());
    }
    proxy::start(run_dir, &held.iter().map(|it| (&it.0, it.1)).collect::<Vec<_>>())
}

/// Where a program of the host has port 53 of all addresses, a network's name server is at another one, and rules lead
/// there.
fn lead_to_server(record: &Record, device: &Device) -> Result<()> {
    let dir = record.network_dir(&device.network);
    let Some(port) = names::port(&dir) else { return Ok(()) };
    let Some(config) = host::Config::read(&dir)? else { return Ok(()) };
    let of = |protocol, address: IpAddr| Published {
        protocol,
        host: Some(address),
        port: 53,
        to: SocketAddr::new(address, port),
        bridge: device.bridge.clone(),
        sources: Vec::new(),
    };
    let both = |address: IpAddr| [of(Protocol::Udp, address), of(Protocol::Tcp, address)];
    let wanted: Vec<Published> = config.listen.iter().flat_map(|it| both(*it)).collect();
    let mut firewall = Firewall::open(&record.table)?;
    // The last server may have had another one.
    let is_old = |it: &Published| it.host == Some(it.to.ip()) && it.port == 53 && !wanted.contains(it);
    let there = firewall.list()?.1;
    let old: Vec<Published> = there.into_iter().filter(|it| it.bridge == device.bridge && is_old(it)).collect();
    firewall.withdraw(&old)?;
    firewall.publish(&wanted)
}
