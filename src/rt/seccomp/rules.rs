//! What a profile means: for every system call number of every architecture, what happens to it.
//!
//! - The machine's own architecture is always filtered, listed or not.
//! - A rule whose action is the default action is left out.
//! - Rules for the same call are alternatives. One without conditions beats all that have some;
//!   otherwise the first one that holds wins, and if none does, the default action.
//! - The conditions of one rule must all hold, unless two of them are about the same argument:
//!   then each is a rule of its own. (Docker's first profiles relied on it, and runc kept it.)
//! - Calls newer than the profile fail with ENOSYS, not with the default action; see [`beyond`].
//!
//! 32-bit x86 can reach the calls of sockets and of System V IPC in two ways: by a number of
//! their own, or through socketcall(2) and ipc(2) with a selector as first argument. A rule for
//! such a call is put on both. On the latter, the selector takes the place of a condition on the
//! first argument, because the call's own arguments lie in memory, where no filter can see them.
//! Conditions on other arguments stay as they are. This is libseccomp's doing (`abi_rule_add`).

use libc::{ENOSYS, SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO, SECCOMP_RET_KILL_THREAD};
use libc::{SECCOMP_RET_ACTION_FULL, SECCOMP_RET_LOG, SECCOMP_RET_TRACE, SECCOMP_RET_USER_NOTIF};

use super::bpf::{Compare, Condition, Range, Section, Verdict};
use super::names::{self, Abi, Numbers, X32_BIT};
use super::{Native, action};
use crate::config::types::{Seccomp, Str, SyscallArg, SyscallRule};

/// `AUDIT_ARCH_…` of `linux/audit.h`: the machine's number in ELF files, and bits for little
/// endian and 64 bits.
const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
const AUDIT_ARCH_I386: u32 = 0x4000_0003;
const AUDIT_ARCH_AARCH64: u32 = 0xc000_00b7;
const AUDIT_ARCH_ARM: u32 = 0x4000_0028;

/// The profile with actions and operators decoded.
struct Profile<'a> {
    source: &'a Seccomp<'a>,
    default: u32,
    /// What calls beyond the newest one named get.
    beyond: u32,
    rules: Vec<Rule<'a>>,
}

struct Rule<'a> {
    /// The names that are known.
    calls: Vec<(&'a str, Numbers)>,
    action: u32,
    /// What must hold, in one way or another; empty if the rule is unconditional.
    alternatives: Vec<Vec<(u32, Compare)>>,
}

/// One rule for one number.
struct Entry {
    number: u32,
    conditions: Vec<Condition>,
    action: u32,
}

/// The sections of the filter, the machine's own architecture first.
pub(super) fn sections(profile: &Seccomp, native: Native) -> Result<Vec<Section>, String> {
    let default = action(&profile.default_action, profile.default_errno_ret)
        .ok_or_else(|| format!("unsupported default action \"{}\"", profile.default_action))?;
    let rules = profile.syscalls.iter().map(Rule::new).collect::<Result<_, _>>()?;
    let profile = Profile { source: profile, default, beyond: beyond(default), rules };
    Ok(match native {
        Native::X86_64 => {
            let mut ranges = profile.ranges(Abi::X86_64);
            // Both use the same AUDIT_ARCH_…, and x32 has all the numbers from X32_BIT on.
            ranges.extend(profile.x32());
            let mut sections = vec![Section { arch: AUDIT_ARCH_X86_64, ranges: merge(ranges) }];
            profile.compat(Abi::X86, AUDIT_ARCH_I386, &mut sections);
            sections
        }
        Native::Aarch64 => {
            let ranges = merge(profile.ranges(Abi::Aarch64));
            let mut sections = vec![Section { arch: AUDIT_ARCH_AARCH64, ranges }];
            profile.compat(Abi::Arm, AUDIT_ARCH_ARM, &mut sections);
            sections
        }
    })
}

