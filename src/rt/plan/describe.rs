//! The plan in words, in the order in which it is carried out.

use std::fmt::Write;

use serde::Serialize;

use super::options::{Attributes, Propagation, propagation_word};
use super::rootfs::{Mount, Step, What};
use super::{Plan, names};

/// One thing that `create` or `start` does.
#[derive(Debug, Serialize, PartialEq, Eq)]
pub struct Line {
    /// `parent` or `init`: which of the two processes does it.
    pub by: &'static str,
    /// What kind of step.
    pub step: &'static str,
    /// The particulars.
    pub detail: String,
}

/// The form for people: one line a step, init's indented.
pub fn text(lines: &[Line]) -> String {
    let mut text = String::new();
    for line in lines {
        let indent = if line.by == "init" { "    " } else { "" };
        let _ = writeln!(text, "{indent}{} {}", line.step, line.detail);
    }
    text
}

struct Lines(Vec<Line>);

impl Lines {
    fn parent(&mut self, step: &'static str, detail: impl Into<String>) {
        self.0.push(Line { by: "parent", step, detail: detail.into() });
    }

    fn init(&mut self, step: &'static str, detail: impl Into<String>) {
        self.0.push(Line { by: "init", step, detail: detail.into() });
    }
}

/// Everything that the plan holds.
pub fn lines(plan: &Plan<'_>) -> Vec<Line> {
    let mut lines = Lines(Vec::new());
    parent(plan, &mut lines);
    root(plan, &mut lines);
    process(plan, &mut lines);
    lines.0
}

fn kinds(mask: u64) -> String {
    let is_made = |kind: &&str| names::namespace(kind).is_some_and(|bit| mask & bit != 0);
    let made: Vec<&str> = names::NAMESPACES.into_iter().filter(is_made).collect();
    if made.is_empty() { "no new namespace".to_owned() } else { made.join(" ") }
}

fn parent(plan: &Plan<'_>, lines: &mut Lines) {
    lines.parent("write", "state.json");
    let namespaces = &plan.namespaces;
    for step in &plan.steps {
        if let Step::Mount(mount) = step
            && let What::Bind { source, early: true, .. } = &mount.what
        {
            lines.parent("open", format!("{source} for a bind mount"));
        }
    }
    if let Some(offsets) = &namespaces.time {
        lines.parent("unshare", format!("time {}", offsets.trim_end().replace('\n', ", ")).trim_end());
    }
    for join in &namespaces.join {
        lines.parent("join", format!("{} namespace {}", kinds(join.kind), join.path));
    }
    let by_hand = plan.cgroup.v2().filter(|_| plan.cgroup.scope.is_none());
    if let Some(dir) = by_hand {
        lines.parent("make cgroup", &*dir.path);
    }
    let into = by_hand.map_or(String::new(), |dir| format!(" into {}", dir.path));
    lines.parent("clone", format!("{}{into}", kinds(namespaces.create)));
    for (step, map) in [("map uids", &namespaces.uid_map), ("map gids", &namespaces.gid_map)] {
        for range in map {
            lines.parent(step, format!("{} -> {} ({})", range.container_id, range.host_id, range.size));
        }
    }
    if let Some(scope) = &plan.cgroup.scope {
        lines.parent("have systemd make", format!("{} in {}", scope.unit.name, scope.unit.slice));
        for property in &scope.properties {
            lines.parent("property", format!("{} = {:?}", property.name, property.value));
        }
    }
    for dir in plan.cgroup.v1() {
        lines.parent("make cgroup", &*dir.path);
    }
    if let (Some(owner), Some(dir)) = (plan.cgroup.owner, plan.cgroup.v2()) {
        lines.parent("give", format!("{} to {owner}", dir.path));
    }
    if let Some(program) = &plan.cgroup.device_program {
        lines.parent("device program", format!("{} instructions", program.len()));
    }
    for write in &plan.cgroup.writes {
        lines.parent("limit", format!("{} = {}", write.file, write.value));
    }
    if !plan.cgroup.by_init {
        for dir in plan.cgroup.v1() {
            lines.parent("put init into", &*dir.path);
        }
    }
    if let Some(score) = plan.process.as_ref().and_then(|process| process.oom_score_adj) {
        lines.parent("oom_score_adj", score.to_string());
    }
    if let Some(rdt) = &plan.rdt {
        lines.parent("resctrl", format!("{} {}", rdt.group.display(), rdt.schemata.join("; ")));
    }
    for (name, new) in &plan.net_devices {
        lines.parent("move network device", format!("{name} -> {new}"));
    }
}

