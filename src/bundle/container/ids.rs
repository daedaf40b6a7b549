//! Users and groups of a container's own: which of the host's ids each of them is.
//!
//! `--userns auto` takes ids that no other container has; the database keeps who has which.

use anyhow::{Context, Result, bail};
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::spec;
use crate::cli::flags::Flags;

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
        let ids = Self { uids, gids };
        ids.with_host_root()?;
        Ok(ids)
    }

    /// The text of `/proc/PID/uid_map` and of `gid_map`.
    pub fn maps(&self) -> (String, String) {
        let text =
            |ranges: &[Range]| ranges.iter().map(|it| format!("{} {} {}\n", it.container, it.host, it.count)).collect();
        (text(&self.uids), text(&self.gids))
    }

    /// The mapping with the host's root in it, under an id that no container has: overlay works in its upper directory
    /// as who has mounted it.
    pub fn with_host_root(&self) -> Result<Self> {
        const NOBODYS: u32 = u32::MAX - 1;
        let with = |ranges: &[Range]| {
            let mut ranges = ranges.to_vec();
            if !ranges.iter().any(|it| it.host == 0) {
                if contains(&ranges, NOBODYS) {
                    bail!("--uidmap: the id {NOBODYS} cannot be a container's");
                }
                ranges.push(Range { container: NOBODYS, host: 0, count: 1 });
            }
            Ok(ranges)
        };
        Ok(Self { uids: with(&self.uids)?, gids: with(&self.gids)? })
    }

    /// Which user and group of the host two of the container are; 0 where they are none.
    pub fn on_host(&self, uid: u32, gid: u32) -> (u32, u32) {
        (host(&self.uids, uid).unwrap_or(0), host(&self.gids, gid).unwrap_or(0))
    }

    /// The same, and none where one of them is none of the container's.
    pub fn given_to(&self, uid: u32, gid: u32) -> Option<(u32, u32)> {
        Some((host(&self.uids, uid)?, host(&self.gids, gid)?))
    }

    /// Which user and group of the container two of the host are, as its processes see them.
    pub fn seen_inside(&self, uid: u32, gid: u32) -> (u32, u32) {
        let inside = |ranges: &[Range], id: u32| {
            let range = ranges.iter().find(|it| id >= it.host && id - it.host < it.count);
            range.map_or(OVERFLOW, |it| it.container + (id - it.host))
        };
        (inside(&self.uids, uid), inside(&self.gids, gid))
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

/// What the flags ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The host's.
    Host,
    /// So many of its own, wherever they are free.
    Auto(u32),
    /// These.
    Given(Ids),
}

/// Reads `--userns`, `--uidmap` and `--gidmap`.
pub fn wanted(flags: &Flags, plain_user: bool) -> Result<Wanted> {
    let maps = !flags.uidmap.is_empty() || !flags.gidmap.is_empty();
    let mode = flags.userns.as_deref();
    let wanted = match mode.map(|it| it.split_once(':').unwrap_or((it, ""))) {
        None if maps => {
            if flags.uidmap.is_empty() {
                bail!("--gidmap: only together with --uidmap");
            }
            Wanted::Given(Ids::parse(&flags.uidmap, &flags.gidmap)?)
        }
        None | Some(("host" | "", "")) if !maps => Wanted::Host,
        Some(("auto", options)) if !maps => Wanted::Auto(size(options)?),
        Some(_) if maps => bail!("--userns {}: not together with --uidmap and --gidmap", mode.unwrap_or_default()),
        _ => bail!("--userns {:?}: known are host and auto[:size=NUMBER]", mode.unwrap_or_default()),
    };
    if wanted != Wanted::Host {
        if let Some((kind, _, other)) = spec::joined(flags)?.first() {
            bail!("--userns, --uidmap: users of one's own cannot have the {kind} namespace of container {other}");
        }
        if plain_user {
            bail!("--userns, --uidmap: a plain user's containers have users of their own anyway: leave it away");
        }
        if flags.privileged {
            bail!(
                "--privileged: it is about the host's devices and kernel, which users of one's own cannot have: not with --userns and --uidmap"
            );
        }
    }
    Ok(wanted)
}

/// How many ids a container gets if nothing else is said: all that Unix had once.
const SIZE: u32 = 65_536;

fn size(options: &str) -> Result<u32> {
    match options.strip_prefix("size=") {
        None if options.is_empty() => Ok(SIZE),
        Some(text) => text
            .parse()
            .ok()
            .filter(|it| (1..=1 << 24).contains(it))
            .with_context(|| format!("--userns auto:{options}: a size from 1 to {}", 1 << 24)),
        None => bail!("--userns auto:{options}: known is size=NUMBER"),
    }
}

/// Takes ids for a container, in the transaction that registers it. They are free again when its row goes.
pub fn lease(db: &Transaction<'_>, container: &str, wanted: &Wanted) -> Result<()> {
    let Wanted::Auto(count) = wanted else { return Ok(()) };
    let mut statement = db.prepare_cached("SELECT first, first + count FROM id_leases")?;
    let taken = statement.query_map([], |row| Ok((row.get::<_, i64>(0)? as u64, row.get::<_, i64>(1)? as u64)))?;
    let taken: Vec<Span> = taken.collect::<rusqlite::Result<_>>()?;
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let (ours, others) = ours(&read("/etc/subuid"), &read("/etc/subgid"));
    let first = free(&ours, &[taken, others].concat(), u64::from(*count)).with_context(|| {
        format!(
            "--userns auto: no {count} ids in a row are free: see the line of `bundle` in /etc/subuid and /etc/subgid"
        )
    })?;
    db.prepare_cached("INSERT INTO id_leases VALUES (?1, ?2, ?3)")?.execute(params![container, first as i64, count])?;
    Ok(())
}

