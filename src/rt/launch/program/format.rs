//! Why the kernel cannot run a file because of what is in it: its format, or its interpreter.
//!
//! The file comes from an image that may be hostile, so every offset in it is checked, and no
//! more than a few KiB are read. Layouts: elf(5); scripts: execve(2), "Interpreter scripts".

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use super::{plain, unusable};

/// How much of a file is looked at; more than the kernel does (`BINPRM_BUF_SIZE`, 256 bytes).
const HEAD: u64 = 4096;

/// The longest path (`PATH_MAX`).
const MAX_PATH: u64 = 4096;

/// This machine, as `e_machine` says it.
#[cfg(target_arch = "x86_64")]
const HOST: u16 = 62;
#[cfg(target_arch = "aarch64")]
const HOST: u16 = 183;

/// The 32-bit machine that the kernel can run as well.
#[cfg(target_arch = "x86_64")]
const HOST_32: u16 = 3;
#[cfg(target_arch = "aarch64")]
const HOST_32: u16 = 40;

/// Where dynamic loaders lie.
const LIBRARY_DIRECTORIES: [&str; 2] = ["/lib", "/lib64"];

/// What in the file at `path` made execve(2) fail with `errno`.
pub(super) fn diagnose(path: &Path, errno: i32, depth: u32) -> Option<String> {
    let file = open(path)?;
    let mut head = Vec::new();
    (&file).take(HEAD).read_to_end(&mut head).ok()?;
    if let Some(line) = head.strip_prefix(b"#!") {
        return script(line, errno, depth);
    }
    if head.starts_with(b"\x7fELF") {
        return match elf(&head, &file) {
            Elf::Loader(loader) => broken_loader(&loader, errno, depth),
            Elf::Wrong(why) => Some(why),
            Elf::Other32 if errno == libc::ENOEXEC => Some("a 32-bit program, which this kernel does not run".into()),
            Elf::Fine | Elf::Other32 => None,
        };
    }
    // With any other error the kernel did not get as far as the format.
    (errno == libc::ENOEXEC).then(|| unknown(&head))
}

/// Opens a regular file, and nothing whose opening would wait or do something.
fn open(path: &Path) -> Option<File> {
    if !path.metadata().ok()?.is_file() {
        return None;
    }
    // The file may have been replaced by a FIFO since: O_NONBLOCK keeps that from blocking.
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).ok()?;
    file.metadata().ok()?.is_file().then_some(file)
}

/// What a file is that is neither a script nor ELF.
fn unknown(head: &[u8]) -> String {
    let text = |byte: &u8| !byte.is_ascii_control() || matches!(byte, b'\n' | b'\r' | b'\t');
    match head {
        [] => "the file is empty".into(),
        [b'M', b'Z', ..] => "a Windows program".into(),
        [0xcf | 0xce, 0xfa, 0xed, 0xfe, ..] => "a macOS program".into(),
        _ if head.iter().all(text) => {
            "a text file whose first line does not begin with \"#!\" and name its interpreter".into()
        }
        _ => "neither an ELF program nor a script".into(),
    }
}

/// Diagnoses a script, given what follows the `#!`.
fn script(line: &[u8], errno: i32, depth: u32) -> Option<String> {
    let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let mut words = line.split(|byte| matches!(byte, b' ' | b'\t' | b'\0'));
    let Some(interpreter) = words.find(|word| !word.is_empty()) else {
        return Some("its first line, \"#!\", names no interpreter".into());
    };
    let path = Path::new(OsStr::from_bytes(interpreter));
    if let Some(unix) = interpreter.strip_suffix(b"\r")
        && !path.exists()
    {
        let unix = plain(Path::new(OsStr::from_bytes(unix)));
        return Some(format!(
            "its first line, \"#!{unix}\", ends in a carriage return: the file has Windows line ends"
        ));
    }
    let why = unusable(path, errno, depth + 1)?;
    Some(format!("its interpreter {} cannot be used: {why}", plain(path)))
}

