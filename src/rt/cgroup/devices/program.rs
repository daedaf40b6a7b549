//! Device rules as the eBPF program that cgroup v2 asks (bpf(2), `BPF_PROG_TYPE_CGROUP_DEVICE`,
//! Linux 4.15). Pure: rules in, instructions out.
//!
//! The kernel calls it with the kind of the node, the access that is wanted, major and minor. Each
//! wanted bit of the access is decided by the last rule that matches the device and names the bit,
//! so the rules are gone through from the last one on, and bits that are allowed leave the set of
//! those still wanted. The device may be used when none is left.

use super::{ALL, Kind, Rule};

/// One instruction, as the kernel's `struct bpf_insn` has it (little-endian registers byte).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    /// Operation.
    pub code: u8,
    /// Destination in the low four bits, source in the high ones.
    pub registers: u8,
    /// For jumps and loads.
    pub offset: i16,
    /// Constant.
    pub immediate: i32,
}

// linux/bpf_common.h and linux/bpf.h.
const LOAD_WORD: u8 = 0x61; // BPF_LDX | BPF_MEM | BPF_W
const MOVE: u8 = 0xb7; // BPF_ALU64 | BPF_MOV | BPF_K
const MOVE_REGISTER: u8 = 0xbf; // BPF_ALU64 | BPF_MOV | BPF_X
const AND: u8 = 0x54; // BPF_ALU | BPF_AND | BPF_K
const SHIFT_RIGHT: u8 = 0x74; // BPF_ALU | BPF_RSH | BPF_K
const IF_EQUAL: u8 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const IF_NOT_EQUAL: u8 = 0x55; // BPF_JMP | BPF_JNE | BPF_K
const IF_NOT_EQUAL_32: u8 = 0x56; // BPF_JMP32 | BPF_JNE | BPF_K (Linux 5.1)
const EXIT: u8 = 0x95; // BPF_JMP | BPF_EXIT

/// The answer, and scratch.
const R0: u8 = 0;
/// The context when the program starts.
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
/// The bits of the access that no rule has decided yet.
const WANTED: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

fn instruction(code: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction { code, registers: destination | source << 4, offset, immediate }
}

/// The program for these rules.
pub fn compile(rules: &[Rule]) -> Vec<Instruction> {
    let mut program = vec![
        // struct bpf_cgroup_dev_ctx: access << 16 | kind, major, minor.
        instruction(LOAD_WORD, KIND, CONTEXT, 0, 0),
        instruction(MOVE_REGISTER, WANTED, KIND, 0, 0),
        instruction(AND, KIND, 0, 0, 0xffff),
        instruction(SHIFT_RIGHT, WANTED, 0, 0, 16),
        instruction(LOAD_WORD, MAJOR, CONTEXT, 4, 0),
        instruction(LOAD_WORD, MINOR, CONTEXT, 8, 0),
    ];
    for rule in rules.iter().rev() {
        let decision = decide(rule);
        // Each comparison that fails jumps behind the decision.
        let mut tests = Vec::with_capacity(3);
        match rule.kind {
            Kind::All => {}
            Kind::Block => tests.push((KIND, 1)),
            Kind::Character => tests.push((KIND, 2)),
        }
        tests.extend(rule.major.map(|major| (MAJOR, major as i32)));
        tests.extend(rule.minor.map(|minor| (MINOR, minor as i32)));
        let count = tests.len();
        for (index, (register, value)) in tests.into_iter().enumerate() {
            let over = (count - index - 1 + decision.len()) as i16;
            program.push(instruction(IF_NOT_EQUAL_32, register, 0, over, value));
        }
        program.extend(decision);
        if rule.is_everything() {
            // Nothing behind it can be reached, which the kernel would refuse.
            return program;
        }
    }
    program.extend(answer(0));
    program
}

fn answer(value: i32) -> [Instruction; 2] {
    [instruction(MOVE, R0, 0, 0, value), instruction(EXIT, 0, 0, 0, 0)]
}

/// What a rule does once it matches.
fn decide(rule: &Rule) -> Vec<Instruction> {
    let access = i32::from(rule.access);
    if rule.access == ALL {
        return answer(i32::from(rule.allow)).to_vec();
    }
    let mut code = Vec::with_capacity(5);
    if rule.allow {
        code.push(instruction(AND, WANTED, 0, 0, i32::from(ALL) & !access));
        code.push(instruction(IF_NOT_EQUAL, WANTED, 0, 2, 0));
        code.extend(answer(1));
    } else {
        code.push(instruction(MOVE_REGISTER, R0, WANTED, 0, 0));
        code.push(instruction(AND, R0, 0, 0, access));
        code.push(instruction(IF_EQUAL, R0, 0, 2, 0));
        code.extend(answer(0));
    }
    code
}

