//! Users and groups as the container itself has them: its /etc/passwd and /etc/group (passwd(5),
//! group(5)). Called inside the container. The files are the image's and may be anything, so they
//! are read without blocking, not far, and strictly: a malformed line is no entry.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;

use anyhow::{Result, anyhow, bail};

use crate::sys::error::At;

/// How much of a file is read, in bytes.
const MOST: u64 = 1 << 20;

/// `USER[:GROUP]` of a command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Number or name.
    pub user: Id,
    /// Number or name.
    pub group: Option<Id>,
}

/// A number, or a name to look up.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Id {
    Number(u32),
    Name(String),
}

/// Who the process shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub(super) uid: u32,
    /// None: no word on it, neither here nor in the files.
    pub(super) gid: Option<u32>,
    /// The groups that list the user as a member; none for a number.
    pub(super) groups: Option<Vec<u32>>,
}

impl Asked {
    /// Understands `1000`, `1000:5`, `www-data`, `www-data:adm`.
    pub fn parse(text: &str) -> Result<Asked> {
        let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
        let id = |what: &str, text: &str| {
            id(text).ok_or_else(|| {
                anyhow!(
                    "\"{}\" is no {what}: give a number 0..4294967294 or a name of the container's /etc/{}",
                    text.escape_debug(),
                    if what == "user" { "passwd" } else { "group" }
                )
            })
        };
        Ok(Asked { user: id("user", user)?, group: group.map(|group| id("group", group)).transpose()? })
    }

    /// Looks names up in the container that the caller is in.
    pub(super) fn look_up(&self) -> Result<Found> {
        let passwd = if matches!(self.user, Id::Name(_)) { read("/etc/passwd")? } else { String::new() };
        let group = match (&self.user, &self.group) {
            (Id::Number(_), None | Some(Id::Number(_))) => String::new(),
            _ => read("/etc/group")?,
        };
        find(self, &passwd, &group)
    }
}

fn id(text: &str) -> Option<Id> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        // Also the empty text, which is no number. The highest one means "no user" to the kernel.
        return text.parse().ok().filter(|number| *number != u32::MAX).map(Id::Number);
    }
    // A number with something before or behind it is a mistake, not a name.
    let first = text.chars().next()?;
    let is_name = !first.is_ascii_digit() && !"+-".contains(first);
    let is_word = !text.contains(|c: char| c.is_whitespace() || c.is_control() || c == ':');
    (is_name && is_word).then(|| Id::Name(text.to_owned()))
}

fn find(asked: &Asked, passwd: &str, group: &str) -> Result<Found> {
    let mut found = match &asked.user {
        Id::Number(uid) => Found { uid: *uid, gid: None, groups: None },
        Id::Name(name) => {
            let Some(user) = users(passwd).find(|user| user.name == name) else {
                bail!("exec: user \"{name}\" is not in the container's /etc/passwd");
            };
            let member = groups(group).filter(|group| group.members.split(',').any(|member| member == name));
            Found { uid: user.uid, gid: Some(user.gid), groups: Some(member.map(|group| group.gid).collect()) }
        }
    };
    match &asked.group {
        None => {}
        Some(Id::Number(gid)) => found.gid = Some(*gid),
        Some(Id::Name(name)) => match groups(group).find(|group| group.name == name) {
            Some(group) => found.gid = Some(group.gid),
            None => bail!("exec: group \"{name}\" is not in the container's /etc/group"),
        },
    }
    Ok(found)
}

/// The home directory of a user; `/` where the container has no entry for it.
pub(super) fn home(uid: u32) -> Result<String> {
    let text = read("/etc/passwd")?;
    let home = users(&text).find(|user| user.uid == uid).map(|user| user.home);
    Ok(home.filter(|home| home.starts_with('/') && !home.contains('\0')).unwrap_or("/").to_owned())
}

/// A file of the image's, which may lack it or have something else in its place; but a file that is
/// there and cannot be read would make another user of this one.
fn read(path: &str) -> Result<String> {
    const NO_FILE: [i32; 6] = [libc::ENOENT, libc::ENOTDIR, libc::ELOOP, libc::EACCES, libc::ENXIO, libc::ENODEV];
    let what = || format!("reading the container's {path}");
    let file = match File::options().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path) {
        Err(error) if error.raw_os_error().is_some_and(|errno| NO_FILE.contains(&errno)) => return Ok(String::new()),
        other => other.at(what)?,
    };
    let mut bytes = Vec::new();
    if file.metadata().at(what)?.is_file() {
        file.take(MOST).read_to_end(&mut bytes).at(what)?;
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

struct User<'t> {
    name: &'t str,
    uid: u32,
    gid: u32,
    home: &'t str,
}

