//! The filters of this crate beside libseccomp's: the same verdicts, in no more instructions.
//!
//! Both programs run in the same interpreter, over every system call number and random arguments. Where the two
//! may differ, [`Tally`] says why, and that ours is then what the profile says.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::reading::{abi_of, calls, engines, multiplexer, random_profile, read};
use super::*;
use crate::seccomp::names::TABLE;

/// The order of libseccomp's answers about numbers, which is that of our table.
const ABIS: [Abi; 5] = [Abi::X86_64, Abi::X86, Abi::X32, Abi::Aarch64, Abi::Arm];

/// libseccomp, behind its Python module.
struct Oracle {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Oracle {
    fn new() -> Oracle {
        let mut command = Command::new("/usr/bin/python3");
        command.args(["-c", include_str!("oracle.py")]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Oracle { child, input, output }
    }

    /// `None` where libseccomp has no answer in time.
    fn ask(&mut self, question: &Value) -> Option<Value> {
        use std::os::unix::process::ExitStatusExt;
        writeln!(self.input, "{question}").unwrap();
        let mut line = String::new();
        if self.output.read_line(&mut line).unwrap() == 0 {
            let status = self.child.wait().unwrap();
            assert_eq!(status.signal(), Some(libc::SIGALRM), "is python3-seccomp installed? {question}");
            *self = Oracle::new();
            return None;
        }
        Some(serde_json::from_str(&line).unwrap())
    }

    /// The program for a profile, on the architectures that a machine's filter has. `None` where libseccomp refuses a
    /// rule, with which no container of runc's would start, or has no answer.
    fn compile(&mut self, native: Native, profile: &Value) -> Option<Vec<sock_filter>> {
        let (own, others) = match native {
            Native::X86_64 => ("X86_64", &["X86", "X32"][..]),
            Native::Aarch64 => ("AARCH64", &["ARM"][..]),
        };
        let listed = profile["architectures"].as_array().map_or(&[][..], Vec::as_slice);
        let mut arches = vec![own];
        arches.extend(others.iter().filter(|arch| listed.contains(&json!(format!("SCMP_ARCH_{arch}")))));
        let answer = self.ask(&json!({"arches": arches, "profile": profile}))?;
        if answer["refused"].as_array().is_some_and(|refused| !refused.is_empty()) {
            return None;
        }
        let digits = answer["program"].as_str().unwrap().as_bytes().as_chunks::<2>().0;
        let byte = |two: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap();
        let mut bytes = vec![0; 8]; // no flags
        bytes.extend(digits.iter().map(byte));
        Some(Filter::from_bytes(&bytes).unwrap().program)
    }

    /// Numbers that our table has and libseccomp does not know yet.
    fn newer(&mut self) -> Vec<(Abi, u32)> {
        let names: Vec<&str> = TABLE.iter().map(|(name, _)| *name).collect();
        let answer = self.ask(&json!({"names": names})).unwrap();
        let mut newer = Vec::new();
        for (name, theirs) in names.iter().zip(answer.as_array().unwrap()) {
            for (at, abi) in ABIS.into_iter().enumerate() {
                let theirs = theirs[at].as_i64().and_then(|number| u32::try_from(number).ok());
                let Some(ours) = names::find(name).unwrap().on(abi) else { continue };
                // It has numbers of its own for what 32-bit x86 reaches in two ways.
                let two_ways = abi == Abi::X86 && multiplexer(name).is_some();
                if theirs != Some(ours) && !two_ways {
                    newer.push((abi, ours));
                }
            }
        }
        newer
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Calls by what the comparison found.
#[derive(Debug, Default)]
struct Tally {
    /// Profiles that both made a filter of, and those of which libseccomp made none.
    profiles: usize,
    without: usize,
    /// The same verdict.
    equal: usize,
    /// Newer than the profile: ENOSYS, which is the runtime's rule and not libseccomp's.
    beyond: usize,
    /// Of a name that libseccomp does not know yet.
    newer: usize,
    /// Rules that contradict each other hold: the first in the profile wins, in libseccomp the first in its tree.
    contradicting: usize,
    /// Several conditions on one argument, which libseccomp's tree may mix up: `x < 8` or `x >= 2^32` holds there for 11.
    tangled: usize,
}

impl Tally {
    fn compare(&mut self, oracle: &mut Oracle, newer: &[(Abi, u32)], source: &Value, random: &mut Random) {
        let text = source.to_string();
        let profile = parse(&text);
        for native in [Native::X86_64, Native::Aarch64] {
            let Some(theirs) = oracle.compile(native, source) else {
                self.without += 1;
                continue;
            };
            self.profiles += 1;
            let ours = compile_for(&profile, native).unwrap().program;
            for call in calls(&profile, native, random) {
                let (our, their) = (run(&ours, &call).0, run(&theirs, &call).0);
                if our == their {
                    self.equal += 1;
                    continue;
                }
                let reading = read(&profile, native, &call);
                let abi = abi_of(native, &call);
                let reason = if reading.beyond {
                    assert_eq!(our, SECCOMP_RET_ERRNO | libc::ENOSYS as u32);
                    &mut self.beyond
                } else if abi.is_some_and(|abi| newer.contains(&(abi, call.number))) {
                    &mut self.newer
                } else if reading.holding.contains(&their) {
                    &mut self.contradicting
                } else if reading.tangled {
                    &mut self.tangled
                } else {
                    panic!("{call:x?} of {native:?}: {our:x}, libseccomp {their:x}\n{text}")
                };
                *reason += 1;
                assert_eq!(our, reading.verdict, "{call:x?} of {native:?}\n{text}");
            }
        }
    }
}

/// Both name the same numbers, but for the names that libseccomp 2.5 is too old for.
#[test]
fn numbers_of_system_calls_are_libseccomps() {
    for (abi, number) in Oracle::new().newer() {
        let number = number & !X32_BIT;
        let (name, _) = TABLE.iter().find(|(_, numbers)| numbers[abi as usize] == number as i32).unwrap();
        println!("{name}: {number} of {abi:?} is none of libseccomp's");
        // These came after 2.5.4, or with the machines that it does not tell apart.
        let known = ["arm_", "map_shadow", "uretprobe", "uprobe"].iter().any(|start| name.starts_with(start));
        assert!(number >= 449 || known, "{name} is {number} of {abi:?} here and another number there");
    }
}

#[test]
fn verdicts_are_libseccomps() {
    let (mut oracle, mut random, mut tally) = (Oracle::new(), Random(3), Tally::default());
    let newer = oracle.newer();
    for _ in 0..1000 {
        tally.compare(&mut oracle, &newer, &random_profile(&mut random), &mut random);
    }
    println!("{tally:#?}");
    assert!(tally.profiles > 1800 && tally.equal > 3_000_000, "{tally:#?}");
    let odd = tally.contradicting + tally.tangled;
    assert!(odd * 100 < tally.equal, "more than one call in a hundred is read in another way: {tally:#?}");

    let mut tally = Tally::default();
    for (_, profile) in engines() {
        tally.compare(&mut oracle, &newer, &profile, &mut random);
    }
    println!("engines: {tally:#?}");
    assert_eq!((tally.without, tally.contradicting, tally.tangled), (0, 0, 0), "{tally:#?}");
}

/// A call that is allowed takes as many instructions until its verdict as in libseccomp's tree, or fewer.
#[test]
fn no_allowed_call_takes_more_instructions_than_libseccomps() {
    let mut oracle = Oracle::new();
    println!("| profile | instructions | mean of an allowed call | worst | compiled in |\n|---|--:|--:|--:|--:|");
    for (name, source) in engines() {
        let text = source.to_string();
        let profile = parse(&text);
        for native in [Native::X86_64, Native::Aarch64] {
            let start = Instant::now();
            let ours = compile_for(&profile, native).unwrap().program;
            let our_time = start.elapsed();
            let start = Instant::now();
            let theirs = oracle.compile(native, &source).unwrap();
            let their_time = start.elapsed();
            let (mut our_steps, mut their_steps) = (Vec::new(), Vec::new());
            for call in calls(&profile, native, &mut Random(5)) {
                let (our, their) = (run(&ours, &call), run(&theirs, &call));
                if our.0 == SECCOMP_RET_ALLOW && their.0 == SECCOMP_RET_ALLOW {
                    assert!(our.1 <= their.1, "{name}, {call:x?}: {} instructions, libseccomp {}", our.1, their.1);
                    our_steps.push(our.1);
                    their_steps.push(their.1);
                }
            }
            row(&format!("{name}, {native:?}, rt"), ours.len(), &our_steps, our_time);
            row(&format!("{name}, {native:?}, libseccomp"), theirs.len(), &their_steps, their_time);
        }
    }
}

fn row(what: &str, size: usize, steps: &[usize], time: Duration) {
    assert!(steps.len() > 500, "{what} allows only {} calls", steps.len());
    let mean = steps.iter().sum::<usize>() as f64 / steps.len() as f64;
    println!("| {what} | {size} | {mean:.1} | {} | {time:.1?} |", steps.iter().max().unwrap());
}
