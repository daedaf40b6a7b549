//! The last privileges go: capabilities, groups, ids. The order is the kernel's: bounding set first
//! (it takes CAP_SETPCAP), then groups and ids with the permitted set kept, then the exact sets.

use anyhow::{Result, anyhow};
use rustix::io::Errno;
use rustix::process::{Gid, Uid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, clear_ambient_capability_set, configure_capability_in_ambient_set,
    remove_capability_from_bounding_set, set_capabilities, set_keep_capabilities, set_no_new_privs, set_thread_groups,
    set_thread_res_gid, set_thread_res_uid,
};

use crate::plan::process::{Caps, Process};
use crate::sys::error::{At, errno};

/// Numbers that a kernel may give to capabilities, one more than the highest that we drop.
const MAX_CAPABILITY: u32 = 63;

/// Becomes the user of the document, with its capabilities. `keep` stay permitted beside them.
pub(super) fn take_on(process: &Process<'_>, keep: u64) -> Result<()> {
    drop_bounding(process.capabilities.bounding)?;
    if process.uid != 0 {
        // Otherwise leaving id 0 would empty the permitted set.
        set_keep_capabilities(true).at(|| "keeping capabilities".into())?;
    }
    groups(process)?;
    let gid = Gid::from_raw(process.gid);
    set_thread_res_gid(gid, gid, gid).map_err(|error| unmapped("gid", process.gid, error))?;
    let uid = Uid::from_raw(process.uid);
    set_thread_res_uid(uid, uid, uid).map_err(|error| unmapped("uid", process.uid, error))?;
    set_exact(process.capabilities, keep)?;
    if process.capabilities.ambient != 0 {
        clear_ambient_capability_set().at(|| "clearing the ambient capabilities".into())?;
        for bit in bits(process.capabilities.ambient) {
            configure_capability_in_ambient_set(CapabilitySet::from_bits_retain(1 << bit), true)
                .at(|| format!("/process/capabilities/ambient: raising capability {bit}"))?;
        }
    }
    if process.no_new_privileges {
        set_no_new_privs(true).at(|| "/process/noNewPrivileges".into())?;
    }
    Ok(())
}

/// Sets effective, permitted and inheritable, with `keep` added to the first two.
pub(super) fn set_exact(caps: Caps, keep: u64) -> Result<()> {
    let set = CapabilitySet::from_bits_retain;
    let sets = CapabilitySets {
        effective: set(caps.effective | keep),
        permitted: set(caps.permitted | keep),
        inheritable: set(caps.inheritable),
    };
    set_capabilities(None, sets).at(|| "/process/capabilities: setting the capabilities".into())
}

fn drop_bounding(keep: u64) -> Result<()> {
    for bit in 0..MAX_CAPABILITY {
        if keep & (1 << bit) == 0 {
            match remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << bit)) {
                Ok(()) => {}
                // The first number that the kernel does not know: there are none behind it.
                Err(Errno::INVAL) if bit > 0 => return Ok(()),
                Err(error) => return Err(error).at(|| format!("dropping capability {bit} from the bounding set")),
            }
        }
    }
    Ok(())
}

/// Always set, so that no group of the host stays.
fn groups(process: &Process<'_>) -> Result<()> {
    let groups: Vec<Gid> = process.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    match set_thread_groups(&groups) {
        Ok(()) => Ok(()),
        // A plain user's namespace may forbid the call for good (user_namespaces(7)); then there is
        // nothing to set either.
        Err(Errno::PERM) if groups.is_empty() && setgroups_denied() => Ok(()),
        Err(Errno::PERM) if setgroups_denied() => Err(anyhow!(
            "/process/user/additionalGids: this user namespace does not let groups be set (its setgroups file says deny)"
        )),
        Err(error) => Err(error).at(|| "/process/user/additionalGids: setting the groups".into()),
    }
}

fn setgroups_denied() -> bool {
    std::fs::read("/proc/self/setgroups").is_ok_and(|text| text.starts_with(b"deny"))
}

fn unmapped(field: &str, id: u32, error: Errno) -> anyhow::Error {
    match error {
        Errno::INVAL => {
            anyhow!("/process/user/{field}: {id} is in none of the ranges of the user namespace's mappings")
        }
        error => anyhow!("/process/user/{field}: becoming {id}: {}", errno(error)),
    }
}

fn bits(mask: u64) -> impl Iterator<Item = u32> {
    (0..64).filter(move |bit| mask & (1 << bit) != 0)
}
