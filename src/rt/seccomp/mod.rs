//! Seccomp: from the profile in `config.json` to the program that the kernel runs before every
//! system call (seccomp(2); config-linux.md, "Seccomp").
//!
//! Nothing here talks to the kernel. [`check`] says what is wrong with a profile and [`compile`]
//! turns it into a [`Filter`]; whoever becomes the container installs that.
//!
//! Where the spec is silent, the meaning of a profile is what runc and libseccomp make of it,
//! because that is what the profiles in use were written against; see [`rules`].

mod bpf;
mod names;
mod rules;
#[cfg(test)]
mod tests;

use libc::{c_ulong, sock_filter};

use crate::config::problem::Problems;
use crate::config::types::{Seccomp, Str, SyscallArg};

/// A filter ready for seccomp(2), `SECCOMP_SET_MODE_FILTER`.
#[derive(Debug)]
pub struct Filter {
    /// The instructions, 4096 at most.
    pub program: Vec<sock_filter>,
    /// `SECCOMP_FILTER_FLAG_…`.
    pub flags: c_ulong,
}

impl Filter {
    /// Whether loading it makes a listener, which an agent has to get.
    pub fn notifies(&self) -> bool {
        self.flags & libc::SECCOMP_FILTER_FLAG_NEW_LISTENER != 0
    }

    /// Flags and instructions as they lie in memory: for this machine only.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(8 + self.program.len() * 8);
        bytes.extend(u64::to_ne_bytes(self.flags));
        for it in &self.program {
            bytes.extend(it.code.to_ne_bytes());
            bytes.extend([it.jt, it.jf]);
            bytes.extend(it.k.to_ne_bytes());
        }
        bytes
    }

    /// The way back; `None` for bytes that [`Self::to_bytes`] does not make.
    pub fn from_bytes(bytes: &[u8]) -> Option<Filter> {
        let (flags, rest) = bytes.split_first_chunk::<8>()?;
        let (instructions, left) = rest.as_chunks::<8>();
        if instructions.is_empty() || !left.is_empty() {
            return None;
        }
        let program = instructions
            .iter()
            .map(|it| sock_filter {
                code: u16::from_ne_bytes([it[0], it[1]]),
                jt: it[2],
                jf: it[3],
                k: u32::from_ne_bytes([it[4], it[5], it[6], it[7]]),
            })
            .collect();
        Some(Filter { program, flags: u64::from_ne_bytes(*flags) })
    }
}

/// The machine that the filter is for: it decides which calling conventions a process can use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Native {
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
    X86_64,
    #[cfg_attr(not(target_arch = "aarch64"), allow(dead_code))]
    Aarch64,
}

#[cfg(target_arch = "x86_64")]
const HOST: Native = Native::X86_64;
#[cfg(target_arch = "aarch64")]
const HOST: Native = Native::Aarch64;

/// The architectures of config-linux.md. Those this machine cannot run are accepted, and add
/// nothing to the filter.
const ARCHITECTURES: [&str; 23] = [
    "SCMP_ARCH_X86",
    "SCMP_ARCH_X86_64",
    "SCMP_ARCH_X32",
    "SCMP_ARCH_ARM",
    "SCMP_ARCH_AARCH64",
    "SCMP_ARCH_MIPS",
    "SCMP_ARCH_MIPS64",
    "SCMP_ARCH_MIPS64N32",
    "SCMP_ARCH_MIPSEL",
    "SCMP_ARCH_MIPSEL64",
    "SCMP_ARCH_MIPSEL64N32",
    "SCMP_ARCH_PPC",
    "SCMP_ARCH_PPC64",
    "SCMP_ARCH_PPC64LE",
    "SCMP_ARCH_S390",
    "SCMP_ARCH_S390X",
    "SCMP_ARCH_PARISC",
    "SCMP_ARCH_PARISC64",
    "SCMP_ARCH_RISCV64",
    "SCMP_ARCH_LOONGARCH64",
    "SCMP_ARCH_M68K",
    "SCMP_ARCH_SH",
    "SCMP_ARCH_SHEB",
];

