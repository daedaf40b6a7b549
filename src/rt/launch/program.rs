//! Finds the container's program, and says why it cannot be started when it cannot.
//!
//! All of this happens inside the container: `/` is its root file system, and the process has
//! taken the user's identity already. [`find`] belongs before the seccomp filter, which may forbid
//! what it does; [`explain`] copes with that, and says less.
//!
//! The first words of every error are those of Go's `os/exec`, because engines look for them (for
//! instance to exit with 127). What follows in parentheses or after a colon is for people.

mod format;
#[cfg(test)]
mod tests;

use std::ffi::CString;
use std::fs::{self, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, StatVfsMountFlags, accessat, statvfs};
use rustix::process::{getegid, geteuid, getgroups};

use crate::sys::error::text;

/// Where programs are looked for if the environment has no PATH.
///
/// runc finds nothing at all then, which helps nobody; this is what Docker and containerd put
/// into the environment of images that set none, and what crun uses too.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How many links or interpreters are followed: what the kernel follows of interpreters
/// (`exec_binprm`), and enough of links to find out about them.
const MAX_DEPTH: u32 = 5;

/// Finds the program that `file` names, as execvp(3) does: a name with a slash is a path, any
/// other is looked for in the directories of the PATH in `env`.
pub fn find(file: &str, env: &[impl AsRef<str>]) -> Result<CString, String> {
    if file.contains('/') {
        let path = Path::new(file);
        return match executable(path) {
            Ok(()) => c_string(file, path),
            Err(error) => Err(refused(file, path, &error)),
        };
    }
    // Of several settings the last one counts, as in runc.
    let setting = env.iter().rev().find_map(|entry| entry.as_ref().strip_prefix("PATH="));
    let directories = setting.unwrap_or(DEFAULT_PATH).split(':');
    // An empty element is the working directory (environ(7)).
    let candidates =
        directories.map(|directory| Path::new(if directory.is_empty() { "." } else { directory }).join(file));
    // Joining nothing to a directory would find the directory.
    let candidates = candidates.filter(|_| !file.is_empty());
    for path in candidates.clone() {
        match executable(&path) {
            Ok(()) => return c_string(file, &path),
            Err(error) if is_elsewhere(&error) => {}
            // It may be the one that is meant: another of that name would be the wrong program.
            Err(error) => return Err(refused(file, &path, &error)),
        }
    }
    Err(not_on_path(file, setting, candidates))
}

/// Whether an error of one directory of the PATH lets the search go on in the next, as execvp(3) does.
fn is_elsewhere(error: &io::Error) -> bool {
    const KNOWN: [i32; 8] = [
        libc::ENOENT,
        libc::ENOTDIR,
        libc::EACCES,
        libc::EISDIR,
        libc::ELOOP,
        libc::ENAMETOOLONG,
        libc::ESTALE,
        libc::ENODEV,
    ];
    error.raw_os_error().is_some_and(|errno| KNOWN.contains(&errno))
}

fn c_string(file: &str, path: &Path) -> Result<CString, String> {
    CString::new(path.as_os_str().as_bytes())
        .map_err(|_| format!("exec: {file:?}: invalid argument: the name has a NUL byte in it"))
}

/// Whether the kernel would try to run `path`, in the order in which Go asks.
fn executable(path: &Path) -> io::Result<()> {
    let kind = fs::metadata(path)?.file_type();
    if kind.is_dir() {
        return Err(io::Error::from_raw_os_error(libc::EISDIR));
    }
    accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS)?;
    if kind.is_file() { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::EACCES)) }
}

/// The error for a path that [`executable`] objects to.
fn refused(file: &str, path: &Path, error: &io::Error) -> String {
    let words = text(error);
    let missing = matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
        || error.raw_os_error() == Some(libc::ELOOP)
        // A directory on the way that cannot be searched also stops stat(2).
        || fs::metadata(path).is_err();
    let words = if missing { format!("stat {}: {words}", plain(path)) } else { words };
    let why = error.raw_os_error().and_then(|errno| diagnose(path, errno, 0));
    format!("exec: {file:?}: {words}{}", parentheses(why))
}

/// The error for a name that is nowhere on the PATH.
fn not_on_path(file: &str, setting: Option<&str>, mut candidates: impl Iterator<Item = PathBuf>) -> String {
    // A file of that name that cannot be run is more likely the mistake than the PATH.
    let almost = candidates.find_map(|path| {
        fs::symlink_metadata(&path).ok()?;
        let errno = executable(&path).err()?.raw_os_error()?;
        Some(format!("there is {}, but {}", plain(&path), diagnose(&path, errno, 0)?))
    });
    let why = almost.unwrap_or_else(|| match setting {
        Some(path) => format!("PATH is {path:?}"),
        None => format!("PATH is not set, looked in {DEFAULT_PATH}"),
    });
    format!("exec: {file:?}: executable file not found in $PATH{}", parentheses(Some(why)))
}

fn parentheses(why: Option<String>) -> String {
    why.map(|why| format!(" ({why})")).unwrap_or_default()
}

/// Why execve(2) of `path` failed with `errno`, in one line.
#[must_use]
pub fn explain(path: &Path, errno: i32) -> String {
    let words = text(&io::Error::from_raw_os_error(errno));
    let why = diagnose(path, errno, 0).map(|why| format!(": {why}")).unwrap_or_default();
    format!("exec: {:?}: {words}{why}", path.to_string_lossy())
}

