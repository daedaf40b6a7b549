//! Users and groups of a container's own: which of the host's ids each of them is.

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Ids in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// The first in the container.
    pub container: u32,
    /// The first on the host.
    pub host: u32,
    /// How many.
    pub count: u32,
}

/// A container's mapping: none of its ranges overlap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ids {
    /// Of users.
    pub uids: Vec<Range>,
    /// Of groups.
    pub gids: Vec<Range>,
}

impl Ids {
    /// Ids 0 to `count` - 1 of the container are the host's from `host` on.
    pub fn block(host: u32, count: u32) -> Self {
        let range = Range { container: 0, host, count };
        Self { uids: vec![range], gids: vec![range] }
    }

    /// Reads `--uidmap` and `--gidmap`, each `CONTAINER:HOST:COUNT`.
    pub fn parse(uidmap: &[String], gidmap: &[String]) -> Result<Self> {
        let uids = ranges("--uidmap", uidmap)?;
        let gids = if gidmap.is_empty() { uids.clone() } else { ranges("--gidmap", gidmap)? };
        for (flag, list) in [("--uidmap", &uids), ("--gidmap", &gids)] {
            if !list.iter().any(|it| it.container == 0) {
                bail!("{flag}: id 0 of the container is none of the host's: give it one, such as 0:100000:65536");
            }
        }
        Ok(Self { uids, gids })
    }

    /// `linux.uidMappings` and `linux.gidMappings`.
    pub fn mappings(&self) -> (Value, Value) {
        let list = |ranges: &[Range]| {
            ranges.iter().map(|it| json!({"containerID": it.container, "hostID": it.host, "size": it.count})).collect()
        };
        (list(&self.uids), list(&self.gids))
    }

    /// Whether a group of the container has a number on the host.
    pub fn has_group(&self, gid: u32) -> bool {
        contains(&self.gids, gid)
    }

    /// Whether a process with these ids can be.
    pub fn check(&self, uid: u32, groups: &[u32]) -> Result<()> {
        if !contains(&self.uids, uid) {
            bail!("user {uid} is not among the container's own: give --userns a size, or --uidmap a range, with it");
        }
        if let Some(gid) = groups.iter().find(|it| !contains(&self.gids, **it)) {
            bail!("group {gid} is not among the container's own: give --userns a size, or --gidmap a range, with it");
        }
        Ok(())
    }
}

fn contains(ranges: &[Range], id: u32) -> bool {
    ranges.iter().any(|it| id >= it.container && id - it.container < it.count)
}

fn ranges(flag: &str, list: &[String]) -> Result<Vec<Range>> {
    // As many as the kernel takes.
    const MOST: usize = 340;
    let mut ranges: Vec<Range> = Vec::new();
    for text in list {
        let wrong = || format!("{flag} {text:?}: not of the form CONTAINER:HOST:COUNT");
        let numbers: Vec<u32> = text.split(':').map(str::parse).collect::<Result<_, _>>().ok().with_context(wrong)?;
        let [container, host, count] = numbers[..] else { bail!(wrong()) };
        if count == 0 || container.checked_add(count).is_none() || host.checked_add(count).is_none() {
            bail!("{flag} {text:?}: not a range of ids");
        }
        let overlap = |a: u32, b: &dyn Fn(&Range) -> u32| {
            ranges.iter().any(|it| {
                let (first, end) = (u64::from(b(it)), u64::from(b(it)) + u64::from(it.count));
                u64::from(a) < end && first < u64::from(a) + u64::from(count)
            })
        };
        if overlap(container, &|it| it.container) || overlap(host, &|it| it.host) {
            bail!("{flag} {text:?}: it overlaps another one");
        }
        ranges.push(Range { container, host, count });
    }
    if ranges.len() > MOST {
        bail!("{flag}: {} ranges are more than the {MOST} that a kernel takes", ranges.len());
    }
    Ok(ranges)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_strictly() {
        let map = |list: &[&str]| Ids::parse(&list.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>(), &[]);
        let ids = map(&["0:100000:1000", "1000:500000:1"]).unwrap();
        assert_eq!(ids.uids, ids.gids);
        assert!(ids.check(1000, &[0, 999]).is_ok() && ids.check(1001, &[]).is_err() && ids.check(0, &[1001]).is_err());
        assert_eq!(ids.mappings().0[1], json!({"containerID": 1000, "hostID": 500_000, "size": 1}));
        for bad in [
            &["0:1"][..],
            &["0:1:0"],
            &["0:1:x"],
            &["0:4294967295:2"],
            &["1:100:1"],
            &["0:1:10", "5:100:1"],
            &["0:1:10", "20:5:1"],
            &[],
        ] {
            assert!(map(bad).is_err(), "{bad:?}");
        }
    }
}
