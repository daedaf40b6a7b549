//! The program of the container: its identity, its limits, what it is given.

use std::borrow::Cow;

use super::{Request, names};
use crate::config::problem::Problems;
use crate::config::types::Process as Document;
use crate::config::types::{Capabilities, Str, Strs};
use crate::sys::SchedAttr;

/// Everything about the program.
#[derive(Debug)]
pub struct Process<'a> {
    /// argv.
    pub args: &'a [Str<'a>],
    /// The whole environment, but for `HOME` where that is missing.
    pub env: Vec<Str<'a>>,
    /// Working directory inside the container.
    pub cwd: &'a str,
    /// A pseudo-terminal, with rows and columns.
    pub terminal: Option<(u16, u16)>,
    /// Ids inside the container.
    pub uid: u32,
    /// Ids inside the container.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Cow<'a, [u32]>,
    /// File mode creation mask; 022 where the document names none, as the other runtimes have it.
    pub umask: u32,
    /// Capability sets.
    pub capabilities: Caps,
    /// prctl(2) `PR_SET_NO_NEW_PRIVS`.
    pub no_new_privileges: bool,
    /// Resource number, soft, hard.
    pub rlimits: Vec<(u32, u64, u64)>,
    /// /proc/PID/oom_score_adj.
    pub oom_score_adj: Option<i32>,
    /// sched_setattr(2).
    pub scheduler: Option<SchedAttr>,
    /// ioprio_set(2): class and level.
    pub io_priority: Option<(u16, u16)>,
    /// Profile to change to at execve.
    pub apparmor: Option<&'a str>,
    /// Label to change to at execve.
    pub selinux: Option<&'a str>,
}

/// Capability sets as masks, bit n for capability n.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Caps {
    pub bounding: u64,
    pub effective: u64,
    pub inheritable: u64,
    pub permitted: u64,
    pub ambient: u64,
}

/// What decides over what the process can be given.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings {
    /// It runs in a user namespace of its own.
    pub user_namespace: bool,
    /// What the runtime may use.
    pub capabilities: u64,
    /// The kernel runs AppArmor.
    pub apparmor: bool,
    /// The kernel runs SELinux.
    pub selinux: bool,
}

/// Plans the process object of a document.
pub fn plan<'a>(
    process: &'a Document<'a>,
    surroundings: &Surroundings,
    request: &Request,
    problems: &mut Problems,
) -> Process<'a> {
    let apparmor = process.apparmor_profile.as_deref().filter(|profile| !profile.is_empty());
    if apparmor.is_some_and(|profile| profile != "unconfined") && !surroundings.apparmor {
        problems.unavailable("/process/apparmorProfile", "needs AppArmor, which this kernel does not run");
    }
    let selinux = process.selinux_label.as_deref().filter(|label| !label.is_empty());
    if selinux.is_some() && !surroundings.selinux {
        problems.unavailable("/process/selinuxLabel", "needs SELinux, which this kernel does not run");
    }
    let mut env: Vec<Str<'a>> = process.env.clone();
    let has = |env: &[Str<'_>], name: &str| env.iter().any(|entry| entry.starts_with(name));
    if request.listen_fds > 0 && !has(&env, "LISTEN_FDS=") {
        env.push(format!("LISTEN_FDS={}", request.listen_fds).into());
        env.push("LISTEN_PID=1".to_owned().into());
    }
    if request.notify_socket.is_some() && !has(&env, "NOTIFY_SOCKET=") {
        env.push(format!("NOTIFY_SOCKET={}", super::rootfs::NOTIFY_SOCKET).into());
    }
    // In a new user namespace the first process has every capability, whatever it had outside.
    let grantable = if surroundings.user_namespace { u64::MAX } else { surroundings.capabilities };
    Process {
        args: &process.args,
        env,
        cwd: &process.cwd,
        terminal: process
            .terminal
            .then(|| process.console_size.as_ref().map_or((0, 0), |size| (size.height as u16, size.width as u16))),
        uid: process.user.uid,
        gid: process.user.gid,
        groups: Cow::Borrowed(&process.user.additional_gids),
        umask: process.user.umask.unwrap_or(0o022),
        capabilities: process
            .capabilities
            .as_ref()
            .map_or_else(Caps::default, |sets| capabilities(sets, grantable, problems)),
        no_new_privileges: process.no_new_privileges,
        rlimits: process
            .rlimits
            .iter()
            .filter_map(|limit| Some((names::rlimit(&limit.kind)?, limit.soft, limit.hard)))
            .collect(),
        oom_score_adj: process.oom_score_adj,
        scheduler: process.scheduler.as_ref().and_then(|scheduler| names::scheduler(scheduler).ok()),
        io_priority: process
            .io_priority
            .as_ref()
            .and_then(|it| Some((names::io_class(&it.class)?, it.priority as u16))),
        apparmor,
        selinux,
    }
}

/// Names to masks. What cannot be granted is left out with a warning (config.md, "Linux Process").
fn capabilities(sets: &Capabilities<'_>, grantable: u64, problems: &mut Problems) -> Caps {
    let mut mask = |set: &str, list: &Strs<'_>, allowed: u64, why: &str| {
        let mut mask = 0;
        for (index, name) in list.iter().enumerate() {
            let Some(bit) = names::capability(name) else { continue };
            if allowed & (1 << bit) == 0 {
                problems.warn(format!("/process/capabilities/{set}/{index}"), format!("{name} is not granted: {why}"));
            } else {
                mask |= 1 << bit;
            }
        }
        mask
    };
    let lacking = "this process does not have it itself";
    let permitted = mask("permitted", &sets.permitted, grantable, lacking);
    let inheritable = mask("inheritable", &sets.inheritable, grantable, lacking);
    Caps {
        bounding: mask("bounding", &sets.bounding, grantable, lacking),
        effective: mask("effective", &sets.effective, permitted, "it is not in the permitted set"),
        ambient: mask(
            "ambient",
            &sets.ambient,
            permitted & inheritable,
            "it is not in both the permitted and the inheritable set (capabilities(7))",
        ),
        permitted,
        inheritable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_granted_is_left_out_and_said() {
        let sets: Capabilities<'_> = serde_json::from_str(
            r#"{"bounding":["CAP_CHOWN","CAP_SYS_RESOURCE","CAP_NEW"],"permitted":["CAP_CHOWN","CAP_KILL"],
                "effective":["CAP_CHOWN","CAP_SETUID"],"inheritable":["CAP_KILL"],"ambient":["CAP_CHOWN","CAP_KILL"]}"#,
        )
        .unwrap();
        let mut problems = Problems::default();
        let caps = capabilities(&sets, !(1 << 24), &mut problems);
        assert_eq!(
            caps,
            Caps { bounding: 1, effective: 1, inheritable: 1 << 5, permitted: 1 | 1 << 5, ambient: 1 << 5 }
        );
        let said: Vec<&str> = problems.0.iter().map(|problem| &*problem.pointer).collect();
        assert_eq!(
            said,
            [
                "/process/capabilities/bounding/1",
                "/process/capabilities/effective/1",
                "/process/capabilities/ambient/0"
            ]
        );
        assert_eq!(problems.fatal().count(), 0);
    }
}