fn users(passwd: &str) -> impl Iterator<Item = User<'_>> {
    passwd.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, uid, gid, _, home, _] = fields[..] else { return None };
        Some(User { name, uid: number(uid)?, gid: number(gid)?, home })
    })
}

struct Group<'t> {
    name: &'t str,
    gid: u32,
    members: &'t str,
}

fn groups(group: &str) -> impl Iterator<Item = Group<'_>> {
    group.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, gid, members] = fields[..] else { return None };
        Some(Group { name, gid: number(gid)?, members })
    })
}

/// Digits alone, no leading zero, that fit.
fn number(text: &str) -> Option<u32> {
    let canonical = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let canonical = canonical && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|number| canonical && *number != u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nshort:x:5\nbad:x:07:1::/bad:\nwrap:x:4294967296:0::/:\nminus:x:-1:0::/:\n\
        u:x:7:1::/home/u:\nu:x:8:1::/second:\nblank:x: 9:1::/b:\n";
    const GROUP: &str = "root:x:0:\nadm:x:4:u,root\nodd:x:+5:u\nwide:x:6:uu,u2\nmore:x:8:a,u\n";

    fn who(text: &str) -> Result<Found> {
        find(&Asked::parse(text)?, PASSWD, GROUP)
    }

    #[test]
    fn homes_are_found_strictly() {
        let home = |uid| users(PASSWD).find(|user| user.uid == uid).map(|user| user.home);
        assert_eq!(home(0), Some("/root"));
        assert_eq!(home(7), Some("/home/u"));
        assert_eq!((home(5), home(9)), (None, None));
    }

    #[test]
    fn names_and_numbers() {
        assert_eq!(who("u").unwrap(), Found { uid: 7, gid: Some(1), groups: Some(vec![4, 8]) });
        assert_eq!(who("u:adm").unwrap().gid, Some(4));
        assert_eq!(who("u:12").unwrap().gid, Some(12));
        assert_eq!(who("12").unwrap(), Found { uid: 12, gid: None, groups: None });
        assert_eq!(who("4294967294:0").unwrap(), Found { uid: 4_294_967_294, gid: Some(0), groups: None });
        assert_eq!(who("5:adm").unwrap(), Found { uid: 5, gid: Some(4), groups: None });
    }

    #[test]
    fn what_is_not_exactly_a_user_is_an_error() {
        for bad in [
            "",
            ":",
            "1:",
            ":1",
            "1x",
            "1 ",
            " 1",
            "+1",
            "-1",
            "1:x:",
            "1:-1",
            "1:1x",
            "4294967295",
            "4294967296",
            "99999999999999999999",
            "0x10",
            "nobody",
            "bad",
            "wrap",
            "minus",
            "blank",
            "short",
            "u:nogroup",
            "u:odd",
            "u\t",
            "u:\n",
            "1:4294967296",
        ] {
            assert!(who(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn fuzz_users() {
        let seeds: [&[u8]; 4] = [
            b"user:group\nuser:x:1000:1000::/home/user:/bin/sh\nroot:x:0:0:root:/root:/bin/sh\n\ngroup:x:5:user,root\n",
            b"4294967295:1",
            b"-1",
            b"1:x",
        ];
        crate::fuzz::fuzz(&seeds, |bytes| {
            let text = String::from_utf8_lossy(bytes);
            let (asked, files) = text.split_once('\n').unwrap_or((&text, ""));
            let Ok(asked) = Asked::parse(asked) else { return };
            let (passwd, group) = files.split_once("\n\n").unwrap_or((files, files));
            if let Ok(found) = find(&asked, passwd, group) {
                // The highest number means "leave it as it is" to the kernel.
                let ids = [found.uid].into_iter().chain(found.gid).chain(found.groups.into_iter().flatten());
                assert!(ids.into_iter().all(|id| id != u32::MAX));
            }
        });
    }
}
