//! A reading of profiles that knows nothing of how they are compiled, and profiles made at random.

use serde_json::{Value, json};

use super::*;

/// What a profile says of one call, by config-linux.md and [`rules`].
pub(super) struct Reading {
    /// What the filter must return.
    pub(super) verdict: u32,
    /// The actions of all rules that hold, in their order. Where they contradict each other, libseccomp's answer is
    /// that of the rule which its tree reaches first, the profile's order notwithstanding.
    pub(super) holding: Vec<u32>,
    /// Whether [`Self::verdict`] is no rule's but that for calls newer than the profile.
    pub(super) beyond: bool,
    /// Whether one argument of this call is compared more than once.
    pub(super) tangled: bool,
}

/// The calling convention that a call is of; `None` where a machine has it not.
pub(super) fn abi_of(native: Native, call: &Call) -> Option<Abi> {
    match (native, call.arch) {
        (Native::X86_64, X86_64) if call.number >= X32_BIT => Some(Abi::X32),
        (Native::X86_64, X86_64) => Some(Abi::X86_64),
        (Native::X86_64, X86) => Some(Abi::X86),
        (Native::Aarch64, AARCH64) => Some(Abi::Aarch64),
        (Native::Aarch64, ARM) => Some(Abi::Arm),
        _ => None,
    }
}

/// Reads the profile anew for one call.
pub(super) fn read(profile: &Seccomp, native: Native, call: &Call) -> Reading {
    let default = action(&profile.default_action, profile.default_errno_ret).unwrap();
    let fixed = |verdict| Reading { verdict, holding: Vec::new(), beyond: false, tangled: false };
    let Some(abi) = abi_of(native, call) else { return fixed(SECCOMP_RET_KILL_THREAD) };
    let name = format!("SCMP_ARCH_{abi:?}").to_uppercase();
    let listed = profile.architectures.iter().any(|listed| **listed == name);
    let own = matches!(abi, Abi::X86_64 | Abi::Aarch64);
    if !listed && !own {
        let skipped = abi == Abi::X32 && call.number == u32::MAX;
        return fixed(if skipped { default } else { SECCOMP_RET_KILL_THREAD });
    }

    let (mut newest, mut outright, mut holding, mut compared) = (0, None, Vec::new(), [0; 6]);
    for rule in &profile.syscalls {
        let action = action(&rule.action, rule.errno_ret).unwrap();
        for name in &rule.names {
            let number = names::find(name).and_then(|numbers| numbers.on(abi));
            newest = newest.max(number.unwrap_or(0));
            if action == default {
                continue;
            }
            let direct = number == Some(call.number);
            if direct && rule.args.is_empty() {
                outright = outright.or(Some(action));
            }
            if direct && conditions_hold(&rule.args, abi, call) {
                holding.push(action);
            }
            let multiplexed = abi == Abi::X86 && multiplexer(name).is_some_and(|(number, _)| number == call.number);
            if multiplexed && through_multiplexer(name, &rule.args, abi, call) {
                holding.push(action);
            }
            for arg in rule.args.iter().filter(|_| direct || multiplexed) {
                compared[arg.index as usize] += 1;
            }
        }
    }

    let permissive = ["ALLOW", "LOG", "TRACE"].map(|name| format!("SCMP_ACT_{name}"));
    let beyond = outright.is_none()
        && listed
        && newest & !X32_BIT > 0
        && call.number > newest
        && !permissive.contains(&profile.default_action.to_string());
    let enosys = SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
    let verdict = match outright {
        Some(action) => action,
        None if beyond => enosys,
        None => holding.first().copied().unwrap_or(default),
    };
    Reading { verdict, holding, beyond, tangled: compared.iter().any(|count| *count > 1) }
}

/// The call of 32-bit x86 through which `name` can be reached too, and its selector.
pub(super) fn multiplexer(name: &str) -> Option<(u32, u32)> {
    let socket = names::socketcall(name).map(|selector| (102, selector));
    socket.or_else(|| names::ipc(name).map(|selector| (117, selector)))
}

/// Whether the conditions of a rule hold: all of them, or one if two are about the same argument.
fn conditions_hold(args: &[SyscallArg], abi: Abi, call: &Call) -> bool {
    let mut holds = args.iter().map(|arg| holds(arg, abi, call));
    if twice(args) { holds.any(|it| it) } else { holds.all(|it| it) }
}

fn twice(args: &[SyscallArg]) -> bool {
    args.iter().enumerate().any(|(at, arg)| args[..at].iter().any(|other| other.index == arg.index))
}

