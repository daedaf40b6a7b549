//! Writes classic BPF programs for seccomp(2): comparisons, searches, and the jumps between them.
//!
//! A classic BPF program can only jump forwards (`Documentation/networking/filter.rst`), and a
//! conditional jump reaches at most 255 instructions far. So the program is written from its end
//! to its start: whatever is jumped to already has its place, and a target that is too far away
//! is known to be so at the moment the jump is written.

use libc::{
    BPF_ABS, BPF_ALU, BPF_AND, BPF_JA, BPF_JEQ, BPF_JGE, BPF_JGT, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W,
    SECCOMP_RET_ALLOW, sock_filter,
};

use super::names::X32_BIT;

/// The most a program may hold (`BPF_MAXINSNS`, `linux/bpf_common.h`).
const MAX_INSTRUCTIONS: usize = 4096;

/// How far a conditional jump is let go. Two short of what the format allows: either branch may
/// get an instruction of its own between the jump and the other's target.
const NEAR: usize = 255 - 2;

/// Offsets into `struct seccomp_data` (`linux/seccomp.h`).
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const ARGS: u32 = 16;

/// A comparison with an argument of the system call, all of it unsigned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compare {
    /// `argument == value`.
    Eq(u64),
    /// `argument != value`.
    Ne(u64),
    /// `argument < value`.
    Lt(u64),
    /// `argument <= value`.
    Le(u64),
    /// `argument > value`.
    Gt(u64),
    /// `argument >= value`.
    Ge(u64),
    /// `argument & mask == value`.
    Masked {
        /// The bits that count.
        mask: u64,
        /// What they must be.
        value: u64,
    },
}

/// One condition of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Condition {
    /// Which argument, from 0 to 5.
    pub(super) index: u32,
    /// What it is compared with.
    pub(super) compare: Compare,
    /// Whether all 64 bits count. Where registers have 32 bits, only the lower half of argument
    /// and value is compared, so that -1 written as a 64-bit number still is -1.
    pub(super) wide: bool,
}

/// What happens to one system call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    /// Conditions that must all hold, and the return value if they do. The first that holds wins.
    pub(super) cases: Vec<(Vec<Condition>, u32)>,
    /// The return value when none holds.
    pub(super) otherwise: u32,
}

/// Neighbouring system calls with the same verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Range {
    /// The lowest number; the range ends where the next one starts.
    pub(super) first: u32,
    /// What happens to all of them.
    pub(super) verdict: Verdict,
}

/// The part of a program for one `AUDIT_ARCH_…` (`linux/audit.h`).
pub(super) struct Section {
    /// The value of `seccomp_data.arch`.
    pub(super) arch: u32,
    /// Covers all numbers: sorted, not empty, the first range starts at 0.
    pub(super) ranges: Vec<Range>,
}

/// Writes the program for `sections`, which are told apart in the order given. A call from any
/// other architecture returns `foreign`.
pub(super) fn program(sections: &[Section], foreign: u32) -> Result<Vec<sock_filter>, String> {
    let mut writer = Writer::default();
    // The section tested first is written last, which leaves it nearest to the test.
    let starts: Vec<Label> = sections.iter().rev().map(|section| writer.section(&section.ranges)).collect();
    let mut next = writer.returns(foreign);
    for (section, start) in sections.iter().rev().zip(starts) {
        next = writer.branch(BPF_JEQ, section.arch, start, next);
    }
    writer.load(ARCH);

    let count = writer.reversed.len();
    if count > MAX_INSTRUCTIONS {
        return Err(format!("the filter has {count} instructions, the kernel takes {MAX_INSTRUCTIONS} at most"));
    }
    writer.reversed.reverse();
    Ok(writer.reversed)
}

/// An instruction's place, counted from the end of the program.
type Label = usize;

#[derive(Default)]
struct Writer {
    reversed: Vec<sock_filter>,
    /// The latest return instruction for each value.
    returned: Vec<(u32, Label)>,
}

impl Writer {
    /// Puts an instruction before all that were written so far.
    fn push(&mut self, code: u32, k: u32, jt: usize, jf: usize) -> Label {
        self.reversed.push(sock_filter { code: code as u16, jt: jt as u8, jf: jf as u8, k });
        self.reversed.len() - 1
    }

    /// What the next instruction must skip to reach `label`.
    fn distance(&self, label: Label) -> usize {
        self.reversed.len() - label - 1
    }

    /// A stand-in for `label` that a conditional jump can reach.
    fn near(&mut self, label: Label) -> Label {
        match self.distance(label) {
            far if far > NEAR => self.push(BPF_JMP | BPF_JA, far as u32, 0, 0),
            _ => label,
        }
    }

    /// Somewhere near that returns `value`.
    fn returns(&mut self, value: u32) -> Label {
        let known = self.returned.iter().position(|(other, _)| *other == value);
        if let Some(at) = known
            && self.distance(self.returned[at].1) <= NEAR
        {
            return self.returned[at].1;
        }
        let label = self.push(BPF_RET | BPF_K, value, 0, 0);
        match known {
            Some(at) => self.returned[at].1 = label,
            None => self.returned.push((value, label)),
        }
        label
    }

    /// Compares the accumulator with `k`.
    fn branch(&mut self, test: u32, k: u32, yes: Label, no: Label) -> Label {
        let yes = self.near(yes);
        let no = self.near(no);
        let (jt, jf) = (self.distance(yes), self.distance(no));
        self.push(BPF_JMP | test | BPF_K, k, jt, jf)
    }

    /// Loads a word of `struct seccomp_data`, then runs what was written before this.
    fn load(&mut self, offset: u32) -> Label {
        self.push(BPF_LD | BPF_W | BPF_ABS, offset, 0, 0)
    }

