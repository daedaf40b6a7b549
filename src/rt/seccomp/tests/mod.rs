//! Runs compiled filters in an interpreter and compares them with a reading of the profile that
//! knows nothing of how they were compiled.

// System calls are known by their decimal numbers.
#![allow(clippy::decimal_bitwise_operands)]

mod fuzz;
mod oracle;
mod reading;

use libc::{SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO, SECCOMP_RET_KILL_THREAD, SECCOMP_RET_TRAP};

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::names::{self, Abi, X32_BIT};
use super::*;
use crate::config::types::SyscallRule;

const X86_64: u32 = 0xc000_003e;
const X86: u32 = 0x4000_0003;
const AARCH64: u32 = 0xc000_00b7;
const ARM: u32 = 0x4000_0028;

const DOCKER: &str = include_str!("../testdata/docker.json");
const PODMAN: &str = include_str!("../testdata/podman.json");

/// `struct seccomp_data` without the instruction pointer.
#[derive(Debug, Clone, Copy)]
struct Call {
    arch: u32,
    number: u32,
    args: [u64; 6],
}

impl Call {
    fn word(&self, offset: u32) -> u32 {
        match offset {
            0 => self.number,
            4 => self.arch,
            16..64 => {
                let arg = self.args[(offset as usize - 16) / 8];
                if offset.is_multiple_of(8) { arg as u32 } else { (arg >> 32) as u32 }
            }
            _ => panic!("load from {offset}"),
        }
    }
}

/// What the program returns, and after how many instructions.
fn run(program: &[sock_filter], call: &Call) -> (u32, usize) {
    let (mut accumulator, mut at, mut steps) = (0, 0, 0);
    loop {
        let sock_filter { code, jt, jf, k } = program[at];
        at += 1;
        steps += 1;
        let taken = match code {
            0x20 => {
                accumulator = call.word(k);
                continue;
            }
            0x54 => {
                accumulator &= k;
                continue;
            }
            0x05 => {
                at += k as usize;
                continue;
            }
            0x06 => return (k, steps),
            0x15 => accumulator == k,
            0x25 => accumulator > k,
            0x35 => accumulator >= k,
            _ => panic!("instruction {code:#x}"),
        };
        at += usize::from(if taken { jt } else { jf });
    }
}

fn parse(text: &str) -> Seccomp<'_> {
    serde_json::from_str(text).unwrap()
}

fn problems(text: &str) -> Vec<String> {
    let mut problems = Problems::default();
    check(&parse(text), "/s", &mut problems);
    problems.0.iter().map(ToString::to_string).collect()
}

/// A profile that allows everything but what one rule traps.
fn trap(names: &[&'static str], args: &[(u32, &'static str, u64, u64)]) -> Seccomp<'static> {
    let arg = |&(index, op, value, two): &(u32, &'static str, u64, u64)| SyscallArg {
        index,
        value,
        value_two: Some(two),
        op: op.into(),
    };
    Seccomp {
        default_action: "SCMP_ACT_ALLOW".into(),
        syscalls: vec![SyscallRule {
            names: names.iter().map(|name| (*name).into()).collect(),
            action: "SCMP_ACT_TRAP".into(),
            errno_ret: None,
            args: args.iter().map(arg).collect(),
        }],
        ..Seccomp::default()
    }
}

fn answer(profile: &Seccomp, native: Native, arch: u32, number: u32, args: [u64; 6]) -> u32 {
    run(&compile_for(profile, native).unwrap().program, &Call { arch, number, args }).0
}

/// What an operator says of an argument and a value.
type Test = fn(u64, u64) -> bool;

