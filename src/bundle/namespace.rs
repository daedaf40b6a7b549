//! The namespaces that this program works in: mounts of its own, and for a plain user a user namespace in
//! which the ids of an image's files exist.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};
use nix::sched::CloneFlags;
use rustix::mount::{MountPropagationFlags, UnmountFlags};
use rustix::process::PidfdFlags;

use crate::container::ids::Ids;

/// A mount namespace of this process alone, once. What is mounted there is gone with the process and what it
/// started. Must be called before there are threads.
pub fn own_mounts() -> Result<()> {
    static DONE: AtomicBool = AtomicBool::new(false);
    if DONE.swap(true, Ordering::Relaxed) {
        return Ok(());
    }
    let before = File::open("/proc/self/ns/mnt").context("the mount namespace that we are in")?;
    let _ = OUTSIDE.set(before);
    nix::sched::unshare(CloneFlags::CLONE_NEWNS).context("a mount namespace of our own")?;
    // New mounts of the host still come in, none of ours goes out.
    rustix::mount::mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
        .context("keeping our mounts to ourselves")
}

/// The mount namespace that we were in before [`own_mounts`].
static OUTSIDE: OnceLock<File> = OnceLock::new();

/// Does something in the mount namespace that this program was started in, in a thread of its own.
pub fn outside<T: Send>(act: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    match OUTSIDE.get() {
        Some(before) => within(before, act),
        None => act(),
    }
}

/// Does something in the mount namespace of another process, in a thread of its own.
pub fn inside<T: Send>(pid: i32, act: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    within(&File::open(format!("/proc/{pid}/ns/mnt")).context("the other process's mount namespace")?, act)
}

fn within<T: Send>(mounts: &File, act: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let thread = || {
        // Who shares its working directory with other threads may not change its mount namespace.
        nix::sched::unshare(CloneFlags::CLONE_FS).context("a thread's own working directory")?;
        nix::sched::setns(mounts, CloneFlags::CLONE_NEWNS).context("entering another mount namespace")?;
        act()
    };
    std::thread::scope(|scope| scope.spawn(thread).join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Unmounts all that is mounted below a directory, in this mount namespace.
pub fn unmount_below(dir: &Path) {
    let within = [dir.as_os_str().as_bytes(), b"/"].concat();
    unmount(|point, _| point.starts_with(&within));
}

/// Unmounts the file system at a path if it was mounted from this source, in this mount namespace.
pub fn unmount_at(path: &Path, source: &str) {
    unmount(|point, of| point == path.as_os_str().as_bytes() && of == source.as_bytes());
}

/// Unmounts what is picked by its path and its source, the last mounted first.
fn unmount(picked: impl Fn(&[u8], &[u8]) -> bool) {
    let table = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
    for line in table.split(|it| *it == b'\n').rev() {
        let fields: Vec<&[u8]> = line.split(|it| *it == b' ').collect();
        let Some(point) = fields.get(4).map(|it| unescape(it)) else { continue };
        // Behind the single dash: type, source.
        let dash = fields.iter().position(|it| *it == b"-").unwrap_or(fields.len());
        if picked(&point, fields.get(dash + 2).unwrap_or(&&b""[..])) {
            let _ = rustix::mount::unmount(std::ffi::OsString::from_vec(point), UnmountFlags::DETACH);
        }
    }
}

/// A path as mountinfo has it, where space, tab, newline and backslash are `\NNN` (proc(5)).
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, behind @ ..] = rest {
        match behind {
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..] if *first == b'\\' => {
                out.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = after;
            }
            _ => {
                out.push(*first);
                rest = behind;
            }
        }
    }
    out
}

/// The hidden word that [`become_root`]'s helper is called with.
pub const HELPER: &str = "map-ids";

/// Whether we are in another user namespace than the machine's first: what is root here is none there.
pub fn in_user_namespace() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.split_whitespace().ne(["0", "0", "4294967295"])
}

/// Enters the user namespace of a monitor that lives: what its container's processes are may only be done in there.
fn join_a_monitor(run_dirs: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(run_dirs) else { return false };
    entries.flatten().any(|it| {
        let Ok(Some(socket)) = crate::monitor::talk::connect(&it.path()) else { return false };
        let Ok(peer) = rustix::net::sockopt::socket_peercred(&socket) else { return false };
        let Ok(process) = rustix::process::pidfd_open(peer.pid, PidfdFlags::empty()) else { return false };
        nix::sched::setns(process, CloneFlags::CLONE_NEWUSER).is_ok()
    })
}