    /// Loads the number and looks it up.
    fn section(&mut self, ranges: &[Range]) -> Label {
        // The few verdicts with conditions are written once each, however many ranges share them.
        let mut conditional: Vec<(&Verdict, Label)> = Vec::new();
        for Range { verdict, .. } in ranges {
            if !verdict.cases.is_empty() && conditional.iter().all(|(known, _)| *known != verdict) {
                let label = self.verdict(verdict);
                conditional.push((verdict, label));
            }
        }
        let start = self.search(ranges, &weights(ranges), &conditional);
        // A search through a single range is no instruction at all, but somewhere to go.
        if self.distance(start) > 0 {
            self.push(BPF_JMP | BPF_JA, self.distance(start) as u32, 0, 0);
        }
        self.load(NUMBER)
    }

    /// Finds the range that the number in the accumulator is in, by halves of equal weight.
    fn search(&mut self, ranges: &[Range], weights: &[u32], conditional: &[(&Verdict, Label)]) -> Label {
        if let [Range { verdict, .. }] = ranges {
            let known = conditional.iter().find(|(other, _)| *other == verdict);
            return known.map_or_else(|| self.returns(verdict.otherwise), |(_, label)| *label);
        }
        let half = half(weights);
        let yes = self.search(&ranges[half..], &weights[half..], conditional);
        let no = self.search(&ranges[..half], &weights[..half], conditional);
        self.branch(BPF_JGE, ranges[half].first, yes, no)
    }

    fn verdict(&mut self, verdict: &Verdict) -> Label {
        let mut next = self.returns(verdict.otherwise);
        for (conditions, value) in verdict.cases.iter().rev() {
            let mut yes = self.returns(*value);
            for condition in conditions.iter().rev() {
                yes = self.condition(*condition, yes, next);
            }
            next = yes;
        }
        next
    }

    fn condition(&mut self, condition: Condition, yes: Label, no: Label) -> Label {
        let Condition { index, compare, wide } = condition;
        match compare {
            Compare::Eq(value) => self.equals(index, None, value, wide, yes, no),
            Compare::Ne(value) => self.equals(index, None, value, wide, no, yes),
            Compare::Masked { mask, value } => self.equals(index, Some(mask), value, wide, yes, no),
            Compare::Gt(value) => self.exceeds(BPF_JGT, index, value, wide, yes, no),
            Compare::Le(value) => self.exceeds(BPF_JGT, index, value, wide, no, yes),
            Compare::Ge(value) => self.exceeds(BPF_JGE, index, value, wide, yes, no),
            Compare::Lt(value) => self.exceeds(BPF_JGE, index, value, wide, no, yes),
        }
    }

    /// `argument == value`, where a mask is applied to the argument first.
    fn equals(&mut self, index: u32, mask: Option<u64>, value: u64, wide: bool, yes: Label, no: Label) -> Label {
        let mut next = self.half_equals(offsets(index).0, mask.map(low), low(value), yes, no);
        if wide {
            next = self.half_equals(offsets(index).1, mask.map(high), high(value), next, no);
        }
        next
    }

    fn half_equals(&mut self, offset: u32, mask: Option<u32>, value: u32, yes: Label, no: Label) -> Label {
        self.branch(BPF_JEQ, value, yes, no);
        if let Some(mask) = mask {
            self.push(BPF_ALU | BPF_AND | BPF_K, mask, 0, 0);
        }
        self.load(offset)
    }

    /// `argument > value` with `BPF_JGT`, `argument >= value` with `BPF_JGE`.
    fn exceeds(&mut self, test: u32, index: u32, value: u64, wide: bool, yes: Label, no: Label) -> Label {
        let (lower_half, upper_half) = offsets(index);
        self.branch(test, low(value), yes, no);
        let lower = self.load(lower_half);
        if !wide {
            return lower;
        }
        // The lower halves decide only between arguments whose upper halves are equal.
        let tie = self.branch(BPF_JEQ, high(value), lower, no);
        self.branch(BPF_JGT, high(value), yes, tie);
        self.load(upper_half)
    }
}

/// How much the speed of each range's calls counts: a range of calls that are let through by as many as it has, so that
/// the search reaches wide ones first; any other one, and all of x32, which nobody uses, the least.
fn weights(ranges: &[Range]) -> Vec<u32> {
    let ends = ranges.iter().skip(1).map(|next| next.first).chain([u32::MAX]);
    ranges.iter().zip(ends).map(|(range, end)| weight(range, end)).collect()
}

fn weight(Range { first, verdict }: &Range, end: u32) -> u32 {
    /// Beyond this, wide ranges are reached at the cost of single calls, which then take more than in libseccomp's tree.
    const MOST: u32 = 8;
    let lets_through =
        verdict.otherwise == SECCOMP_RET_ALLOW || verdict.cases.iter().any(|(_, value)| *value == SECCOMP_RET_ALLOW);
    if lets_through && *first < X32_BIT { (end - first).min(MOST) } else { 1 }
}

/// Where a list of two or more weights is best cut in two.
fn half(weights: &[u32]) -> usize {
    let all: u32 = weights.iter().sum();
    let mut before = 0;
    let best = (1..weights.len()).min_by_key(|at| {
        before += weights[at - 1];
        before.abs_diff(all - before)
    });
    best.unwrap_or(1)
}

/// Where the lower and the upper half of an argument lie; both architectures are little endian.
fn offsets(index: u32) -> (u32, u32) {
    let at = ARGS + 8 * index;
    (at, at + 4)
}

fn low(value: u64) -> u32 {
    value as u32
}

fn high(value: u64) -> u32 {
    (value >> 32) as u32
}