/// What calls get that are newer than the newest one in the profile.
///
/// A C library tries a new call first and falls back to an old one if it gets ENOSYS, so that a
/// profile from before that call must not answer EPERM. runc therefore lets every call above the
/// highest number that the profile names fail with ENOSYS, unless it would have been let through.
fn beyond(default: u32) -> u32 {
    match default & SECCOMP_RET_ACTION_FULL {
        SECCOMP_RET_ALLOW | SECCOMP_RET_LOG | SECCOMP_RET_TRACE | SECCOMP_RET_USER_NOTIF => default,
        _ => SECCOMP_RET_ERRNO | ENOSYS as u32,
    }
}

impl<'a> Rule<'a> {
    fn new(source: &'a SyscallRule<'a>) -> Result<Self, String> {
        let action = action(&source.action, source.errno_ret)
            .ok_or_else(|| format!("unsupported action \"{}\"", source.action))?;
        let mut conditions = Vec::with_capacity(source.args.len());
        for arg in &source.args {
            let compare = compare(arg)
                .filter(|_| arg.index <= 5)
                .ok_or_else(|| format!("unknown condition on argument {}: {}", arg.index, arg.op))?;
            conditions.push((arg.index, compare));
        }
        let twice = (0..6).any(|index| conditions.iter().filter(|(argument, _)| *argument == index).count() > 1);
        let alternatives = match conditions {
            none if none.is_empty() => Vec::new(),
            each if twice => each.into_iter().map(|condition| vec![condition]).collect(),
            all => vec![all],
        };
        let known = |name: &'a Str| Some((&**name, names::find(name)?));
        let calls = source.names.iter().filter_map(known).collect();
        Ok(Rule { calls, action, alternatives })
    }
}

/// The comparison that a condition asks for; `None` for an unknown operator.
pub(super) fn compare(arg: &SyscallArg) -> Option<Compare> {
    let value = arg.value;
    Some(match &*arg.op {
        "SCMP_CMP_NE" => Compare::Ne(value),
        "SCMP_CMP_LT" => Compare::Lt(value),
        "SCMP_CMP_LE" => Compare::Le(value),
        "SCMP_CMP_EQ" => Compare::Eq(value),
        "SCMP_CMP_GE" => Compare::Ge(value),
        "SCMP_CMP_GT" => Compare::Gt(value),
        // Bits outside the mask do not count on either side (seccomp_rule_add(3)).
        "SCMP_CMP_MASKED_EQ" => Compare::Masked { mask: value, value: arg.value_two.unwrap_or(0) & value },
        _ => return None,
    })
}