#[test]
fn every_operator_at_the_edges_of_both_halves() {
    let values = [
        0,
        1,
        2,
        0x7fff_ffff,
        0xffff_fffe,
        0xffff_ffff,
        1 << 32,
        (1 << 32) + 1,
        (1 << 33) - 1,
        1 << 33,
        0x7e02_0000,
        1 << 63,
        u64::MAX - 1,
        u64::MAX,
    ];
    let operators: [(&str, Test); 6] = [
        ("SCMP_CMP_NE", |arg, value| arg != value),
        ("SCMP_CMP_LT", |arg, value| arg < value),
        ("SCMP_CMP_LE", |arg, value| arg <= value),
        ("SCMP_CMP_EQ", |arg, value| arg == value),
        ("SCMP_CMP_GE", |arg, value| arg >= value),
        ("SCMP_CMP_GT", |arg, value| arg > value),
    ];
    for (op, holds) in operators {
        for value in values {
            let program = compile_for(&trap(&["read"], &[(2, op, value, 0)]), Native::X86_64);
            let program = program.unwrap().program;
            for arg in values {
                let call = Call { arch: X86_64, number: 0, args: [7, 7, arg, 7, 7, 7] };
                let expected = if holds(arg, value) { SECCOMP_RET_TRAP } else { SECCOMP_RET_ALLOW };
                assert_eq!(run(&program, &call).0, expected, "{arg:#x} {op} {value:#x}");
            }
        }
    }
    for mask in values {
        for value in values {
            let profile = trap(&["read"], &[(5, "SCMP_CMP_MASKED_EQ", mask, value)]);
            let program = compile_for(&profile, Native::Aarch64).unwrap().program;
            for arg in values {
                let call = Call { arch: AARCH64, number: 63, args: [0, 0, 0, 0, 0, arg] };
                let trapped = run(&program, &call).0 == SECCOMP_RET_TRAP;
                assert_eq!(trapped, arg & mask == value & mask, "{arg:#x} & {mask:#x} {value:#x}");
            }
        }
    }
}

#[test]
fn registers_of_32_bits_are_compared_as_such() {
    let mut profile = trap(&["personality"], &[(0, "SCMP_CMP_EQ", u64::MAX, 0)]);
    profile.architectures = vec!["SCMP_ARCH_X86".into()];
    let minus_one = [0xffff_ffff, 0, 0, 0, 0, 0];
    assert_eq!(answer(&profile, Native::X86_64, X86, 136, minus_one), SECCOMP_RET_TRAP);
    assert_eq!(answer(&profile, Native::X86_64, X86_64, 135, minus_one), SECCOMP_RET_ALLOW);
}

#[test]
fn a_rule_without_conditions_wins_wherever_it_stands() {
    let text = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["read"], "action": "SCMP_ACT_TRAP",
         "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]},
        {"names": ["read"], "action": "SCMP_ACT_ERRNO", "errnoRet": 0},
        {"names": ["read"], "action": "SCMP_ACT_KILL"}]}"#;
    let read = answer(&parse(text), Native::X86_64, X86_64, 0, [1; 6]);
    assert_eq!(read, SECCOMP_RET_ERRNO);
}

#[test]
fn conditions_on_one_argument_are_alternatives_and_on_several_are_not() {
    let both = trap(&["read"], &[(0, "SCMP_CMP_EQ", 1, 0), (1, "SCMP_CMP_EQ", 2, 0)]);
    let either = trap(&["read"], &[(0, "SCMP_CMP_EQ", 1, 0), (0, "SCMP_CMP_EQ", 2, 0)]);
    let read = |profile, args| answer(profile, Native::X86_64, X86_64, 0, args);
    assert_eq!(read(&both, [1, 2, 0, 0, 0, 0]), SECCOMP_RET_TRAP);
    assert_eq!(read(&both, [1, 3, 0, 0, 0, 0]), SECCOMP_RET_ALLOW);
    assert_eq!(read(&either, [1, 0, 0, 0, 0, 0]), SECCOMP_RET_TRAP);
    assert_eq!(read(&either, [2, 0, 0, 0, 0, 0]), SECCOMP_RET_TRAP);
    assert_eq!(read(&either, [3, 0, 0, 0, 0, 0]), SECCOMP_RET_ALLOW);
}