/// A registered container's mapping; none where it has the host's users.
pub fn of(db: &Connection, container: &str, wanted: &Wanted) -> Result<Option<Ids>> {
    match wanted {
        Wanted::Host => Ok(None),
        Wanted::Given(ids) => Ok(Some(ids.clone())),
        Wanted::Auto(_) => {
            let mut statement = db.prepare_cached("SELECT first, count FROM id_leases WHERE container = ?1")?;
            let lease = statement.query_row([container], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
            let (first, count) = lease.context("the container's ids are not in the database")?;
            Ok(Some(Ids::block(first, count)))
        }
    }
}

/// Ids from the first to before the second.
type Span = (u64, u64);

/// Ids that may be handed out: what the lines of `bundle` or `containers` have both as users and as groups, else all
/// that are out of the way; and what belongs to others.
fn ours(subuid: &str, subgid: &str) -> (Vec<Span>, Vec<Span>) {
    // The first ones are people's, and their subordinate ones.
    const OUT_OF_THE_WAY: Span = (1 << 20, u32::MAX as u64);
    let lines = |text: &str, own: bool| -> Vec<Span> {
        let lines = text.lines().filter_map(|line| {
            let mut fields = line.split(':');
            let (name, first, count) = (fields.next()?, fields.next()?, fields.next()?);
            let (first, count): (u32, u32) = (first.trim().parse().ok()?, count.trim().parse().ok()?);
            (matches!(name, "bundle" | "containers") == own)
                .then(|| (u64::from(first), u64::from(first) + u64::from(count)))
        });
        lines.collect()
    };
    let groups = lines(subgid, true);
    let mut both = Vec::new();
    for (first, end) in lines(subuid, true) {
        for (other_first, other_end) in &groups {
            let (first, end) = (first.max(*other_first), end.min(*other_end));
            if first < end {
                both.push((first, end));
            }
        }
    }
    if !both.is_empty() {
        return (both, Vec::new());
    }
    (vec![OUT_OF_THE_WAY], [lines(subuid, false), lines(subgid, false)].concat())
}

/// The first place for so many ids.
fn free(ours: &[Span], taken: &[Span], count: u64) -> Option<u64> {
    let mut taken = taken.to_vec();
    taken.sort_unstable();
    ours.iter().find_map(|&(start, end)| {
        let mut first = start;
        for &(from, until) in &taken {
            if from < first + count && first < until {
                first = until;
            }
        }
        (first + count <= end).then_some(first)
    })
}

/// Who is nobody in a user namespace has this number there (/proc/sys/kernel/overflowuid).
const OVERFLOW: u32 = 65_534;

/// Which of the host's ids one of the container's is.
fn host(ranges: &[Range], id: u32) -> Option<u32> {
    let range = ranges.iter().find(|it| id >= it.container && id - it.container < it.count)?;
    Some(range.host + (id - range.container))
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
        assert_eq!((ids.given_to(5, 1000), ids.given_to(0, 1001)), (Some((100_005, 500_000)), None));
        assert_eq!((ids.seen_inside(100_999, 500_000), ids.seen_inside(0, 101_000)), ((999, 1000), (65_534, 65_534)));
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

    #[test]
    fn free_ids_are_found_between_those_of_others() {
        let own = "me:100000:65536\nbundle:200000:1000\ncontainers:300000:500\n";
        assert_eq!(ours(own, own).0, [(200_000, 201_000), (300_000, 300_500)]);
        // As groups there are fewer.
        assert_eq!(ours(own, "bundle:200500:100\n").0, [(200_500, 200_600)]);
        let (all, others) = ours("me:1048576:65536\nbroken\n", "");
        assert_eq!((all[0].0, &others[..]), (1 << 20, &[(1_048_576, 1_114_112)][..]));
        assert_eq!(free(&all, &others, 10), Some(1_114_112));
        assert_eq!(free(&[(0, 100)], &[(10, 20), (30, 40)], 10), Some(0));
        assert_eq!(free(&[(0, 100)], &[(30, 40), (5, 20)], 10), Some(20));
        assert_eq!(free(&[(0, 100)], &[(30, 40), (5, 20)], 11), Some(40));
        assert_eq!(free(&[(0, 100), (200, 300)], &[(30, 90)], 50), Some(200));
        assert_eq!(free(&[(0, 100)], &[], 101), None);
    }

    #[test]
    fn modes() {
        let read = |userns: &str, uidmap: &[&str]| {
            let uidmap = uidmap.iter().map(|it| (*it).to_owned()).collect();
            let userns = (!userns.is_empty()).then(|| userns.to_owned());
            wanted(&Flags { userns, uidmap, ..Flags::default() }, false)
        };
        assert_eq!(read("", &[]).unwrap(), Wanted::Host);
        assert_eq!(read("host", &[]).unwrap(), Wanted::Host);
        assert_eq!(read("auto", &[]).unwrap(), Wanted::Auto(65_536));
        assert_eq!(read("auto:size=1000", &[]).unwrap(), Wanted::Auto(1000));
        assert!(matches!(read("", &["0:5:10"]).unwrap(), Wanted::Given(_)));
        for bad in ["x", "auto:x", "auto:size=0", "auto:size=x", "host:x", "keep-id"] {
            assert!(read(bad, &[]).is_err(), "{bad}");
        }
        assert!(read("auto", &["0:5:10"]).is_err() && read("host", &["0:5:10"]).is_err());
        assert!(wanted(&Flags { userns: Some("auto".into()), ..Flags::default() }, true).is_err());
        assert!(wanted(&Flags { userns: Some("auto".into()), privileged: true, ..Flags::default() }, false).is_err());
        assert!(wanted(&Flags { gidmap: vec!["0:1:1".into()], ..Flags::default() }, false).is_err());
    }
}