/// The flags of config-linux.md with their bits (`linux/seccomp.h`).
const FLAGS: [(&str, c_ulong); 4] = [
    ("SECCOMP_FILTER_FLAG_TSYNC", libc::SECCOMP_FILTER_FLAG_TSYNC),
    ("SECCOMP_FILTER_FLAG_LOG", libc::SECCOMP_FILTER_FLAG_LOG),
    ("SECCOMP_FILTER_FLAG_SPEC_ALLOW", libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW),
    ("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV),
];

/// The action that hands a call to another process, the agent (seccomp_unotify(2)).
const NOTIFY: &str = "SCMP_ACT_NOTIFY";

/// Reports everything wrong with `profile`, which stands at `pointer` in the document.
///
/// System calls with unknown names are left out without a word: profiles name the calls of every
/// architecture and of kernels yet to come.
pub fn check(profile: &Seccomp, pointer: &str, problems: &mut Problems) {
    let default = (&profile.default_action, profile.default_errno_ret);
    check_action(default, pointer, ["defaultAction", "defaultErrnoRet"], problems);
    for (at, name) in profile.architectures.iter().enumerate() {
        if !ARCHITECTURES.contains(&&**name) {
            let message = format!("\"{name}\" is not an architecture, expected SCMP_ARCH_…");
            problems.invalid(format!("{pointer}/architectures/{at}"), message);
        }
    }
    for (at, name) in profile.flags.iter().flatten().enumerate() {
        if flag(name).is_none() {
            let message = format!("\"{name}\" is not a flag, expected SECCOMP_FILTER_FLAG_…");
            problems.invalid(format!("{pointer}/flags/{at}"), message);
        }
    }
    match profile.listener_path.as_deref() {
        None | Some("") if notifies(profile) => {
            let message = format!("is required with {NOTIFY}: the socket of the agent that decides");
            problems.invalid(format!("{pointer}/listenerPath"), message);
        }
        // Without that action the path is ignored (config-linux.md, "listenerPath").
        Some(path) if notifies(profile) && !path.starts_with('/') => {
            problems.invalid(format!("{pointer}/listenerPath"), format!("\"{path}\" is not an absolute path"));
        }
        _ => {}
    }
    if profile.listener_path.is_none() && profile.listener_metadata.is_some() {
        let message = "is only allowed together with listenerPath";
        problems.invalid(format!("{pointer}/listenerMetadata"), message);
    }
    for (at, rule) in profile.syscalls.iter().enumerate() {
        let pointer = format!("{pointer}/syscalls/{at}");
        check_action((&rule.action, rule.errno_ret), &pointer, ["action", "errnoRet"], problems);
        if rule.names.is_empty() {
            problems.invalid(format!("{pointer}/names"), "must name at least one system call");
        }
        for (at, _) in rule.names.iter().enumerate().filter(|(_, name)| name.is_empty()) {
            problems.invalid(format!("{pointer}/names/{at}"), "the name of a system call is empty");
        }
        for (at, arg) in rule.args.iter().enumerate() {
            check_arg(arg, &format!("{pointer}/args/{at}"), problems);
        }
    }
}

/// Checks an action and the number that comes with it, which stand in the two `fields`.
fn check_action(
    (name, errno): (&Str, Option<u32>),
    pointer: &str,
    [action_field, errno_field]: [&str; 2],
    problems: &mut Problems,
) {
    if action(name, None).is_none() {
        let message = format!("\"{name}\" is not an action, expected SCMP_ACT_…");
        problems.invalid(format!("{pointer}/{action_field}"), message);
        return;
    }
    let Some(errno) = errno else { return };
    let message = match most_errno(name) {
        None => format!("{name} takes no error number"),
        Some(most) if errno > most => format!("{errno} is too large for {name}, at most {most}"),
        Some(_) => return,
    };
    problems.invalid(format!("{pointer}/{errno_field}"), message);
}

fn check_arg(arg: &SyscallArg, pointer: &str, problems: &mut Problems) {
    if arg.index > 5 {
        let message = format!("{} is not the index of an argument, expected 0 to 5", arg.index);
        problems.invalid(format!("{pointer}/index"), message);
    }
    if rules::compare(arg).is_none() {
        let message = format!("\"{}\" is not an operator, expected SCMP_CMP_…", arg.op);
        problems.invalid(format!("{pointer}/op"), message);
    }
}

/// Builds the filter for this machine. Fails for a profile that [`check`] objects to, and for one
/// that needs more instructions than the kernel takes.
pub fn compile(profile: &Seccomp) -> Result<Filter, String> {
    compile_for(profile, HOST)
}

fn compile_for(profile: &Seccomp, native: Native) -> Result<Filter, String> {
    let sections = rules::sections(profile, native)?;
    // Architectures that are not listed get libseccomp's default answer (SCMP_FLTATR_ACT_BADARCH
    // in seccomp_attr_set(3)).
    let program = bpf::program(&sections, libc::SECCOMP_RET_KILL_THREAD)?;
    Ok(Filter { program, flags: flags(profile.flags.as_deref(), notifies(profile))? })
}

/// Whether a call can be handed to an agent.
fn notifies(profile: &Seccomp) -> bool {
    &*profile.default_action == NOTIFY || profile.syscalls.iter().any(|rule| &*rule.action == NOTIFY)
}

/// The bits of `names`. Like runc since 1.2, a profile without flags gets `SPEC_ALLOW`: the
/// mitigation that it turns off costs every process in the container speed, and kernels since
/// 5.16 no longer apply it by default.
fn flags(names: Option<&[Str]>, notifies: bool) -> Result<c_ulong, String> {
    let mut bits = match names {
        None => libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
        Some(names) => names.iter().try_fold(0, |bits, name| {
            flag(name).map(|bit| bits | bit).ok_or_else(|| format!("unknown seccomp flag \"{name}\""))
        })?,
    };
    if notifies {
        // The thread that hands the listener over must not have the filter. It is gone when the program runs.
        bits &= !libc::SECCOMP_FILTER_FLAG_TSYNC;
        bits |= libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    } else {
        // It is about waiting for the agent's answer, and refused by the kernel where there is none.
        bits &= !libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
    }
    Ok(bits)
}

fn flag(name: &str) -> Option<c_ulong> {
    FLAGS.iter().find(|(known, _)| *known == name).map(|(_, bit)| *bit)
}

/// The largest error number that goes with an action: that of errno(3) (`MAX_ERRNO` in
/// `linux/err.h`), or what fits `SECCOMP_RET_DATA`. `None` where the action takes none.
fn most_errno(action: &str) -> Option<u32> {
    match action {
        "SCMP_ACT_ERRNO" => Some(4095),
        "SCMP_ACT_TRACE" => Some(libc::SECCOMP_RET_DATA),
        _ => None,
    }
}

/// The value with which a filter returns to ask for an action; `None` for an unknown one. `errno` is EPERM where the profile gives none; 0 is a legal value, with which the
/// call does nothing and succeeds.
fn action(name: &str, errno: Option<u32>) -> Option<u32> {
    let errno = errno.unwrap_or(libc::EPERM as u32) & libc::SECCOMP_RET_DATA;
    Some(match name {
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => libc::SECCOMP_RET_KILL_THREAD,
        "SCMP_ACT_KILL_PROCESS" => libc::SECCOMP_RET_KILL_PROCESS,
        "SCMP_ACT_TRAP" => libc::SECCOMP_RET_TRAP,
        "SCMP_ACT_ERRNO" => libc::SECCOMP_RET_ERRNO | errno,
        "SCMP_ACT_TRACE" => libc::SECCOMP_RET_TRACE | errno,
        "SCMP_ACT_ALLOW" => libc::SECCOMP_RET_ALLOW,
        "SCMP_ACT_LOG" => libc::SECCOMP_RET_LOG,
        NOTIFY => libc::SECCOMP_RET_USER_NOTIF,
        _ => return None,
    })
}