impl Profile<'_> {
    fn lists(&self, abi: Abi) -> bool {
        let name = match abi {
            Abi::X86_64 => "SCMP_ARCH_X86_64",
            Abi::X86 => "SCMP_ARCH_X86",
            Abi::X32 => "SCMP_ARCH_X32",
            Abi::Aarch64 => "SCMP_ARCH_AARCH64",
            Abi::Arm => "SCMP_ARCH_ARM",
        };
        self.source.architectures.iter().any(|listed| &**listed == name)
    }

    /// Adds the section of the machine's 32-bit mode if the profile lists it.
    fn compat(&self, abi: Abi, arch: u32, sections: &mut Vec<Section>) {
        if self.lists(abi) {
            sections.push(Section { arch, ranges: merge(self.ranges(abi)) });
        }
    }

    /// The ranges from [`X32_BIT`] on.
    fn x32(&self) -> Vec<Range> {
        if self.lists(Abi::X32) {
            return self.ranges(Abi::X32);
        }
        // -1 is no x32 call: a tracer sets it to skip a call (ptrace(2)), and must not get the
        // process killed that way.
        vec![range(X32_BIT, SECCOMP_RET_KILL_THREAD), range(u32::MAX, self.default)]
    }

    /// The ranges of all the numbers of `abi`.
    fn ranges(&self, abi: Abi) -> Vec<Range> {
        let (mut entries, newest) = self.entries(abi);
        // Stable: rules for one call stay in the profile's order.
        entries.sort_by_key(|entry| entry.number);

        let base = if abi == Abi::X32 { X32_BIT } else { 0 };
        let mut ranges = vec![range(base, self.default)];
        for group in entries.chunk_by_mut(|one, next| one.number == next.number) {
            let number = group[0].number;
            ranges.push(Range { first: number, verdict: self.verdict(group) });
            ranges.push(range(number + 1, self.default));
        }
        // runc leaves alone what the profile does not list or names no call of.
        if self.lists(abi) && newest > base {
            ranges.push(range(newest + 1, self.beyond));
        }
        ranges
    }

    /// All rules for the calls that `abi` has, and the highest number among the calls named.
    fn entries(&self, abi: Abi) -> (Vec<Entry>, u32) {
        let mut entries = Vec::with_capacity(512);
        let mut newest = 0;
        for rule in &self.rules {
            for (name, numbers) in &rule.calls {
                let number = numbers.on(abi);
                newest = newest.max(number.unwrap_or(0));
                if rule.action == self.default {
                    continue;
                }
                if let Some(number) = number {
                    push(&mut entries, rule, number, None, abi);
                }
                if abi == Abi::X86
                    && let Some((call, selector)) = multiplexed(name)
                    && let Some(number) = names::find(call).and_then(|numbers| numbers.on(abi))
                {
                    push(&mut entries, rule, number, Some(selector), abi);
                }
            }
        }
        (entries, newest)
    }

    /// What becomes of the call that all the rules of `group` are about.
    fn verdict(&self, group: &mut [Entry]) -> Verdict {
        if let Some(entry) = group.iter().find(|entry| entry.conditions.is_empty()) {
            return Verdict { cases: Vec::new(), otherwise: entry.action };
        }
        let cases = group.iter_mut().map(|entry| (std::mem::take(&mut entry.conditions), entry.action));
        Verdict { cases: cases.collect(), otherwise: self.default }
    }
}

/// The other way to `call` on 32-bit x86: through which call, and with which selector.
fn multiplexed(call: &str) -> Option<(&'static str, u32)> {
    let socket = names::socketcall(call).map(|selector| ("socketcall", selector));
    socket.or_else(|| names::ipc(call).map(|selector| ("ipc", selector)))
}

/// Adds `rule` for one number. A `selector` is what the first argument must be.
fn push(entries: &mut Vec<Entry>, rule: &Rule, number: u32, selector: Option<u32>, abi: Abi) {
    // libseccomp takes x32 for a 32-bit architecture here, which its pointers and longs are.
    let wide = matches!(abi, Abi::X86_64 | Abi::Aarch64);
    let selector = selector.map(|value| Condition { index: 0, compare: Compare::Eq(value.into()), wide });
    let mut add = |conditions| entries.push(Entry { number, conditions, action: rule.action });
    if rule.alternatives.is_empty() {
        add(selector.into_iter().collect());
    }
    for alternative in &rule.alternatives {
        let own = alternative
            .iter()
            .filter(|(index, _)| selector.is_none() || *index != 0)
            .map(|&(index, compare)| Condition { index, compare, wide });
        add(selector.into_iter().chain(own).collect());
    }
}

/// A range without conditions.
fn range(first: u32, otherwise: u32) -> Range {
    Range { first, verdict: Verdict { cases: Vec::new(), otherwise } }
}

/// Drops ranges that are empty, and joins neighbours with the same verdict.
fn merge(ranges: Vec<Range>) -> Vec<Range> {
    let mut merged: Vec<Range> = Vec::with_capacity(ranges.len());
    for range in ranges {
        // A later range that starts at the same number leaves nothing of the one before.
        if merged.last().is_some_and(|last| last.first == range.first) {
            merged.pop();
        }
        if merged.last().is_none_or(|last| last.verdict != range.verdict) {
            merged.push(range);
        }
    }
    merged
}
