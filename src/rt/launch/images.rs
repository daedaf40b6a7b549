//! What CRIU's images leave out, and both `checkpoint` and `restore` have to name in the same way:
//! mounts of the host's, namespaces that the container shares, and its standard streams.

use std::ffi::CString;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow, bail};
use rustix::fs::OFlags;

use super::program;
use super::resolve::Tree;
use crate::criu::rpc::{CgroupMode, ExternalMount, Options};
use crate::plan::Plan;
use crate::plan::rootfs::{Step, What};
use crate::sys::error::At;

/// What `checkpoint` and `restore` are asked for alike.
#[derive(Debug, Default)]
pub struct Images {
    /// The program.
    pub criu: CString,
    /// Where the images are.
    pub directory: PathBuf,
    /// Where CRIU's log goes; else to the images.
    pub work: Option<PathBuf>,
    /// CRIU's own file of options.
    pub config_file: Option<String>,
    /// Open TCP connections are part of it.
    pub tcp_established: bool,
    /// So are unix sockets with a peer outside.
    pub ext_unix_sk: bool,
    /// So are processes of a session or a terminal outside.
    pub shell_job: bool,
    /// So are file locks.
    pub file_locks: bool,
    /// How cgroups are restored.
    pub cgroup_mode: Option<CgroupMode>,
    /// `CLONE_NEWNET`: devices and addresses of the network namespace are somebody else's business.
    pub empty_ns: u32,
    /// Drop pages from older images that a newer one has.
    pub auto_dedup: bool,
    /// Pages come when they are needed.
    pub lazy_pages: bool,
}

/// CRIU's file of options, where the document names none (runc's is understood as well).
const CONFIG_FILES: [&str; 2] = ["/etc/criu/rt.conf", "/etc/criu/runc.conf"];

/// Init's standard streams as the images know them, in the images' directory: the same file as runc's.
pub(super) const DESCRIPTORS: &str = "descriptors.json";

impl Images {
    /// Finds the program: `--criu`, else `criu` of PATH.
    pub fn find(asked: Option<&Path>) -> Result<CString> {
        let path = std::env::var("PATH").ok().map(|path| format!("PATH={path}"));
        let name = asked.map_or("criu".into(), Path::to_string_lossy);
        program::find(&name, path.as_slice())
            .map_err(|error| anyhow!("CRIU makes and reads the images: {error} (install criu, or name it by --criu)"))
    }

    /// By the annotation `org.criu.config`: a path, or empty for none.
    pub fn config_file(annotation: Option<&str>) -> Option<String> {
        match annotation {
            Some(path) => Some(path.to_owned()).filter(|path| !path.is_empty()),
            None => CONFIG_FILES.into_iter().find(|path| Path::new(path).exists()).map(ToOwned::to_owned),
        }
    }

    /// The part of a request that both have.
    pub(super) fn options(&self, log_file: &str) -> Options {
        Options {
            log_level: Some(4),
            log_file: Some(log_file.to_owned()),
            config_file: self.config_file.clone(),
            tcp_established: Some(self.tcp_established),
            ext_unix_sk: Some(self.ext_unix_sk),
            shell_job: Some(self.shell_job),
            file_locks: Some(self.file_locks),
            manage_cgroups: Some(true),
            manage_cgroups_mode: Some(self.cgroup_mode.unwrap_or(CgroupMode::Soft) as i32),
            empty_ns: Some(self.empty_ns),
            auto_dedup: Some(self.auto_dedup),
            lazy_pages: Some(self.lazy_pages),
            notify_scripts: Some(true),
            orphan_pts_master: Some(true),
            ..Options::default()
        }
    }

    /// Opens the directory for CRIU's log, made where it is missing.
    pub(super) fn open_work(&self) -> Result<Option<OwnedFd>> {
        let Some(work) = &self.work else { return Ok(None) };
        fs::create_dir_all(work).at(|| format!("--work-path {}", work.display()))?;
        open_directory(work, "--work-path").map(Some)
    }

    /// Removes an earlier log, which would explain the wrong failure.
    pub(super) fn forget_log(&self, log_file: &str) {
        let _ = fs::remove_file(self.work.as_ref().unwrap_or(&self.directory).join(log_file));
    }