#[test]
fn architectures_that_are_not_listed_kill() {
    let mut profile = trap(&["execve"], &[]);
    let (kill, allow) = (SECCOMP_RET_KILL_THREAD, SECCOMP_RET_ALLOW);
    let x86 = |profile: &Seccomp, arch, number| answer(profile, Native::X86_64, arch, number, [0; 6]);
    assert_eq!(x86(&profile, X86_64, 59), SECCOMP_RET_TRAP);
    assert_eq!(x86(&profile, X86, 20), kill);
    assert_eq!(x86(&profile, AARCH64, 20), kill);
    assert_eq!(x86(&profile, X86_64, X32_BIT), kill);
    assert_eq!(x86(&profile, X86_64, u32::MAX - 1), kill);
    assert_eq!(x86(&profile, X86_64, u32::MAX), allow);

    profile.architectures = ["SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_ARM", "SCMP_ARCH_SHEB"].map(Str::from).into();
    assert_eq!(x86(&profile, X86_64, 59), SECCOMP_RET_TRAP);
    assert_eq!(x86(&profile, X86, 11), SECCOMP_RET_TRAP);
    assert_eq!(x86(&profile, X86, 20), allow);
    assert_eq!(x86(&profile, X86_64, 520 | X32_BIT), SECCOMP_RET_TRAP);
    assert_eq!(x86(&profile, X86_64, X32_BIT), allow);
    assert_eq!(x86(&profile, ARM, 11), kill);

    let arm = |arch, number| answer(&profile, Native::Aarch64, arch, number, [0; 6]);
    assert_eq!(arm(AARCH64, 221), SECCOMP_RET_TRAP);
    assert_eq!(arm(AARCH64, X32_BIT), allow);
    assert_eq!(arm(ARM, 11), SECCOMP_RET_TRAP);
    assert_eq!(arm(X86_64, 59), kill);
}

#[test]
fn sockets_of_32_bit_x86_can_be_reached_in_two_ways() {
    let mut profile = trap(&["socket", "shmget"], &[(0, "SCMP_CMP_EQ", 16, 0)]);
    profile.architectures = vec!["SCMP_ARCH_X86".into()];
    let call = |number, args| answer(&profile, Native::X86_64, X86, number, args);
    assert_eq!(call(359, [16, 0, 0, 0, 0, 0]), SECCOMP_RET_TRAP);
    assert_eq!(call(359, [2, 0, 0, 0, 0, 0]), SECCOMP_RET_ALLOW);
    assert_eq!(call(102, [1, 0, 0, 0, 0, 0]), SECCOMP_RET_TRAP);
    assert_eq!(call(102, [2, 0, 0, 0, 0, 0]), SECCOMP_RET_ALLOW);
    assert_eq!(call(117, [23, 0, 0, 0, 0, 0]), SECCOMP_RET_TRAP);
}

#[test]
fn calls_newer_than_the_profile_do_not_exist() {
    let enosys = SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
    let docker = parse(DOCKER);
    let call = |number| answer(&docker, Native::X86_64, X86_64, number, [0; 6]);
    assert_eq!(call(449), SECCOMP_RET_ALLOW, "futex_waitv is the newest this profile names");
    assert_eq!(call(450), enosys);
    assert_eq!(call(450 | X32_BIT), SECCOMP_RET_ERRNO | 1, "x32 goes on to pwritev2, 547");
    assert_eq!(call(548 | X32_BIT), enosys);
    assert_eq!(call(335), SECCOMP_RET_ERRNO | 1, "a gap in the table");
    // Nothing to make up for where the default lets calls through, or the profile lists nothing.
    let lax = trap(&["read", "write"], &[]);
    assert_eq!(answer(&lax, Native::X86_64, X86_64, 500, [0; 6]), SECCOMP_RET_ALLOW);
    let mut unlisted = parse(DOCKER);
    unlisted.architectures.clear();
    assert_eq!(answer(&unlisted, Native::X86_64, X86_64, 500, [0; 6]), SECCOMP_RET_ERRNO | 1);
}