fn root(plan: &Plan<'_>, lines: &mut Lines) {
    if let Some(name) = &plan.keyring {
        lines.init("session keyring", &**name);
    }
    if let Some(name) = plan.hostname {
        lines.init("hostname", name);
    }
    if let Some(name) = plan.domainname {
        lines.init("domainname", name);
    }
    if plan.loopback {
        lines.init("bring up", "lo");
    }
    lines.init("attach root", plan.root.path.display().to_string());
    for step in &plan.steps {
        match step {
            Step::EnterCgroup => enter_cgroup(plan, lines),
            Step::Mount(it) => lines.init("mount", mount(it)),
            Step::Device(it) => {
                let how = if it.bind { " (the host's)" } else { "" };
                let detail = format!(
                    "{} {} {}:{} {:04o} {}:{}{how}",
                    it.path, it.kind, it.major, it.minor, it.mode, it.uid, it.gid
                );
                lines.init("device", detail);
            }
            Step::Link { path, target, .. } => lines.init("link", format!("{path} -> {target}")),
            Step::Directory(path) => lines.init("directory", &**path),
            Step::Mask(path) => lines.init("mask", &**path),
            Step::ReadOnly(path) => lines.init("read-only", &**path),
        }
    }
    for (_, value, key) in &plan.sysctl {
        lines.init("sysctl", format!("{key} = {value}"));
    }
    if plan.process.as_ref().is_some_and(|process| process.terminal.is_some()) {
        lines.init("terminal", "/dev/pts/ptmx, on /dev/console");
    }
    for (kind, hooks) in [("prestart", &plan.hooks.prestart), ("createRuntime", &plan.hooks.create_runtime)] {
        for hook in hooks {
            lines.parent("hook", format!("{kind} {}", hook.path));
        }
    }
    for hook in &plan.hooks.create_container {
        lines.init("hook", format!("createContainer {}", hook.path));
    }
    if !plan.steps.iter().any(|step| matches!(step, Step::EnterCgroup)) {
        enter_cgroup(plan, lines);
    }
    lines.init(if plan.no_pivot { "move root" } else { "pivot_root" }, "/");
    if let Some(propagation) = plan.root.propagation {
        lines.init("propagation", format!("/ {}", propagation_word(propagation)));
    }
    if plan.root.readonly {
        lines.init("read-only", "/");
    }
}

fn enter_cgroup(plan: &Plan<'_>, lines: &mut Lines) {
    lines.init("wait for", "the cgroup");
    if plan.cgroup.by_init {
        for dir in plan.cgroup.v1() {
            lines.init("enter", &*dir.path);
        }
    }
    if plan.namespaces.cgroup {
        lines.init("unshare", "cgroup");
    }
}