/// Whether a rule for `name` holds for a call through the multiplexer: conditions on the first argument are lost, where
/// the selector stands.
fn through_multiplexer(name: &str, args: &[SyscallArg], abi: Abi, call: &Call) -> bool {
    let others: Vec<&SyscallArg> = args.iter().filter(|arg| arg.index != 0).collect();
    let lost = others.len() < args.len();
    let mut holds = others.iter().map(|arg| holds(arg, abi, call));
    multiplexer(name).is_some_and(|(_, selector)| selector == call.args[0] as u32)
        && if twice(args) { lost || holds.any(|it| it) } else { holds.all(|it| it) }
}

fn holds(arg: &SyscallArg, abi: Abi, call: &Call) -> bool {
    let wide = matches!(abi, Abi::X86_64 | Abi::Aarch64);
    let bits = if wide { u64::MAX } else { u64::from(u32::MAX) };
    let (actual, value) = (call.args[arg.index as usize] & bits, arg.value & bits);
    match &*arg.op {
        "SCMP_CMP_NE" => actual != value,
        "SCMP_CMP_LT" => actual < value,
        "SCMP_CMP_LE" => actual <= value,
        "SCMP_CMP_EQ" => actual == value,
        "SCMP_CMP_GE" => actual >= value,
        "SCMP_CMP_GT" => actual > value,
        _ => actual & value == arg.value_two.unwrap_or(0) & value,
    }
}

/// Values of arguments and conditions, so few that they meet.
pub(super) const VALUES: [u64; 11] =
    [0, 1, 2, 8, 0x2_0000, 0x7e02_0000, 0xffff_ffff, 1 << 32, (1 << 32) + 1, 1 << 63, u64::MAX];

/// Calls of all kinds: in every architecture, in some, multiplexed, private to ARM, new, unknown.
const NAMES: [&str; 22] = [
    "read",
    "openat",
    "personality",
    "clone",
    "ioctl",
    "execve",
    "mmap2",
    "umount",
    "writev",
    "rt_sigaction",
    "clock_gettime64",
    "socket",
    "bind",
    "accept4",
    "semop",
    "shmctl",
    "socketcall",
    "ipc",
    "breakpoint",
    "futex_waitv",
    "mseal",
    "no_such_call",
];
const ACTIONS: [&str; 8] = [
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_TRAP",
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_LOG",
    "SCMP_ACT_TRACE",
];
const OPERATORS: [&str; 7] =
    ["SCMP_CMP_NE", "SCMP_CMP_LT", "SCMP_CMP_LE", "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_MASKED_EQ"];
const ARCHITECTURES: [&str; 6] =
    ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM", "SCMP_ARCH_RISCV64"];

/// A profile with few rules for many calls, or many rules for few.
pub(super) fn random_profile(random: &mut Random) -> Value {
    let mut names: Vec<&str> = NAMES.into_iter().collect();
    if random.below(2) == 0 {
        names = (0..=random.below(4)).map(|_| random.pick(&NAMES)).collect();
    } else if random.below(4) == 0 {
        names = names::TABLE.iter().map(|(name, _)| *name).collect();
    }
    let mut rules: Vec<Value> = (0..random.below(14)).map(|_| random_rule(random, &names)).collect();
    // Rules that contradict each other are the exception.
    if random.below(4) > 0 {
        let (action, errno) = random_action(random);
        for rule in &mut rules {
            rule["action"] = json!(action);
            rule["errnoRet"] = json!(errno);
        }
    }
    let (default, errno) = random_action(random);
    let mut profile = json!({
        "defaultAction": default,
        "architectures": ARCHITECTURES.into_iter().filter(|_| random.below(3) > 0).collect::<Vec<_>>(),
        "syscalls": rules,
    });
    profile["defaultErrnoRet"] = json!(errno);
    if random.below(3) == 0 {
        let flags = ["TSYNC", "LOG", "SPEC_ALLOW"].into_iter().filter(|_| random.below(2) == 0);
        profile["flags"] = flags.map(|flag| format!("SECCOMP_FILTER_FLAG_{flag}")).collect();
    }
    profile
}

fn random_rule(random: &mut Random, names: &[&str]) -> Value {
    let named: Vec<&str> = (0..=random.below(3)).map(|_| random.pick(names)).collect();
    let args: Vec<Value> = (0..random.below(4))
        .map(|_| {
            let (value, two) = (random.pick(&VALUES), random.pick(&VALUES));
            json!({"index": random.below(6), "op": random.pick(&OPERATORS), "value": value, "valueTwo": two})
        })
        .collect();
    let (action, errno) = random_action(random);
    let mut rule = json!({"names": named, "action": action, "args": args});
    rule["errnoRet"] = json!(errno);
    rule
}

