//! Each test makes files in a directory of its own, and tries to run them for real where it can.

use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use super::*;

struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("rt-program-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Dir(path)
    }

    fn at(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().into()
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>, mode: u32) -> String {
        fs::write(self.0.join(name), content).unwrap();
        fs::set_permissions(self.0.join(name), Permissions::from_mode(mode)).unwrap();
        self.at(name)
    }

    /// The words and the diagnosis for a file that cannot be run.
    fn run(&self, name: &str) -> String {
        let path = self.0.join(name);
        let errno = Command::new(&path).spawn().unwrap_err().raw_os_error().unwrap();
        let line = explain(&path, errno);
        assert!(!line.contains('\n') && !line.contains('\r'), "{line:?}");
        line.strip_prefix(&format!("exec: {path:?}: ")).unwrap().replace(&self.at(""), "")
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const NO_ENV: &[&str] = &[];

/// An ELF header and one program header that names a loader.
fn elf(machine: u16, loader: &str) -> Vec<u8> {
    let mut bytes = vec![0; 64 + 56];
    bytes[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    bytes[16] = 3;
    bytes[18..20].copy_from_slice(&machine.to_le_bytes());
    bytes[20] = 1;
    bytes[32] = 64;
    bytes[52] = 64;
    bytes[54] = 56;
    bytes[56] = 1;
    bytes[64] = 3;
    bytes[72] = 120;
    bytes[96..98].copy_from_slice(&(loader.len() as u16 + 1).to_le_bytes());
    bytes.extend_from_slice(loader.as_bytes());
    bytes.push(0);
    bytes
}

#[cfg(target_arch = "x86_64")]
const HERE: u16 = 62;
#[cfg(target_arch = "aarch64")]
const HERE: u16 = 183;

#[test]
fn names_are_looked_for_on_the_path() {
    let dir = Dir::new("find");
    dir.write("tool", "#!/bin/sh\n", 0o755);
    dir.write("data", "x", 0o644);
    let env = ["A=b", "PATH=/wrong", &format!("PATH=/nosuch:{}", dir.0.display())];
    assert_eq!(find("tool", &env).unwrap().to_str().unwrap(), dir.at("tool"));
    assert_eq!(find(&dir.at("tool"), NO_ENV).unwrap().to_str().unwrap(), dir.at("tool"));
    assert!(find("sh", NO_ENV).is_ok());

    let error = find("nosuch", &["PATH=/bin:/x"]).unwrap_err();
    assert_eq!(error, r#"exec: "nosuch": executable file not found in $PATH (PATH is "/bin:/x")"#);
    let error = find("nosuch", NO_ENV).unwrap_err();
    assert!(error.contains("PATH is not set"), "{error}");
    let error = find("data", &env).unwrap_err();
    let expected = r#"exec: "data": executable file not found in $PATH (there is "#;
    assert!(error.starts_with(expected) && error.contains("no execute bit"), "{error}");
    for empty in ["", "/", ".."] {
        assert!(find(empty, &env).is_err(), "{empty:?}");
    }
    assert!(find("/a\0b", &env).is_err());
}

#[test]
fn paths_that_cannot_be_run_are_refused_in_the_words_of_go() {
    let dir = Dir::new("refused");
    let data = dir.write("data", "x", 0o644);
    let error = find(&data, NO_ENV).unwrap_err();
    let expected = format!("exec: {data:?}: permission denied ({data} has no execute bit: mode 0644");
    assert!(error.starts_with(&expected), "{error}");

    let no = dir.at("no");
    let error = find(&no, NO_ENV).unwrap_err();
    let expected = format!("exec: {no:?}: stat {no}: no such file or directory ({no} does not exist)");
    assert_eq!(error, expected);

    let here = dir.at("");
    let error = find(&here, NO_ENV).unwrap_err();
    assert!(error.starts_with(&format!("exec: {here:?}: is a directory (")), "{error}");
}

#[test]
fn what_is_missing_is_named() {
    let dir = Dir::new("missing");
    dir.write("file", "x", 0o755);
    symlink("gone", dir.at("link")).unwrap();
    symlink("loop", dir.at("loop")).unwrap();
    let none = "no such file or directory: ";
    assert_eq!(dir.run("no"), format!("{none}no does not exist"));
    assert_eq!(dir.run("no/such/tool"), format!("{none}the directory no does not exist"));
    let link = "link is a symbolic link to gone, which does not exist";
    assert_eq!(dir.run("link"), format!("{none}{link}"));
    assert_eq!(dir.run("file/tool"), "not a directory: file is not a directory");
    assert!(dir.run("loop").contains("loop is a symbolic link to loop: "));
}

#[test]
fn scripts_are_judged_by_their_interpreter() {
    let dir = Dir::new("script");
    dir.write("gone", "#! /no/interp -x\n", 0o755);
    dir.write("dos", "#!/bin/sh\r\necho\r\n", 0o755);
    dir.write("hollow", "#! \n", 0o755);
    dir.write("nested", format!("#!{}\n", dir.at("gone")), 0o755);
    dir.write("plain", "echo\n", 0o755);
    dir.write("empty", "", 0o755);
    dir.write("binary", [1, 2, 0, 3], 0o755);
    dir.write("seed", "x", 0o644);
    dir.write("denied", format!("#!{}\n", dir.at("seed")), 0o755);

    let gone = "its interpreter /no/interp cannot be used: the directory /no does not exist";
    assert_eq!(dir.run("gone"), format!("no such file or directory: {gone}"));
    let nested = format!("its interpreter gone cannot be used: {gone}");
    assert_eq!(dir.run("nested"), format!("no such file or directory: {nested}"));
    let dos = r##"its first line, "#!/bin/sh", ends in a carriage return: the file has Windows line ends"##;
    assert_eq!(dir.run("dos"), format!("no such file or directory: {dos}"));
    assert!(dir.run("hollow").starts_with("exec format error: its first line"));
    assert!(dir.run("plain").starts_with("exec format error: a text file"));
    assert_eq!(dir.run("empty"), "exec format error: the file is empty");
    assert!(dir.run("binary").contains("neither an ELF program nor a script"));
    let denied = "permission denied: its interpreter seed cannot be used: seed has no execute bit";
    assert!(dir.run("denied").starts_with(denied), "{}", dir.run("denied"));
}

#[test]
fn programs_are_judged_by_their_header() {
    let dir = Dir::new("elf");
    dir.write("foreign", elf(243, "/lib/ld.so"), 0o755);
    dir.write("loader", elf(HERE, "/no/ld-linux-x86-64.so.2"), 0o755);
    dir.write("short", &elf(HERE, "/x")[..50], 0o755);
    let mut object = elf(HERE, "/x");
    object[16] = 1;
    dir.write("object", object, 0o755);

    let foreign = dir.run("foreign");
    assert!(foreign.starts_with("exec format error: a program for riscv64, this"), "{foreign}");
    let loader = dir.run("loader");
    let expected = "no such file or directory: its dynamic loader /no/ld-linux-x86-64.so.2 cannot";
    assert!(loader.starts_with(expected), "{loader}");
    assert_eq!(dir.run("short"), "exec format error: its ELF header is cut short");
    assert!(dir.run("object").ends_with("an object file that is not linked yet"));
}

#[test]
fn what_forbids_is_named() {
    let dir = Dir::new("denied");
    dir.write("seed", "x", 0o600);
    symlink("seed", dir.at("link")).unwrap();
    let seed = dir.run("seed");
    let expected = "permission denied: seed has no execute bit: mode 0600, owner ";
    assert!(seed.starts_with(expected), "{seed}");
    assert!(dir.run("link").contains("link is a symbolic link: seed has no execute bit"));
    let none = "permission denied:  is a directory, not a regular file";
    assert_eq!(dir.run(""), none);

    rustix::fs::mkfifoat(CWD, dir.at("fifo"), 0o755.into()).unwrap();
    assert!(find(&dir.at("fifo"), NO_ENV).unwrap_err().contains("is a FIFO"));
    assert!(explain(Path::new(&dir.at("fifo")), libc::EACCES).contains("is a FIFO"));
    // A device in /proc's place: a file system that is mounted noexec nearly everywhere.
    if statvfs("/proc").unwrap().f_flag.contains(StatVfsMountFlags::NOEXEC) {
        let error = find("/proc/version", NO_ENV).unwrap_err();
        assert!(error.contains("has the noexec option"), "{error}");
    }
}

#[test]
fn the_rest_is_explained_by_its_number() {
    let say = |errno| explain(Path::new("/bin/x\ny"), errno);
    assert!(say(libc::E2BIG).starts_with(r#"exec: "/bin/x\ny": argument list too long: the arg"#));
    assert!(say(libc::ETXTBSY).contains("text file busy: /bin/x?y is open for writing"));
    assert_eq!(say(libc::ENOMEM), r#"exec: "/bin/x\ny": cannot allocate memory"#);
}