fn process(plan: &Plan<'_>, lines: &mut Lines) {
    let Some(process) = &plan.process else { return };
    if let Some(domain) = plan.personality {
        lines.init("personality", format!("{domain:#x}"));
    }
    if let Some((mode, nodes)) = &plan.memory_policy {
        lines.init("memory policy", format!("{mode:#x} nodes {nodes:x?}"));
    }
    for (resource, soft, hard) in &process.rlimits {
        let name = names::RLIMITS.get(*resource as usize).unwrap_or(&"?");
        lines.init("rlimit", format!("{name} {soft} {hard}"));
    }
    if let Some(scheduler) = &process.scheduler {
        lines.init("scheduler", format!("{scheduler:?}"));
    }
    if let Some((class, level)) = process.io_priority {
        lines.init("io priority", format!("class {class} level {level}"));
    }
    for (step, label) in [("apparmor", process.apparmor), ("selinux", process.selinux)] {
        if let Some(label) = label {
            lines.init(step, label);
        }
    }
    lines.init("umask", format!("{:04o}", process.umask));
    lines.init("enter", process.cwd);
    let groups: Vec<String> = process.groups.iter().map(ToString::to_string).collect();
    lines.init("user", format!("{}:{} groups [{}]", process.uid, process.gid, groups.join(" ")));
    let caps = &process.capabilities;
    for (set, mask) in [
        ("bounding", caps.bounding),
        ("effective", caps.effective),
        ("inheritable", caps.inheritable),
        ("permitted", caps.permitted),
        ("ambient", caps.ambient),
    ] {
        lines.init("capabilities", format!("{set} {mask:016x}"));
    }
    if process.no_new_privileges {
        lines.init("no_new_privs", "on");
    }
    lines.parent("write", "state.json, pid file");
    lines.init("wait for", "start");
    for hook in &plan.hooks.start_container {
        lines.init("hook", format!("startContainer {}", hook.path));
    }
    if let Some(filter) = &plan.seccomp {
        lines.init("seccomp", format!("{} instructions, flags {:#x}", filter.program.len(), filter.flags));
    }
    let args: Vec<String> = process.args.iter().map(|arg| format!("{:?}", &**arg)).collect();
    for entry in &process.env {
        lines.init("environment", format!("{:?}", &**entry));
    }
    lines.init("execute", args.join(" "));
    for hook in &plan.hooks.poststart {
        lines.parent("hook", format!("poststart {}", hook.path));
    }
}

fn mount(mount: &Mount<'_>) -> String {
    let mut words = Vec::new();
    attributes("", mount.attributes, &mut words);
    attributes("r", mount.recursive, &mut words);
    if let Some(propagation) = mount.propagation {
        words.push(word(propagation));
    }
    let head = match &mount.what {
        What::New { fstype, source, data, superblock, copy_up } => {
            words.extend(superblock.iter().map(|flag| format!("sb:{flag}")));
            words.extend(data.iter().map(ToString::to_string));
            if *copy_up {
                words.push("tmpcopyup".to_owned());
            }
            format!("{fstype} {source}")
        }
        What::Bind { source, recursive, idmap, .. } => {
            if idmap.is_some() {
                words.push("idmap".to_owned());
            }
            format!("{} {source}", if *recursive { "rbind" } else { "bind" })
        }
        What::Remount { data, superblock } => {
            words.extend(superblock.iter().map(|flag| format!("sb:{flag}")));
            words.extend(data.iter().map(ToString::to_string));
            "again".to_owned()
        }
    };
    let options = if words.is_empty() { String::new() } else { format!(" ({})", words.join(",")) };
    format!("{head} on {}{options}", mount.destination)
}

fn word(propagation: Propagation) -> String {
    propagation_word(propagation).to_owned()
}

fn attributes(prefix: &str, attributes: Attributes, words: &mut Vec<String>) {
    let bits = [
        (libc::MOUNT_ATTR_RDONLY, "ro", "rw"),
        (libc::MOUNT_ATTR_NOSUID, "nosuid", "suid"),
        (libc::MOUNT_ATTR_NODEV, "nodev", "dev"),
        (libc::MOUNT_ATTR_NOEXEC, "noexec", "exec"),
        (libc::MOUNT_ATTR_NODIRATIME, "nodiratime", "diratime"),
        (libc::MOUNT_ATTR_NOSYMFOLLOW, "nosymfollow", "symfollow"),
    ];
    for (bit, on, off) in bits {
        if attributes.set & bit != 0 {
            words.push(format!("{prefix}{on}"));
        } else if attributes.clear & bit != 0 {
            words.push(format!("{prefix}{off}"));
        }
    }
    if attributes.clear & libc::MOUNT_ATTR__ATIME != 0 {
        let time = match attributes.set & libc::MOUNT_ATTR__ATIME {
            libc::MOUNT_ATTR_NOATIME => "noatime",
            libc::MOUNT_ATTR_STRICTATIME => "strictatime",
            _ => "relatime",
        };
        words.push(format!("{prefix}{time}"));
    }
}