/// An action, and where it takes an error number often one, 0 among them.
fn random_action(random: &mut Random) -> (&'static str, Option<u32>) {
    let action = random.pick(&ACTIONS);
    let takes_one = matches!(action, "SCMP_ACT_ERRNO" | "SCMP_ACT_TRACE");
    (action, (takes_one && random.below(3) > 0).then(|| random.pick(&[0, 1, 2, 38, 4094])))
}

/// Every number that an architecture has or may get, those between, and some that are far from all. What `profile` has
/// rules for comes many times, for other arguments each time.
pub(super) fn calls(profile: &Seccomp, native: Native, random: &mut Random) -> Vec<Call> {
    let abis = match native {
        Native::X86_64 => [(X86_64, Abi::X86_64), (X86, Abi::X86), (X86_64, Abi::X32)],
        Native::Aarch64 => [(AARCH64, Abi::Aarch64), (ARM, Abi::Arm), (X86_64, Abi::X86_64)],
    };
    let mut calls = Vec::new();
    for (arch, abi) in abis {
        let base = if abi == Abi::X32 { X32_BIT } else { 0 };
        let far = [0xf_0000, 0xf_0001, 0xf_0005, 0xf_0007, X32_BIT - 1, u32::MAX >> 1, u32::MAX - 1, u32::MAX];
        let ruled = profile
            .syscalls
            .iter()
            .flat_map(|rule| &rule.names)
            .filter_map(|name| names::find(name)?.on(abi))
            .chain((abi == Abi::X86).then_some([102, 117]).into_iter().flatten());
        let ruled: Vec<u32> = ruled.take(40).flat_map(|number| [number; 16]).collect();
        for number in (base..base + 600).chain(far).chain(ruled) {
            let mut args = [0; 6].map(|_: i32| random.pick(&VALUES));
            if random.below(2) == 0 {
                // A selector of socketcall(2) or ipc(2).
                args[0] = random.below(25) as u64;
            }
            calls.push(Call { arch, number, args });
        }
    }
    calls
}

/// The profiles of engines: two as their containers had them, and the one that Debian ships for Podman, resolved as
/// for a container without privileges, on both machines.
pub(super) fn engines() -> Vec<(&'static str, Value)> {
    let debian = std::fs::read("/usr/share/containers/seccomp.json").expect("golang-github-containers-common");
    let debian: Value = serde_json::from_slice(&debian).unwrap();
    vec![
        ("Docker", serde_json::from_str(DOCKER).unwrap()),
        ("Podman", serde_json::from_str(PODMAN).unwrap()),
        ("containers-common", resolved(debian)),
    ]
}

/// What an engine makes of a profile with conditions: the rules that ask for no capability, and for these machines.
fn resolved(mut profile: Value) -> Value {
    profile["architectures"] =
        json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]);
    let rules = profile["syscalls"].as_array_mut().unwrap();
    rules.retain(|rule| {
        let asked = |list: &str, what: &str| rule[list][what].as_array().is_some_and(|list| !list.is_empty());
        !asked("includes", "caps") && !asked("includes", "arches") && !asked("excludes", "arches")
    });
    for rule in rules {
        let fields = rule.as_object_mut().unwrap();
        fields.retain(|name, _| ["names", "action", "errnoRet", "args"].contains(&name.as_str()));
    }
    profile
}

fn compare(profile: &Seccomp, random: &mut Random) {
    for native in [Native::X86_64, Native::Aarch64] {
        let program = compile_for(profile, native).unwrap().program;
        for call in calls(profile, native, random) {
            let expected = read(profile, native, &call).verdict;
            assert_eq!(run(&program, &call).0, expected, "{call:x?}\n{profile:?}");
        }
    }
}

#[test]
fn random_profiles_do_what_they_say() {
    let mut random = Random(1);
    for _ in 0..200 {
        let profile = random_profile(&mut random).to_string();
        assert_eq!(problems(&profile), Vec::<String>::new(), "{profile}");
        compare(&parse(&profile), &mut random);
    }
}

#[test]
fn profiles_of_engines_pass_and_do_what_they_say() {
    for (name, profile) in engines() {
        let text = profile.to_string();
        assert_eq!(problems(&text), Vec::<String>::new(), "{name}");
        compare(&parse(&text), &mut Random(2));
        let size = compile_for(&parse(&text), Native::X86_64).unwrap().program.len();
        assert!(size < 400, "{name}: {size}");
    }
}
