//! Guests: containers of other runtimes and engines, which an OCI hook puts into a network of ours. They have an
//! address, a name and ports like others; their files (resolv.conf, hosts) are their engine's.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use sha2::Digest;

use super::firewall::Firewall;
use super::link::Links;
use super::ports::{self, Families};
use super::record::Record;
use super::wanted::{self, Wanted};
use super::{attach, detach, host, rows, wide};
use crate::cli::network::Hook;
use crate::container::runtime::{make_run_dir, remove_run_dir};
use crate::container::state::Process;
use crate::tool::Tool;

/// The file in a guest's run directory that says which process it is.
const FILE: &str = "guest";

/// What a runtime tells a hook (runtime specification, "State").
#[derive(Deserialize)]
struct State {
    id: String,
    status: String,
    #[serde(default)]
    pid: i32,
}

/// A hook's call: at createRuntime the container comes in, at poststop it goes.
pub fn hook(tool: &Tool, args: &Hook) -> Result<()> {
    let state: State = serde_json::from_reader(std::io::stdin())
        .context("no container's state on the standard input: this is a hook, which OCI runtimes call")?;
    // What its runtime calls it may be anything, and another runtime's may be called the same.
    let id: String = sha2::Sha256::digest(format!("guest {}", state.id)).iter().map(|it| format!("{it:02x}")).collect();
    if state.status == "stopped" || state.pid == 0 {
        return leave(tool, &id);
    }
    let joined = join(tool, args, &state, &id).with_context(|| format!("container {}", state.id));
    if joined.is_err() {
        let _ = leave(tool, &id);
    }
    joined
}

fn run_dir(tool: &Tool, id: &str) -> PathBuf {
    tool.state_dir().join(&id[..32])
}

fn join(tool: &Tool, args: &Hook, state: &State, id: &str) -> Result<()> {
    let store = tool.store()?;
    let network = rows::find(store.db(), &args.network)?;
    let wanted = Wanted { guest: Some(state.id.clone()), ..wanted::of_guest(args)? };
    let published = args.publish.iter().map(|it| ports::parse(it)).collect::<Result<Vec<_>>>()?;
    if published.iter().any(|it| it.proxy) {
        bail!("--publish: via=proxy: nobody is there to keep that process");
    }
    let process = Process::of(state.pid).context("its process is gone")?;
    let namespace = File::open(format!("/proc/{}/ns/net", state.pid)).context("its network namespace")?;
    let own = std::fs::metadata("/proc/self/ns/net")?;
    if std::os::unix::fs::MetadataExt::ino(&own) == std::os::unix::fs::MetadataExt::ino(&namespace.metadata()?) {
        bail!("it has the host's network: it needs a namespace of its own");
    }
    // Who it is, before anything of it is there: the next command finds out whether it still lives.
    let dir = run_dir(tool, id);
    make_run_dir(&dir)?;
    std::fs::write(dir.join(FILE), serde_json::to_vec(&(store.root(), &process))?)?;
    let leased = wide::lease(tool, &network, id, &wanted)?;
    let endpoint = store.write(|db| rows::join(db, &network, id, &wanted, &leased))?;
    let of = |v6: bool| endpoint.addresses.iter().copied().find(|it| it.is_ipv6() == v6);
    let name = state.id.chars().filter(|it| it.is_ascii_alphanumeric() || *it == '-').take(63).collect();
    let device = attach::device_of(id, vec![name], Vec::new(), &endpoint, !network.settings.internal);
    let mut record = Record {
        container: id.to_owned(),
        table: attach::table(tool)?,
        networks: attach::networks_dir(tool),
        ..Record::default()
    };
    // Only whether they are free: nobody of ours stays to hold them.
    let families = Families { v4: of(false).is_some(), v6: of(true).is_some() };
    for held in ports::hold(&published, families)? {
        let to = of(held.host.is_ipv6()).context("--publish: the container has no address of this family")?;
        record.published.push(held.published(to, &network.device));
    }
    record.devices.push(device);
    record.write(&dir)?;
    let (mut links, mut firewall) = (Links::here()?, Firewall::open(&record.table)?);
    host::ensure(&mut links, &mut firewall, tool, &network)?;
    Links::inside(namespace.as_fd())?.up("lo")?;
    attach::plug_live(&record, &mut links, &namespace, &record.devices[0])?;
    firewall.publish(&record.published)
}

/// Undoes all of it. What is gone is fine.
fn leave(tool: &Tool, id: &str) -> Result<()> {
    let dir = run_dir(tool, id);
    detach::detach(&dir)?;
    let store = tool.store()?;
    for endpoint in rows::endpoints(store.db(), id)? {
        store.write(|db| rows::leave(db, &endpoint.network, id))?;
    }
    let _ = wide::pay(tool, id);
    remove_run_dir(&dir);
    Ok(())
}

/// Takes away what is left in run directories that no container's row is of: of guests whose runtime has called no hook
/// at their end, of containers with --rm whose monitor was killed in its last step.
pub fn sweep(tool: &Tool, strangers: &[PathBuf]) -> Result<()> {
    let table = attach::table(tool)?;
    for dir in strangers {
        let guest = std::fs::read(dir.join(FILE)).ok().and_then(|it| serde_json::from_slice(&it).ok());
        if let Some((store, process)) = guest {
            let (store, process): (PathBuf, Process) = (store, process);
            if !process.lives() && store == tool.store()?.root() {
                leave(tool, &guest_of(tool, dir)?)?;
            }
        } else if Record::read(dir)?.is_some_and(|it| it.table == table) {
            detach::detach(dir)?;
            remove_run_dir(dir);
        }
    }
    Ok(())
}

/// The whole id of a guest with this run directory. Where nothing was made yet, the directory's name is as good.
fn guest_of(tool: &Tool, dir: &Path) -> Result<String> {
    if let Some(record) = Record::read(dir)? {
        return Ok(record.container);
    }
    let short = dir.file_name().unwrap_or_default().to_string_lossy();
    let sql = "SELECT container FROM endpoints WHERE container >= ?1 AND container < ?1 || 'g' LIMIT 1";
    let found = tool.store()?.db().query_row(sql, [&short], |row| row.get(0));
    Ok(found.unwrap_or_else(|_| format!("{short}{short}")))
}
