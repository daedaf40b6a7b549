//! bpf(2), as far as device programs of cgroup v2 need it.

use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use libc::{c_int, c_long};
use rustix::io::{Errno, Result};

use super::check;

// linux/bpf.h
const PROG_LOAD: c_int = 5;
const PROG_ATTACH: c_int = 8;
const PROG_DETACH: c_int = 9;
const PROG_GET_FD_BY_ID: c_int = 13;
const OBJ_GET_INFO_BY_FD: c_int = 15;
const PROG_QUERY: c_int = 16;
const TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
const ALLOW_MULTI: u32 = 2;
const REPLACE: u32 = 4;

/// What our programs are called, so that they are told from systemd's.
const NAME: [u8; 16] = *b"rt_devices\0\0\0\0\0\0";

/// Attached programs that are looked at: as many as the kernel allows on one cgroup.
const MOST: usize = 64;

/// The head of `union bpf_attr` for `BPF_PROG_LOAD`.
#[repr(C)]
#[derive(Default)]
struct Load {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
}

/// For `BPF_PROG_ATTACH` and `BPF_PROG_DETACH`.
#[repr(C)]
#[derive(Default)]
struct Attach {
    cgroup: u32,
    program: u32,
    kind: u32,
    flags: u32,
    old: u32,
}

/// For `BPF_PROG_QUERY`.
#[repr(C)]
#[derive(Default)]
struct Query {
    cgroup: u32,
    kind: u32,
    flags: u32,
    attached: u32,
    ids: u64,
    count: u32,
    padding: u32,
}

/// For `BPF_PROG_GET_FD_BY_ID`.
#[repr(C)]
#[derive(Default)]
struct ById {
    id: u32,
    next_id: u32,
    open_flags: u32,
}

/// For `BPF_OBJ_GET_INFO_BY_FD`.
#[repr(C)]
#[derive(Default)]
struct Info {
    object: u32,
    length: u32,
    buffer: u64,
}

/// The head of `struct bpf_prog_info`, up to the name.
#[repr(C)]
#[derive(Default)]
struct ProgInfo {
    kind: u32,
    id: u32,
    tag: [u8; 8],
    jited_prog_len: u32,
    xlated_prog_len: u32,
    jited_prog_insns: u64,
    xlated_prog_insns: u64,
    load_time: u64,
    created_by_uid: u32,
    nr_map_ids: u32,
    map_ids: u64,
    name: [u8; 16],
}

fn bpf<T>(command: c_int, attributes: &mut T) -> Result<c_long> {
    // SAFETY: `attributes` is one of the structures above, as long as is said; what it points to
    // outlives the call.
    check(unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<T>()) })
}

/// `BPF_PROG_LOAD` of a program that decides over devices; `T` has the layout of `struct bpf_insn`.
pub fn load_device_program<T: Copy>(program: &[T]) -> Result<OwnedFd> {
    const { assert!(size_of::<T>() == 8) };
    let mut load = Load {
        prog_type: TYPE_CGROUP_DEVICE,
        insn_cnt: program.len() as u32,
        insns: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        prog_name: NAME,
        ..Load::default()
    };
    let fd = bpf(PROG_LOAD, &mut load)?;
    // SAFETY: a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// `BPF_PROG_ATTACH` beside what others have attached; in the place of `old` where there is one
/// (`BPF_F_REPLACE`, Linux 5.6).
pub fn attach_device_program(cgroup: impl AsFd, program: &OwnedFd, old: Option<BorrowedFd<'_>>) -> Result<()> {
    let mut attach = Attach {
        cgroup: cgroup.as_fd().as_raw_fd() as u32,
        program: program.as_raw_fd() as u32,
        kind: ATTACH_CGROUP_DEVICE,
        flags: ALLOW_MULTI | if old.is_some() { REPLACE } else { 0 },
        old: old.map_or(0, |old| old.as_raw_fd() as u32),
    };
    bpf(PROG_ATTACH, &mut attach).map(drop)
}

/// `BPF_PROG_DETACH`.
pub fn detach_device_program(cgroup: impl AsFd, program: &OwnedFd) -> Result<()> {
    let mut attach = Attach {
        cgroup: cgroup.as_fd().as_raw_fd() as u32,
        program: program.as_raw_fd() as u32,
        kind: ATTACH_CGROUP_DEVICE,
        ..Attach::default()
    };
    bpf(PROG_DETACH, &mut attach).map(drop)
}

/// Our own programs on a cgroup, in the order in which they were attached.
pub fn device_programs(cgroup: impl AsFd) -> Result<Vec<OwnedFd>> {
    let mut ids = [0u32; MOST];
    let mut query = Query {
        cgroup: cgroup.as_fd().as_raw_fd() as u32,
        kind: ATTACH_CGROUP_DEVICE,
        ids: ids.as_mut_ptr() as u64,
        count: MOST as u32,
        ..Query::default()
    };
    bpf(PROG_QUERY, &mut query)?;
    let mut ours = Vec::new();
    for id in &ids[..(query.count as usize).min(MOST)] {
        let fd = match bpf(PROG_GET_FD_BY_ID, &mut ById { id: *id, ..ById::default() }) {
            // Detached meanwhile.
            Err(Errno::NOENT) => continue,
            other => other?,
        };
        // SAFETY: a new descriptor that nobody else owns.
        let program = unsafe { OwnedFd::from_raw_fd(fd as i32) };
        let mut about = ProgInfo::default();
        let mut info = Info {
            object: program.as_raw_fd() as u32,
            length: size_of::<ProgInfo>() as u32,
            buffer: (&raw mut about) as u64,
        };
        bpf(OBJ_GET_INFO_BY_FD, &mut info)?;
        if about.name == NAME {
            ours.push(program);
        }
    }
    Ok(ours)
}