#[test]
fn jumps_reach_over_long_programs() {
    // Every call gets a verdict of its own, so that nothing can be merged or shared.
    let mut profile = trap(&[], &[]);
    profile.architectures = vec!["SCMP_ARCH_X86_64".into(), "SCMP_ARCH_X86".into()];
    profile.syscalls.clear();
    let names = ["read", "write", "openat", "close", "mmap", "clone", "execve", "ioctl", "bpf"];
    for (at, name) in names.into_iter().cycle().take(180).enumerate() {
        let mut rule = trap(&[name], &[(0, "SCMP_CMP_EQ", at as u64, 0)]).syscalls.remove(0);
        rule.action = "SCMP_ACT_ERRNO".into();
        rule.errno_ret = Some(at as u32 + 1);
        profile.syscalls.push(rule);
    }
    let program = compile_for(&profile, Native::X86_64).unwrap().program;
    assert!(program.len() > 1000);
    for (at, name) in names.into_iter().cycle().take(180).enumerate() {
        for (abi, arch) in [(Abi::X86_64, X86_64), (Abi::X86, X86)] {
            let number = names::find(name).unwrap().on(abi).unwrap();
            let call = Call { arch, number, args: [at as u64, 0, 0, 0, 0, 0] };
            assert_eq!(run(&program, &call).0, SECCOMP_RET_ERRNO | (at as u32 + 1));
        }
    }
    profile.syscalls = profile.syscalls.iter().cycle().take(1000).cloned().collect();
    let error = compile_for(&profile, Native::X86_64).err().unwrap();
    assert!(error.contains("instructions"), "{error}");
}

/// Numerical Recipes' linear congruential generator: the same numbers on every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

#[test]
fn everything_wrong_is_reported_with_its_place() {
    let found = problems(
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 1,
            "architectures": ["SCMP_ARCH_X86", "x86"], "flags": ["SECCOMP_FILTER_FLAG_NEW"],
            "listenerMetadata": "x", "syscalls": [
            {"names": ["read", ""], "action": "SCMP_ACT_ERRNO", "errnoRet": 4096,
             "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"},
                      {"index": 5, "value": 0, "op": "=="}]},
            {"names": [], "action": "deny", "errnoRet": 70000},
            {"names": ["x"], "action": "SCMP_ACT_TRACE", "errnoRet": 65536},
            {"names": ["x"], "action": "SCMP_ACT_TRAP", "errnoRet": 1}]}"#,
    );
    let places: Vec<&str> = found.iter().map(|line| line.split(": ").next().unwrap()).collect();
    let expected = [
        "/s/defaultErrnoRet",
        "/s/architectures/1",
        "/s/flags/0",
        "/s/listenerMetadata",
        "/s/syscalls/0/errnoRet",
        "/s/syscalls/0/names/1",
        "/s/syscalls/0/args/0/index",
        "/s/syscalls/0/args/1/op",
        "/s/syscalls/1/action",
        "/s/syscalls/1/names",
        "/s/syscalls/2/errnoRet",
        "/s/syscalls/3/errnoRet",
    ];
    assert_eq!(places, expected, "{found:#?}");
}