/// What an ELF header says about starting the file.
#[derive(Debug, PartialEq, Eq)]
enum Elf {
    /// A program for this machine that needs this dynamic loader.
    Loader(Vec<u8>),
    /// A program for this machine that needs nothing.
    Fine,
    /// The same for the machine's 32-bit mode.
    Other32,
    /// No program for this machine.
    Wrong(String),
}

fn elf(head: &[u8], file: &File) -> Elf {
    parse_elf(head, file).unwrap_or_else(|| Elf::Wrong("its ELF header is cut short".into()))
}

/// `None` where the file ends too soon.
fn parse_elf(head: &[u8], file: &File) -> Option<Elf> {
    let wide = *head.get(4)? == 2;
    let fields = Fields { bytes: head, big: *head.get(5)? == 2 };
    let machine = fields.half(18)?;
    let native = if wide { HOST } else { HOST_32 };
    if machine != native || fields.big {
        let here = describe(HOST, true, false);
        let there = describe(machine, wide, fields.big);
        return Some(Elf::Wrong(format!("a program for {there}, this machine is {here}")));
    }
    match fields.half(16)? {
        2 | 3 => {}
        1 => return Some(Elf::Wrong("an object file that is not linked yet".into())),
        4 => return Some(Elf::Wrong("a core dump".into())),
        kind => return Some(Elf::Wrong(format!("an ELF file of the unknown type {kind}"))),
    }
    let (table, size, count) = if wide {
        (fields.long(32)?, fields.half(54)?, fields.half(56)?)
    } else {
        (fields.word(28)?.into(), fields.half(42)?, fields.half(44)?)
    };
    if count == 0 {
        return Some(Elf::Wrong("an ELF file without program headers".into()));
    }
    // The kernel reads no more than 64 KiB of headers; the loader's is among the first.
    for at in 0..u64::from(count.min(64)) {
        let offset = table.checked_add(at * u64::from(size))?;
        let header = read_at(file, offset, if wide { 56 } else { 32 })?;
        let header = Fields { bytes: &header, big: false };
        if header.word(0)? != 3 {
            continue;
        }
        let (offset, length) =
            if wide { (header.long(8)?, header.long(32)?) } else { (header.word(4)?.into(), header.word(16)?.into()) };
        if !(2..=MAX_PATH).contains(&length) {
            return Some(Elf::Wrong("the name of its dynamic loader has no proper length".into()));
        }
        let mut name = read_at(file, offset, length as usize)?;
        name.truncate(name.iter().position(|byte| *byte == 0).unwrap_or(name.len()));
        return Some(Elf::Loader(name));
    }
    Some(if wide { Elf::Fine } else { Elf::Other32 })
}

fn read_at(file: &File, offset: u64, length: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, offset).ok()?;
    Some(bytes)
}

/// Numbers at offsets that may lie outside.
struct Fields<'a> {
    bytes: &'a [u8],
    big: bool,
}

impl Fields<'_> {
    fn get<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        let mut bytes: [u8; N] = self.bytes.get(at..at.checked_add(N)?)?.try_into().ok()?;
        if self.big {
            bytes.reverse();
        }
        Some(bytes)
    }

    fn half(&self, at: usize) -> Option<u16> {
        self.get(at).map(u16::from_le_bytes)
    }

    fn word(&self, at: usize) -> Option<u32> {
        self.get(at).map(u32::from_le_bytes)
    }

    fn long(&self, at: usize) -> Option<u64> {
        self.get(at).map(u64::from_le_bytes)
    }
}

/// A machine's name, by its `EM_…` number (`linux/elf-em.h`).
fn describe(machine: u16, wide: bool, big: bool) -> String {
    match machine {
        3 => "x86 (32-bit)".into(),
        8 => format!("mips{}{}", if wide { "64" } else { "" }, if big { "" } else { "el" }),
        20 => "ppc (32-bit)".into(),
        21 if big => "ppc64".into(),
        21 => "ppc64le".into(),
        22 if wide => "s390x".into(),
        22 => "s390".into(),
        40 if big => "arm (32-bit, big endian)".into(),
        40 => "arm (32-bit)".into(),
        62 if wide => "x86_64".into(),
        62 => "x32".into(),
        183 if big => "aarch64 (big endian)".into(),
        183 => "aarch64".into(),
        243 if wide => "riscv64".into(),
        243 => "riscv32".into(),
        258 => "loongarch64".into(),
        other => {
            format!("another machine (ELF number {other}, {}-bit)", if wide { 64 } else { 32 })
        }
    }
}

