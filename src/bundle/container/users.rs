//! Who a container's process is: names looked up in the image's own /etc/passwd and /etc/group.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::BorrowedFd;

use anyhow::{Context, Result, bail};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// The numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Further groups.
    pub groups: Vec<u32>,
}

/// The largest id: 2^32 - 1 means "unchanged" to the kernel.
const LARGEST: u32 = u32::MAX - 1;
/// More of a hostile image's file is not read.
const LARGEST_FILE: u64 = 16 << 20;

/// Looks up `user[:group]`, names or numbers, below a root directory. An empty text is root. `add` are further
/// groups. A number need not be listed; then its group is 0, as with Docker.
pub fn look_up(root: BorrowedFd<'_>, text: &str, add: &[String]) -> Result<Identity> {
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    if group == Some("") || user.contains(['\n', '\0']) {
        bail!("user {text:?}: not of the form USER[:GROUP]");
    }
    let user = if user.is_empty() { "0" } else { user };
    let number = number(user).with_context(|| format!("user {text:?}"))?;
    let entry = find(root, "etc/passwd", |fields| match number {
        Some(uid) => fields.get(2).is_some_and(|it| it.parse() == Ok(uid)),
        None => fields[0] == user,
    })?;
    let mut identity = Identity::default();
    let mut name = None;
    match (entry, number) {
        (Some(fields), _) => {
            let field = |at: usize| fields.get(at).and_then(|it| it.parse::<u32>().ok()).filter(|it| *it <= LARGEST);
            identity.uid = field(2)
                .with_context(|| format!("user {user:?}: its line in the image's /etc/passwd has no good uid"))?;
            identity.gid = field(3)
                .with_context(|| format!("user {user:?}: its line in the image's /etc/passwd has no good gid"))?;
            name = Some(fields[0].clone());
        }
        (None, Some(uid)) => identity.uid = uid,
        (None, None) => {
            bail!("user {user:?} is not in the image's /etc/passwd: give a number, or a name that is there")
        }
    }
    if let Some(group) = group {
        identity.gid = self::group(root, group)?;
    } else if let Some(name) = name {
        // Groups that list the user; with an explicit group there are none, as with Docker.
        each_line(root, "etc/group", |fields| {
            let member = fields.get(3).is_some_and(|it| it.split(',').any(|it| it == name));
            if let Some(gid) =
                fields.get(2).and_then(|it| it.parse::<u32>().ok()).filter(|gid| member && *gid <= LARGEST)
                && !identity.groups.contains(&gid)
            {
                identity.groups.push(gid);
            }
            false
        })?;
    }
    for name in add {
        let gid = self::group(root, name)?;
        if !identity.groups.contains(&gid) {
            identity.groups.push(gid);
        }
    }
    Ok(identity)
}

fn group(root: BorrowedFd<'_>, name: &str) -> Result<u32> {
    if let Some(gid) = number(name).with_context(|| format!("group {name:?}"))? {
        return Ok(gid);
    }
    let fields = find(root, "etc/group", |fields| fields[0] == name)?.with_context(|| {
        format!("group {name:?} is not in the image's /etc/group: give a number, or a name that is there")
    })?;
    fields
        .get(2)
        .and_then(|it| it.parse().ok())
        .with_context(|| format!("group {name:?}: its line in the image's /etc/group has no good gid"))
}

/// Digits only are a number, which has to fit; all else is a name.
fn number(text: &str) -> Result<Option<u32>> {
    if text.is_empty() || !text.bytes().all(|it| it.is_ascii_digit()) {
        return Ok(None);
    }
    match text.parse::<u32>() {
        Ok(number) if number <= LARGEST => Ok(Some(number)),
        _ => bail!("{text} is too large, {LARGEST} is the largest id"),
    }
}

fn find(root: BorrowedFd<'_>, path: &str, mut wanted: impl FnMut(&[String]) -> bool) -> Result<Option<Vec<String>>> {
    let mut found = None;
    each_line(root, path, |fields| {
        if wanted(fields) {
            found = Some(fields.to_vec());
        }
        found.is_some()
    })?;
    Ok(found)
}

/// Hands over the fields of each line until `stop` says so. A file that is missing has no lines.
fn each_line(root: BorrowedFd<'_>, path: &str, mut stop: impl FnMut(&[String]) -> bool) -> Result<()> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    // Not blocking: the image may have a FIFO there.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = match rustix::fs::openat2(root, path, flags, Mode::empty(), resolve) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NXIO) => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("the image's /{path}")),
    };
    if !file.metadata()?.is_file() {
        return Ok(());
    }
    let mut reader = BufReader::new(file.take(LARGEST_FILE));
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).with_context(|| format!("reading the image's /{path}"))? > 0 {
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end_matches('\n');
        if !text.is_empty() && !text.starts_with('#') {
            let fields: Vec<String> = text.split(':').map(str::to_owned).collect();
            if stop(&fields) {
                return Ok(());
            }
        }
        line.clear();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn names_and_numbers_are_the_images() {
        let dir = std::env::temp_dir().join(format!("rt-bundle-users-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("etc")).unwrap();
        std::fs::write(
            dir.join("etc/passwd"),
            "root:x:0:0::/root:/bin/sh\nweb:x:33:34::/:/bin/sh\nbad:x:-1:0::/:\n#web:x:1:1\n",
        )
        .unwrap();
        std::fs::write(dir.join("etc/group"), "root:x:0:\nweb:x:34:\nlog:x:4:a,web,b\nstaff:x:50:web\n").unwrap();
        let root = File::open(&dir).unwrap();
        let who = |text: &str| look_up(root.as_fd(), text, &[]);
        let identity = |uid, gid, groups: &[u32]| Identity { uid, gid, groups: groups.to_vec() };
        assert_eq!(who("").unwrap(), identity(0, 0, &[]));
        assert_eq!(who("web").unwrap(), identity(33, 34, &[4, 50]));
        assert_eq!(who("33").unwrap(), identity(33, 34, &[4, 50]));
        assert_eq!(who("web:log").unwrap(), identity(33, 4, &[]));
        assert_eq!(who("1000").unwrap(), identity(1000, 0, &[]));
        assert_eq!(who("1000:1000").unwrap(), identity(1000, 1000, &[]));
        assert_eq!(look_up(root.as_fd(), "web:log", &["staff".into(), "7".into()]).unwrap(), identity(33, 4, &[50, 7]));
        for bad in ["nobody", "web:", "web:none", "4294967295", "99999999999", "bad", "-1", "web:4294967295", "a\nb"] {
            assert!(who(bad).is_err(), "{bad}");
        }
        std::fs::remove_dir_all(&dir).unwrap();
        std::fs::create_dir_all(&dir).unwrap();
        let root = File::open(&dir).unwrap();
        assert_eq!(look_up(root.as_fd(), "5", &[]).unwrap(), identity(5, 0, &[]));
        std::fs::remove_dir_all(dir).unwrap();
    }
}