/// Looks for the reason behind an `errno` of execve(2); `None` if nothing stands out.
/// `depth` counts the interpreters on the way to `path`.
fn diagnose(path: &Path, errno: i32, depth: u32) -> Option<String> {
    match errno {
        libc::E2BIG => Some(
            "the arguments and the environment together take more than a quarter of the stack \
             limit, or one of them more than 128 KiB"
                .into(),
        ),
        libc::ETXTBSY => Some(format!("{} is open for writing", plain(path))),
        libc::ENOENT | libc::ENOTDIR | libc::ELOOP => missing(path).or_else(|| format::diagnose(path, errno, depth)),
        libc::EACCES | libc::EPERM | libc::EISDIR => denied(path, 0).or_else(|| format::diagnose(path, errno, depth)),
        libc::ENOEXEC | libc::ELIBBAD | libc::EINVAL => format::diagnose(path, errno, depth),
        _ => None,
    }
}

/// Why an interpreter cannot be used, if so.
fn unusable(path: &Path, errno: i32, depth: u32) -> Option<String> {
    if depth >= MAX_DEPTH {
        return Some("too many interpreters in a row".into());
    }
    missing(path).or_else(|| denied(path, 0)).or_else(|| format::diagnose(path, errno, depth))
}

/// What is not there on the way to `path`.
fn missing(path: &Path) -> Option<String> {
    let broken = broken_part(path)?;
    let shown = plain(&broken);
    let Ok(target) = fs::read_link(&broken) else {
        let parent = broken.parent().filter(|parent| !parent.as_os_str().is_empty());
        if let Some(parent) = parent
            && !parent.is_dir()
        {
            return Some(format!("{} is not a directory", plain(parent)));
        }
        let what = if broken == path { "" } else { "the directory " };
        return Some(format!("{what}{shown} does not exist"));
    };
    let link = format!("{shown} is a symbolic link to {}", plain(&target));
    Some(match fs::metadata(&broken) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            format!("{link}, which does not exist")
        }
        Err(error) => format!("{link}: {}", text(&error)),
        Ok(_) => return None,
    })
}

/// The first part of `path` that cannot be followed.
fn broken_part(path: &Path) -> Option<PathBuf> {
    let mut so_far = PathBuf::new();
    for component in path.components() {
        so_far.push(component);
        match fs::metadata(&so_far) {
            Ok(_) => {}
            // Somebody else's question: see `denied`.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => return None,
            Err(_) => return Some(so_far),
        }
    }
    None
}

/// What forbids to run the file at `path`.
fn denied(path: &Path, depth: u32) -> Option<String> {
    let mut directory = PathBuf::new();
    for component in path.parent().into_iter().flat_map(Path::components) {
        directory.push(component);
        if accessat(CWD, &directory, Access::EXEC_OK, AtFlags::EACCESS).is_err()
            && let Ok(metadata) = fs::metadata(&directory)
            && metadata.is_dir()
        {
            let shown = plain(&directory);
            return Some(format!("the directory {shown} cannot be searched: {}", who(&metadata)));
        }
    }
    if let Ok(target) = fs::read_link(path)
        && depth < MAX_DEPTH
    {
        let target = path.parent().unwrap_or(Path::new("")).join(target);
        return denied(&target, depth + 1).map(|why| format!("{} is a symbolic link: {why}", plain(path)));
    }
    let metadata = fs::metadata(path).ok()?;
    let shown = plain(path);
    if let Some(kind) = special(&metadata) {
        return Some(format!("{shown} is {kind}, not a regular file"));
    }
    if statvfs(path).is_ok_and(|mount| mount.f_flag.contains(StatVfsMountFlags::NOEXEC)) {
        return Some(format!("the mount that {shown} is on has the noexec option"));
    }
    if metadata.mode() & 0o111 == 0 {
        return Some(format!("{shown} has no execute bit: {}", who(&metadata)));
    }
    let access = accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS);
    access.is_err().then(|| format!("{shown} is not executable for this user: {}", who(&metadata)))
}

/// What a file is that is not a regular one.
fn special(metadata: &Metadata) -> Option<&'static str> {
    let kind = metadata.file_type();
    Some(match () {
        () if kind.is_file() => return None,
        () if kind.is_dir() => "a directory",
        () if kind.is_fifo() => "a FIFO",
        () if kind.is_socket() => "a socket",
        () => "a device",
    })
}

/// The two sides of a permission: the file's and the process's.
fn who(metadata: &Metadata) -> String {
    let groups = getgroups().unwrap_or_default();
    let groups: Vec<String> = groups.iter().map(|group| group.as_raw().to_string()).collect();
    let mode = metadata.mode() & 0o7777;
    let owner = format!("owner {}:{}", metadata.uid(), metadata.gid());
    let process = format!("the process runs as {}:{}", geteuid().as_raw(), getegid().as_raw());
    let and = if groups.is_empty() { "" } else { " with groups " };
    format!("mode {mode:04o}, {owner}, {process}{and}{}", groups.join(","))
}

/// A path in an error: without the control characters that would break the line.
fn plain(path: &Path) -> String {
    path.to_string_lossy().replace(char::is_control, "?")
}