#[test]
fn notification_takes_a_listener() {
    let profile = |rest: &str| {
        format!(
            r#"{{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{{"names": ["mount"], "action": "SCMP_ACT_NOTIFY"}}]{rest}}}"#
        )
    };
    assert_eq!(problems(&profile(r#", "listenerPath": "/run/x.sock", "listenerMetadata": "m""#)), [] as [&str; 0]);
    for (rest, words) in
        [("", "is required"), (r#", "listenerPath": """#, "is required"), (r#", "listenerPath": "x""#, "absolute")]
    {
        let found = problems(&profile(rest));
        assert!(found.len() == 1 && found[0].starts_with("/s/listenerPath: ") && found[0].contains(words), "{found:?}");
    }
    // Where nothing notifies, the path is nobody's business.
    assert_eq!(problems(r#"{"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "x"}"#), [] as [&str; 0]);
    let text = profile("");
    let filter = compile_for(&parse(&text), Native::X86_64).unwrap();
    assert!(filter.notifies());
    assert_eq!(answer(&parse(&text), Native::X86_64, X86_64, 165, [0; 6]), libc::SECCOMP_RET_USER_NOTIF);
    assert_eq!(answer(&parse(&text), Native::X86_64, X86_64, 164, [0; 6]), SECCOMP_RET_ALLOW);
}

#[test]
fn flags_become_bits() {
    let words = |names: &[&'static str]| names.iter().map(|name| Str::from(*name)).collect::<Vec<_>>();
    let bits = |names: &[&'static str]| flags(Some(&words(names)), false);
    let with_listener = |names: &[&'static str]| flags(Some(&words(names)), true);
    assert_eq!(bits(&[]), Ok(0), "an empty list asks for none");
    assert_eq!(flags(None, false), Ok(4));
    assert_eq!(with_listener(&["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]), Ok(8 | 32));
    assert_eq!(with_listener(&["SECCOMP_FILTER_FLAG_TSYNC"]), Ok(8));
    assert_eq!(bits(&["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_TSYNC"]), Ok(3));
    assert_eq!(bits(&["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]), Ok(0));
    assert!(bits(&["x"]).is_err());
}

/// A filter that is kept for profiles must not be taken for another one's.
#[test]
fn every_field_of_a_profile_is_in_its_filter() {
    let filter = |patch: Value| {
        let mut profile = json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": [
            {"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1,
             "args": [{"index": 0, "value": 1, "valueTwo": 1, "op": "SCMP_CMP_MASKED_EQ"}]}]});
        for (pointer, value) in patch.as_object().unwrap() {
            let (object, field) = pointer.rsplit_once('/').unwrap();
            profile.pointer_mut(object).unwrap()[field] = value.clone();
        }
        let text = profile.to_string();
        assert_eq!(problems(&text), Vec::<String>::new(), "{patch}");
        compile_for(&parse(&text), Native::X86_64).unwrap().to_bytes()
    };
    let rule = |field: &str, value: Value| json!({format!("/syscalls/0/{field}"): value});
    let different = [
        json!({}),
        json!({"/defaultAction": "SCMP_ACT_ERRNO"}),
        json!({"/defaultAction": "SCMP_ACT_ERRNO", "/defaultErrnoRet": 0}),
        json!({"/defaultAction": "SCMP_ACT_ERRNO", "/defaultErrnoRet": 2}),
        json!({"/architectures": ["SCMP_ARCH_X86"]}),
        json!({"/flags": ["SECCOMP_FILTER_FLAG_LOG"]}),
        rule("errnoRet", json!(0)),
        rule("errnoRet", json!(2)),
        rule("names", json!(["rmdir"])),
        rule("action", json!("SCMP_ACT_TRACE")),
        rule("args", json!([])),
        rule("args/0/index", json!(1)),
        rule("args/0/value", json!(3)),
        rule("args/0/valueTwo", json!(0)),
        rule("args/0/op", json!("SCMP_CMP_EQ")),
    ];
    let filters: Vec<Vec<u8>> = different.iter().cloned().map(filter).collect();
    for (at, one) in filters.iter().enumerate() {
        assert!(!filters[..at].contains(one), "{} makes no difference", different[at]);
    }
}

#[test]
fn time_grows_with_the_profile_and_no_faster() {
    let profile = |rules: usize| {
        let rules = (0..rules).map(|at| {
            json!({"names": [names::TABLE[at % names::TABLE.len()].0], "action": "SCMP_ACT_ERRNO",
            "errnoRet": at % 4000})
        });
        json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
            "syscalls": rules.collect::<Vec<_>>()})
        .to_string()
    };
    let mut sizes = Vec::new();
    for rules in [500, 5_000, 50_000] {
        let text = profile(rules);
        let parsed = parse(&text);
        let start = Instant::now();
        sizes.push(compile_for(&parsed, Native::X86_64).unwrap().program.len());
        println!("{rules} rules: {:?}", start.elapsed());
        assert!(start.elapsed() < Duration::from_secs(10), "{rules} rules hang");
    }
    assert_eq!(sizes[1], sizes[2], "the first rule for a call is the one that counts");
}