    /// An error of CRIU's with the first cause that its log gives.
    pub(super) fn explain(&self, log_file: &str, error: &anyhow::Error) -> anyhow::Error {
        let path = self.work.as_ref().unwrap_or(&self.directory).join(log_file);
        let log = fs::read(&path).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        // "(00.012345) Error (criu/mount.c:123): mnt: …"; that it may not have more descriptors is no cause.
        let mut causes = log.lines().filter_map(|line| Some(line.split_once("Error (")?.1.split_once("): ")?.1));
        let cause = causes.find(|cause| !cause.starts_with("rlimit: "));
        match cause {
            Some(cause) => anyhow!("{error:#}: {} (more in {})", cause.trim(), path.display()),
            None => anyhow!("{error:#}"),
        }
    }
}

pub(super) fn open_directory(path: &Path, flag: &str) -> Result<OwnedFd> {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, rustix::fs::Mode::empty())
        .at(|| format!("{flag} {}", path.display()))
}

/// What stands for a mount in the images, and the file or directory of the host that it is of.
struct External<'p> {
    name: &'p str,
    destination: &'p str,
    source: &'p str,
    recursive: bool,
}

/// Everything in the plan that may be a mount of the host's. The masks of directories are not: those
/// are file systems of their own.
fn external<'p>(plan: &'p Plan<'_>) -> impl Iterator<Item = External<'p>> {
    plan.steps.iter().filter_map(|step| match step {
        Step::Mount(mount) => match &mount.what {
            What::Bind { source, recursive, .. } => Some(External {
                name: &mount.destination,
                destination: &mount.destination,
                source,
                recursive: *recursive,
            }),
            _ => None,
        },
        Step::Device(device) => {
            Some(External { name: &device.path, destination: &device.path, source: &device.path, recursive: false })
        }
        Step::Mask(path) => {
            Some(External { name: "/dev/null", destination: path, source: "/dev/null", recursive: false })
        }
        _ => None,
    })
}

/// For `checkpoint`: mount points as the kernel has them in the mount namespace of `pid`, with their
/// names.
pub(super) fn external_at_dump(plan: &Plan<'_>, pid: i32) -> Result<Vec<ExternalMount>> {
    let points = mount_points(&format!("/proc/{pid}/mountinfo"))?;
    let path = format!("/proc/{pid}/root");
    let root = rustix::fs::open(&*path, OFlags::PATH | OFlags::CLOEXEC, rustix::fs::Mode::empty())
        .at(|| format!("opening {path}"))?;
    let tree = Tree::new(root);
    let mut list = Vec::new();
    let mut put = |point: &str, name: &str| {
        let mount = ExternalMount { key: point.to_owned(), val: name.to_owned() };
        if !list.contains(&mount) {
            list.push(mount);
        }
    };
    for it in external(plan) {
        // Links in the container are on the way, but a mount point is where they lead.
        let Some(point) = tree.real_path(it.destination) else { continue };
        let is_directory = tree.open(&point, OFlags::PATH | OFlags::DIRECTORY).is_ok();
        if !points.contains(&point) || (is_directory && it.name == "/dev/null") {
            continue;
        }
        put(&point, it.name);
        if it.recursive {
            let below = format!("{}/", point.trim_end_matches('/'));
            for (mounted, rest) in points.iter().filter_map(|known| Some((known, known.strip_prefix(&below)?))) {
                put(mounted, &format!("{}/{rest}", it.name));
            }
        }
    }
    Ok(list)
}

/// For `restore`: names with the files and directories that they are here.
pub(super) fn external_at_restore(plan: &Plan<'_>) -> Result<Vec<ExternalMount>> {
    let points = mount_points("/proc/self/mountinfo")?;
    let mut list = Vec::new();
    for it in external(plan) {
        list.push(ExternalMount { key: it.name.to_owned(), val: it.source.to_owned() });
        let below = format!("{}/", it.source.trim_end_matches('/'));
        for (mounted, rest) in points.iter().filter_map(|known| Some((known, known.strip_prefix(&below)?))) {
            if it.recursive {
                list.push(ExternalMount { key: format!("{}/{rest}", it.name), val: mounted.clone() });
            }
        }
    }
    Ok(list)
}

