//! The end of a container's networks on the machine, by what its record says, in two parts: [`release`], after which
//! nobody gets to it and its name, its ports and its address can be another one's; and [`remove_devices`], for which
//! nobody has to wait.

use std::path::Path;

use anyhow::Result;

use super::firewall::Firewall;
use super::link::Links;
use super::proxy;
use super::record::{self, Device, Record, run_dir_of};

/// The first part of the end: nobody is sent to the container any more, then nobody gets there. What is gone is fine.
///
/// What is returned was needed for it, and is better closed when nobody waits for us: [`Firewall::close_later`].
pub fn release(run_dir: &Path) -> Result<Option<Firewall>> {
    if !run_dir.join(record::FILE).exists() {
        return Ok(None);
    }
    let _lock = record::lock(run_dir)?;
    let Some(mut record) = Record::read(run_dir)?.filter(|it| !it.ended) else { return Ok(None) };
    let released = undo(run_dir, &record)?;
    // Or a reload that comes now would put back what has just been taken away.
    record.ended = true;
    record.write(run_dir)?;
    Ok(released)
}

fn undo(run_dir: &Path, record: &Record) -> Result<Option<Firewall>> {
    for device in &record.devices {
        withdraw(record, device);
    }
    if let Some(attached) = &record.cni {
        attached.delete(&record.container)?;
    }
    // Who hears of the end may want the port.
    proxy::end(run_dir)?;
    let mut firewall = None;
    if !record.published.is_empty() {
        firewall.insert(Firewall::open(&record.table)?).withdraw(&record.published)?;
    }
    let mut links = Links::here()?;
    record.devices.iter().filter(|it| !it.macvlan).try_for_each(|it| links.silence(&it.host))?;
    Ok(firewall)
}

/// The second part: the devices, which takes the kernel some milliseconds. They would go with the namespace, but that
/// one stays as long as a connection that has not come to its end.
pub fn remove_devices(run_dir: &Path) -> Result<()> {
    if !run_dir.join(record::FILE).exists() {
        return Ok(());
    }
    let _lock = record::lock(run_dir)?;
    let Some(record) = Record::read(run_dir)? else { return Ok(()) };
    let mut links = Links::here()?;
    record.devices.iter().filter(|it| !it.macvlan).try_for_each(|it| links.remove(&it.host))?;
    Record::remove(run_dir)
}

/// Both.
pub fn detach(run_dir: &Path) -> Result<()> {
    let _released = release(run_dir)?;
    remove_devices(run_dir)
}

/// Takes a container's name away; with the last one its network's server ends.
pub fn withdraw(record: &Record, device: &Device) {
    let dir = run_dir_of(&record.networks, &device.network);
    let _ = std::fs::remove_file(dir.join("containers").join(&record.container));
}