/// Enters a user namespace in which the caller is root and has the subordinate ids that /etc/subuid and
/// /etc/subgid give them: the one that their containers are in already, else a new one. newuidmap has to be called
/// from outside: by a helper, started before.
pub fn become_root(run_dirs: &Path) -> Result<()> {
    if join_a_monitor(run_dirs) {
        return Ok(());
    }
    let user = User::find();
    let mut helper = Command::new("/proc/self/exe")
        .arg(HELPER)
        .arg(std::process::id().to_string())
        .args([user.map("/etc/subuid", user.uid)?, user.map("/etc/subgid", user.gid)?])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("starting the helper that maps ids")?;
    // The helper reads /proc/PID of ours: it must belong to the user, as a process does which may be looked at.
    nix::sched::unshare(CloneFlags::CLONE_NEWUSER).context(
        "a user namespace: does /proc/sys/user/max_user_namespaces, or unprivileged_userns_clone, forbid it?",
    )?;
    helper.stdin.take().context("the helper's input")?.write_all(b"go")?;
    let mut words = String::new();
    helper.stdout.take().context("the helper's output")?.read_to_string(&mut words)?;
    if !helper.wait()?.success() {
        bail!("{}", words.trim());
    }
    rustix::thread::set_thread_uid(rustix::process::Uid::ROOT).context("becoming root of the user namespace")?;
    rustix::thread::set_thread_gid(rustix::process::Gid::ROOT).context("becoming root of the user namespace")?;
    Ok(())
}

/// The helper's part: waits for the word, then has the two programs write the maps.
pub fn help(words: &[String]) -> Result<()> {
    let [pid, uids, gids] = words else { bail!("{HELPER} PID UIDS GIDS") };
    let mut go = [0; 2];
    std::io::stdin().read_exact(&mut go).context("the process to map ids for is gone")?;
    for (program, map) in [("newuidmap", uids), ("newgidmap", gids)] {
        let output = Command::new(program).arg(pid).args(map.split(' ')).output().with_context(|| {
            format!(
                "{program} is missing, which gives a plain user the ids of an image's files: install the package uidmap"
            )
        })?;
        if !output.status.success() {
            bail!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
    }
    Ok(())
}

/// The hidden word that the process is called with which holds a user namespace until it is mapped.
pub const HOLDER: &str = "hold-users";

/// A user namespace with a mapping, which no process has to be in.
pub fn with_ids(ids: &Ids) -> Result<OwnedFd> {
    let told = || "a user namespace of the container's own: does /proc/sys/user/max_user_namespaces forbid it?";
    let mut holder = Command::new("/proc/self/exe")
        .arg(HOLDER)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(told)?;
    let map = |holder: &mut Child| -> Result<OwnedFd> {
        let mut out = holder.stdout.take().context("the holder's output")?;
        // It says when it is there, and then waits for the end of its input.
        let mut first = [0; 2];
        out.read_exact(&mut first).context("the kernel refuses it")?;
        let (uids, gids) = ids.maps();
        let path = |name: &str| format!("/proc/{}/{name}", holder.id());
        std::fs::write(path("uid_map"), uids).context("mapping the users: --uidmap")?;
        std::fs::write(path("gid_map"), gids).context("mapping the groups: --gidmap")?;
        Ok(File::open(path("ns/user"))?.into())
    };
    let mapped = map(&mut holder).with_context(told);
    drop(holder.stdin.take());
    let _ = holder.wait();
    mapped
}

/// The holder's part.
pub fn hold() -> Result<()> {
    nix::sched::unshare(CloneFlags::CLONE_NEWUSER)?;
    let mut out = std::io::stdout();
    out.write_all(b"ok")?;
    out.flush()?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

struct User {
    name: String,
    uid: u32,
    gid: u32,
}

impl User {
    fn find() -> Self {
        let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
        let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        let name = passwd.lines().find_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
        });
        Self { name: name.unwrap_or_default(), uid, gid }
    }

    /// `0 OWN 1 1 FIRST COUNT`: ourselves as root, the subordinate ids behind it.
    fn map(&self, path: &str, own: u32) -> Result<String> {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let uid = self.uid.to_string();
        let mut map = format!("0 {own} 1");
        let mut next: u64 = 1;
        for line in text.lines() {
            let fields: Vec<&str> = line.split(':').collect();
            if let [who, first, count] = fields[..]
                && (who == self.name || who == uid)
                && let (Ok(first), Ok(count)) = (first.parse::<u32>(), count.parse::<u32>())
            {
                map += &format!(" {next} {first} {count}");
                next += u64::from(count);
            }
        }
        if next == 1 {
            bail!(
                "{path} has no line for {:?}: a plain user needs subordinate ids for an image's files, such as by: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {}",
                self.name,
                self.name
            );
        }
        Ok(map)
    }
}