/// The fifth field of each line of a mountinfo file (proc_pid_mountinfo(5)).
fn mount_points(path: &str) -> Result<Vec<String>> {
    let text = fs::read_to_string(path).at(|| format!("reading {path}"))?;
    Ok(text.lines().filter_map(|line| line.split(' ').nth(4)).map(unescape).collect())
}

/// Blanks, tabs, newlines and backslashes stand there as three octal digits behind a backslash.
fn unescape(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        if let Some(byte) = part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            bytes.push(byte);
            bytes.extend(&part.as_bytes()[3..]);
        } else {
            bytes.push(b'\\');
            bytes.extend(part.as_bytes());
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The name under which a namespace that existed before is known to the images.
pub(super) fn namespace_key(kind: u64) -> Result<Option<(&'static str, &'static str)>> {
    match kind as i32 {
        libc::CLONE_NEWNET => Ok(Some(("net", "extRootNetNS"))),
        libc::CLONE_NEWPID => Ok(Some(("pid", "extRootPidNS"))),
        libc::CLONE_NEWCGROUP => bail!("/linux/namespaces: CRIU cannot join an existing cgroup namespace"),
        // CRIU joins these by their files.
        _ => Ok(None),
    }
}

/// What init's standard streams are to the images: pipes by their inode, files of the host's by mount
/// and inode. Those of the container's own are in the images.
pub(super) fn streams(pid: i32) -> Result<Vec<String>> {
    let ids = fs::read_to_string(format!("/proc/{pid}/mountinfo")).at(|| format!("reading /proc/{pid}/mountinfo"))?;
    let ids: Vec<&str> = ids.lines().filter_map(|line| line.split(' ').next()).collect();
    let name = |fd: i32| -> Option<String> {
        use std::os::unix::fs::MetadataExt;
        let path = format!("/proc/{pid}/fd/{fd}");
        let link = fs::read_link(&path).ok()?;
        let link = String::from_utf8_lossy(link.as_os_str().as_bytes()).into_owned();
        if !link.starts_with('/') {
            return Some(link);
        }
        let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{fd}")).ok()?;
        let mount = info.lines().find_map(|line| line.strip_prefix("mnt_id:"))?.trim();
        if ids.contains(&mount) {
            return Some(link);
        }
        let inode = fs::metadata(&path).ok()?.ino();
        Some(format!("file[{:x}:{inode:x}]", mount.parse::<u64>().ok()?))
    };
    Ok((0..3).map(|fd| name(fd).unwrap_or_default()).collect())
}

/// Whether a stream has to be given from outside.
pub(super) fn is_outside(stream: &str) -> bool {
    stream.starts_with("pipe:[") || stream.starts_with("file[")
}

/// A file has a place where it is read or written; what takes a file's place has to have one too.
pub(super) fn check_stream(stream: &str, fd: i32) -> Result<()> {
    let ours = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()][fd as usize];
    if stream.starts_with("file[") && rustix::fs::tell(ours).is_err() {
        let name = ["input", "output", "error"][fd as usize];
        bail!("standard {name} was a file or a device, and a pipe or a terminal cannot take its place: give a file");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_with_blanks_are_read() {
        assert_eq!(unescape("/a\\040b\\134c\\011"), "/a b\\c\t");
        assert_eq!(unescape("/plain"), "/plain");
        assert_eq!(unescape("/odd\\x"), "/odd\\x");
    }

    #[test]
    fn streams_from_outside_are_told_from_the_containers() {
        assert!(is_outside("pipe:[12]") && is_outside("file[1a:2b]"));
        assert!(!is_outside("/dev/pts/0") && !is_outside("socket:[3]") && !is_outside(""));
    }

    #[test]
    fn fuzz_escaped_paths() {
        crate::fuzz::fuzz(&[b"/a\\040b\\134c", "/données\\011\\377".as_bytes()], |bytes| {
            drop(unescape(&String::from_utf8_lossy(bytes)));
        });
    }
}
