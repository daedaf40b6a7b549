//! An OCI hook that gives a container an address on a bridge.
//!
//! As createRuntime (or prestart) hook it attaches, as poststop hook it detaches; the state on
//! standard input says which. Everything happens under one lock for each bridge. The lease is on disk
//! before the first link is made, so a hook that is killed leaves nothing that is not in the file.

mod leases;
mod link;
#[path = "../../src/rt/launch/netdev/netlink.rs"]
#[allow(dead_code)] // the runtime's own, of which this is a part
mod netlink;
#[path = "../state.rs"]
mod state;
mod subnet;

use std::fs::File;
use std::net::Ipv4Addr;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use clap::error::ErrorKind;

use leases::{Lease, Leases, Store};
use link::Links;
use state::State;
use subnet::Subnet;

/// The annotation that asks for one address instead of the next free one.
const ANNOTATION: &str = "io.oci-net-attach.address";

#[derive(Debug, Parser)]
#[command(
    name = "oci-net-attach",
    version,
    about = "OCI hook: attach a container to a bridge (createRuntime, prestart), detach it (poststop)",
    after_help = "The state of the container comes on standard input. The annotation\n\
        io.oci-net-attach.address=\"10.99.0.7\" asks for that address instead of the next free one."
)]
struct Cli {
    /// The bridge; made if there is none, and then removed after its last container
    #[arg(long, default_value = "br-oci", value_name = "NAME", value_parser = interface)]
    bridge: String,
    /// Addresses of containers; the bridge has the first of them
    #[arg(long, default_value = "10.99.0.0/24", value_name = "ADDRESS/BITS")]
    subnet: Subnet,
    /// The device in the container
    #[arg(long, default_value = "eth0", value_name = "NAME", value_parser = interface)]
    interface: String,
    /// Where leases are kept
    #[arg(long, default_value = "/run/oci-net-attach", value_name = "DIR")]
    state_dir: PathBuf,
    /// The hook's stage, as some engines give it; the state says it all
    #[arg(value_name = "STAGE")]
    stage: Option<String>,
}

/// A name for a link: what the kernel takes, and a file name.
fn interface(name: &str) -> Result<String, String> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    if name.is_empty() || name.len() > 15 || name.starts_with('.') || !name.bytes().all(good) {
        return Err("a link's name is 1 to 15 letters, digits and _ - .".into());
    }
    Ok(name.to_owned())
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => error.exit(),
        Err(error) => {
            // The first line says it; a hook's errors are lines of a log.
            eprintln!("oci-net-attach: {}", error.to_string().lines().next().unwrap_or_default());
            return ExitCode::FAILURE;
        }
    };
    let run = || {
        let state = State::read()?;
        if state.status == "stopped" { detach(&cli, &state.id) } else { attach(&cli, &state) }
    };
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("oci-net-attach: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn attach(cli: &Cli, state: &State) -> Result<()> {
    let pid = state.process()?;
    let wanted = state.annotations.get(ANNOTATION).map(|text| wanted(cli.subnet, text)).transpose()?;
    let namespace = File::open(format!("/proc/{pid}/ns/net"))
        .with_context(|| format!("the network namespace of process {pid}, the container's first"))?;
    let id = |file: &File| file.metadata().map(|it| (it.dev(), it.ino()));
    ensure!(
        id(&namespace)? != id(&File::open("/proc/self/ns/net")?)?,
        "{} has no network namespace of its own",
        state.id
    );
    let started = leases::started(pid).with_context(|| format!("process {pid} is gone"))?;

    let mut host = Links::here()?;
    let mut container = Links::of(&namespace)?;
    let found = host.find(&cli.bridge)?;
    ensure!(found.as_ref().is_none_or(|(_, kind)| kind == "bridge"), "{} is not a bridge", cli.bridge);
    ensure!(container.find(&cli.interface)?.is_none(), "{} has a device {} already", state.id, cli.interface);

    let store = Store::open(&cli.state_dir, &cli.bridge)?;
    // Another container may have made it, or taken it away, before the lock was ours.
    let there = host.find(&cli.bridge)?.is_some();
    let mut all = store.read()?;
    reclaim(&mut all, &mut host)?;
    if let Some((address, _)) = all.leases.iter().find(|(_, lease)| lease.id == state.id) {
        bail!("{} has the address {address} already", state.id);
    }
    let address = match wanted {
        Some(address) => match all.leases.get(&address) {
            Some(lease) => bail!("the address {address} is taken by {}", lease.id),
            None => address,
        },
        None => cli
            .subnet
            .hosts()
            .find(|address| !all.leases.contains_key(address))
            .with_context(|| format!("all {} addresses of {} are taken", all.leases.len(), cli.bridge))?,
    };
    let link = format!("veth{:08x}", address.to_bits());
    all.made_bridge |= !there;
    all.leases.insert(address, Lease { id: state.id.clone(), pid, started, link: link.clone() });
    store.write(&all)?;

    let broadcast = cli.subnet.broadcast();
    let mut connect = || {
        if !there {
            host.make_bridge(&cli.bridge)?;
        }
        host.add_address(&cli.bridge, cli.subnet.gateway(), cli.subnet.prefix, broadcast)?;
        host.up(&cli.bridge)?;
        let bridge = host.index(&cli.bridge)?;
        host.make_pair(&link, bridge, &cli.interface, &namespace)?;
        container.up("lo")?;
        container.add_address(&cli.interface, address, cli.subnet.prefix, broadcast)?;
        container.up(&cli.interface)?;
        container.add_default_route(cli.subnet.gateway())
    };
    connect().inspect_err(|_| {
        // The first error is the one to tell.
        let _ = release(cli, &store, &mut all, &mut host, &state.id);
    })
}

fn wanted(subnet: Subnet, text: &str) -> Result<Ipv4Addr> {
    let address = text.parse().with_context(|| format!("{ANNOTATION}: {text:?} is not an IPv4 address"))?;
    ensure!(subnet.is_host(address), "{ANNOTATION}: {address} is no address of containers in this subnet");
    Ok(address)
}

/// Takes back what nobody will give back: the process that a lease was made for is gone, and the
/// device on the bridge too, which ends with the container's network namespace.
fn reclaim(all: &mut Leases, host: &mut Links) -> Result<()> {
    let mut stale = Vec::new();
    for (address, lease) in &all.leases {
        if leases::started(lease.pid) != Some(lease.started) && host.find(&lease.link)?.is_none() {
            stale.push(*address);
        }
    }
    for address in stale {
        all.leases.remove(&address);
    }
    Ok(())
}

fn detach(cli: &Cli, id: &str) -> Result<()> {
    let store = Store::open(&cli.state_dir, &cli.bridge)?;
    let mut all = store.read()?;
    release(cli, &store, &mut all, &mut Links::here()?, id)
}

/// Removes what a container has; nothing is no error, for a hook that failed has undone its work.
fn release(cli: &Cli, store: &Store, all: &mut Leases, host: &mut Links, id: &str) -> Result<()> {
    let Some((address, lease)) = all.leases.iter().find(|(_, lease)| lease.id == id) else { return Ok(()) };
    let address = *address;
    host.remove(&lease.link)?;
    all.leases.remove(&address);
    reclaim(all, host)?;
    if all.leases.is_empty() && all.made_bridge {
        host.remove(&cli.bridge)?;
    }
    store.write(all)
}