#[cfg(test)]
mod tests {
    use super::super::{MKNOD, READ, WRITE, rules};
    use super::*;
    use crate::config::types::Resources;

    /// Runs a program as the kernel would.
    fn run(program: &[Instruction], kind: u32, access: u8, major: u32, minor: u32) -> bool {
        let context = [u32::from(access) << 16 | kind, major, minor];
        let mut registers = [0u64; 11];
        let mut at = 0;
        loop {
            let it = program[at];
            let (to, from) = (usize::from(it.registers & 15), usize::from(it.registers >> 4));
            at += 1;
            let mut jump = |condition: bool| {
                if condition {
                    at = (at as i64 + i64::from(it.offset)) as usize;
                }
            };
            match it.code {
                LOAD_WORD => registers[to] = u64::from(context[it.offset as usize / 4]),
                MOVE => registers[to] = it.immediate as u64,
                MOVE_REGISTER => registers[to] = registers[from],
                AND => registers[to] = u64::from(registers[to] as u32 & it.immediate as u32),
                SHIFT_RIGHT => registers[to] = u64::from(registers[to] as u32 >> it.immediate),
                IF_EQUAL => jump(registers[to] == it.immediate as u64),
                IF_NOT_EQUAL => jump(registers[to] != it.immediate as u64),
                IF_NOT_EQUAL_32 => jump(registers[to] as u32 != it.immediate as u32),
                EXIT => return registers[0] == 1,
                other => panic!("operation {other:#x}"),
            }
        }
    }

    /// What the rules say, in plain words.
    fn expected(rules: &[Rule], kind: u32, access: u8, major: u32, minor: u32) -> bool {
        [MKNOD, READ, WRITE].iter().filter(|bit| access & **bit != 0).all(|bit| {
            let last = rules.iter().rev().find(|rule| {
                let kinds = match rule.kind {
                    Kind::All => true,
                    Kind::Block => kind == 1,
                    Kind::Character => kind == 2,
                };
                kinds
                    && rule.major.is_none_or(|it| it == major)
                    && rule.minor.is_none_or(|it| it == minor)
                    && rule.access & bit != 0
            });
            last.is_some_and(|rule| rule.allow)
        })
    }

    #[test]
    fn the_default_devices_and_a_hole() {
        let json = r#"{"devices":[{"allow":false,"access":"rwm"},{"allow":true,"type":"c","major":10},
            {"allow":false,"type":"c","major":10,"minor":229,"access":"w"},{"allow":true,"type":"b","major":4294967295,"access":"r"}]}"#;
        let program = compile(&rules(&serde_json::from_str::<Resources<'_>>(json).unwrap()));
        assert!(run(&program, 2, READ | WRITE, 1, 3));
        assert!(run(&program, 1, MKNOD, 8, 0) && !run(&program, 1, READ, 8, 0));
        assert!(run(&program, 2, READ | WRITE, 10, 1));
        assert!(run(&program, 2, READ, 10, 229) && !run(&program, 2, READ | WRITE, 10, 229));
        assert!(run(&program, 1, READ, u32::MAX, 7) && !run(&program, 1, WRITE, u32::MAX, 7));
    }

    #[test]
    fn programs_say_what_the_rules_say() {
        let mut seed = 88_172_645_463_325_252u64;
        let mut random = |below: u64| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed % below
        };
        for _ in 0..2000 {
            let rules: Vec<Rule> = (0..random(8))
                .map(|_| Rule {
                    allow: random(2) == 0,
                    kind: [Kind::All, Kind::Block, Kind::Character][random(3) as usize],
                    major: (random(3) > 0).then(|| random(3) as u32),
                    minor: (random(3) > 0).then(|| random(3) as u32),
                    access: random(7) as u8 + 1,
                    index: None,
                })
                .collect();
            let program = compile(&rules);
            for _ in 0..40 {
                let (kind, access) = (random(2) as u32 + 1, random(7) as u8 + 1);
                let (major, minor) = (random(3) as u32, random(3) as u32);
                assert_eq!(
                    run(&program, kind, access, major, minor),
                    expected(&rules, kind, access, major, minor),
                    "{rules:?} {kind} {access} {major}:{minor}"
                );
            }
        }
    }
}