fn broken_loader(loader: &[u8], errno: i32, depth: u32) -> Option<String> {
    let path = Path::new(OsStr::from_bytes(loader));
    let why = unusable(path, errno, depth + 1)?;
    let hint = other_libc(path, &LIBRARY_DIRECTORIES.map(Path::new)).unwrap_or_default();
    Some(format!("its dynamic loader {} cannot be used: {why}{hint}", plain(path)))
}

/// Recognises a program that was linked with another C library than the image has.
fn other_libc(loader: &Path, directories: &[&Path]) -> Option<&'static str> {
    let has = |prefix: &[u8]| {
        let entries = directories.iter().filter_map(|directory| directory.read_dir().ok()).flatten();
        entries.flatten().any(|entry| entry.file_name().as_bytes().starts_with(prefix))
    };
    let name = loader.file_name()?.as_bytes();
    if name.starts_with(b"ld-linux") && has(b"ld-musl-") {
        Some(" (a glibc program in a root filesystem with musl)")
    } else if name.starts_with(b"ld-musl-") && has(b"ld-linux") {
        Some(" (a musl program in a root filesystem with glibc)")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_other_c_library_is_recognised_by_its_loader() {
        let directory = std::env::temp_dir().join(format!("rt-libc-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("ld-musl-x86_64.so.1"), "").unwrap();
        let hint = |loader| other_libc(Path::new(loader), &[&directory]);
        assert!(hint("/lib64/ld-linux-x86-64.so.2").unwrap().contains("with musl"));
        assert_eq!(hint("/lib/ld-musl-armhf.so.1"), None);
        std::fs::rename(directory.join("ld-musl-x86_64.so.1"), directory.join("ld-linux.so.2")).unwrap();
        assert!(hint("/lib/ld-musl-armhf.so.1").unwrap().contains("with glibc"));
        std::fs::remove_dir_all(&directory).unwrap();
    }

    /// Cuts and corrupts a real program everywhere in its headers: nothing may panic.
    #[test]
    fn damaged_programs_are_survived() {
        let path = std::env::temp_dir().join(format!("rt-elf-{}", std::process::id()));
        let mut program = std::fs::read("/proc/self/exe").unwrap();
        program.truncate(1024);
        for at in 4..256 {
            for byte in [0, 1, 0x7f, 0xff] {
                let mut damaged = program.clone();
                damaged[at] = byte;
                std::fs::write(&path, &damaged).unwrap();
                diagnose(&path, libc::ENOEXEC, 0);
            }
            std::fs::write(&path, &program[..at]).unwrap();
            diagnose(&path, libc::ENOEXEC, 0);
        }
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn fuzz_programs() {
        let own = std::fs::read("/proc/self/exe").unwrap();
        let busybox = std::fs::read("/bin/sh").unwrap();
        let seeds: [&[u8]; 4] = [&own[..2048], &busybox[..2048], b"#!/bin/sh -e\n", b"#! \t/no/such\r\n"];
        let file = tempfile();
        crate::fuzz::fuzz(&seeds, |bytes| {
            std::os::unix::fs::FileExt::write_all_at(&file, bytes, 0).unwrap();
            file.set_len(bytes.len() as u64).unwrap();
            let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
            for errno in [libc::ENOEXEC, libc::ENOENT] {
                let why = diagnose(Path::new(&path), errno, 0);
                assert!(why.is_none_or(|why| why.len() < 20_000 && !why.contains('\n')));
            }
        });
    }

    /// A file without a name.
    fn tempfile() -> File {
        OpenOptions::new().read(true).write(true).custom_flags(libc::O_TMPFILE).open(std::env::temp_dir()).unwrap()
    }
}
