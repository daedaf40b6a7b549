//! Throws damaged input at what reads strangers' bytes: seeds are cut, spliced and altered at random, and whoever reads
//! them must neither panic nor take long.
//!
//! Each target is a test named `fuzz_…` beside its reader. In the test run each has a few seconds; to look for longer:
//!
//!     RT_FUZZ_SECONDS=600 cargo nextest run -p rt --bin rt fuzz
//!
//! A failure names its seed, with which `RT_FUZZ_SEED` finds it again, and prints the input.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant, SystemTime};

use rustix::time::{ClockId, clock_gettime};

/// How long each target is tried where the environment does not say: seconds of a processor, so that a busy machine
/// tries no fewer inputs.
const SECONDS: u64 = 10;

/// No input may take longer, on the slowest of machines.
const SLOW: Duration = Duration::from_secs(5);

/// The longest input.
const MOST: usize = 1 << 16;

/// Bytes that matter to one format or another.
const WORDS: [&[u8]; 38] = [
    b"",
    b"\0",
    b"\n",
    b" ",
    b"\t",
    b"/",
    b"..",
    b":",
    b"=",
    b",",
    b"-",
    b"-1",
    b"0",
    b"4294967295",
    b"4294967296",
    b"18446744073709551616",
    b"9223372036854775807",
    b"1e999",
    b"null",
    b"true",
    b"{}",
    b"[]",
    b"{",
    b"[",
    b"\"",
    b"\\u0000",
    b"\\",
    b"\\040",
    b"\xff\xfe",
    b"\xe2\x82",
    b"max",
    b"\x7fELF",
    b"#!",
    b"\xff\xff\xff\xff",
    b"\x00\x00\x00\x80",
    b"\xff\xff\xff\x7f",
    b"~1",
    b"@@@",
];

/// The state of SplitMix64 (Steele, Lea, Flood 2014).
pub struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 to `bound` - 1.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}

/// Tries `target` on damaged `seeds` for as long as the environment allows.
pub fn fuzz(seeds: &[&[u8]], target: impl Fn(&[u8])) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let time = Duration::from_secs(number("RT_FUZZ_SECONDS").unwrap_or(SECONDS));
    let now = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
    let seed = number("RT_FUZZ_SEED").unwrap_or_else(now);
    let (end, mut random, mut tries) = (used() + time, Random(seed), 0_u64);
    // Inputs that came of others are damaged further.
    let mut corpus: Vec<Vec<u8>> = seeds.iter().map(|seed| seed.to_vec()).collect();
    for seed in seeds {
        attempt(&target, seed, 0);
    }
    while tries == 0 || used() < end {
        let mut input = corpus[random.below(corpus.len())].clone();
        for _ in 0..=random.below(6) {
            damage(&mut input, &corpus, &mut random);
        }
        input.truncate(MOST);
        attempt(&target, &input, seed);
        tries += 1;
        if corpus.len() < 4 * seeds.len() + 64 {
            corpus.push(input);
        } else if random.below(50) == 0 {
            let place = seeds.len() + random.below(corpus.len() - seeds.len());
            corpus[place] = input;
        }
    }
    println!("{tries} inputs, seed {seed}");
}

/// What this thread has had of a processor.
fn used() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn attempt(target: &impl Fn(&[u8]), input: &[u8], seed: u64) {
    let start = Instant::now();
    let done = catch_unwind(AssertUnwindSafe(|| target(input)));
    let shown = || input.escape_ascii().to_string();
    assert!(done.is_ok(), "RT_FUZZ_SEED={seed}: panicked on b\"{}\"", shown());
    assert!(start.elapsed() < SLOW, "RT_FUZZ_SEED={seed}: took {:?} on b\"{}\"", start.elapsed(), shown());
}

/// One random change.
fn damage(input: &mut Vec<u8>, corpus: &[Vec<u8>], random: &mut Random) {
    let at = random.below(input.len() + 1);
    let end = (at + random.below(16)).min(input.len());
    match random.below(9) {
        0 if !input.is_empty() => {
            let at = random.below(input.len());
            input[at] ^= 1 << random.below(8);
        }
        1 if !input.is_empty() => {
            let at = random.below(input.len());
            input[at] = random.next() as u8;
        }
        2 => drop(input.drain(at..end)),
        3 => input.truncate(at),
        4 => drop(input.splice(at..end, WORDS[random.below(WORDS.len())].iter().copied())),
        5 => drop(input.splice(at..at, WORDS[random.below(WORDS.len())].iter().copied())),
        6 => {
            let part: Vec<u8> = input[at..end].to_vec();
            let times = random.below(64);
            drop(input.splice(at..at, part.repeat(times)));
        }
        7 => {
            // A number for a number: what JSON and tables are full of.
            let digits = input[at..].iter().position(u8::is_ascii_digit).map(|first| at + first);
            if let Some(first) = digits {
                let last =
                    input[first..].iter().position(|byte| !byte.is_ascii_digit()).map_or(input.len(), |n| first + n);
                let number = (random.next() >> random.below(64)).to_string();
                drop(input.splice(first..last, number.into_bytes()));
            }
        }
        _ => {
            let other = &corpus[random.below(corpus.len())];
            let from = random.below(other.len() + 1);
            let until = (from + random.below(200)).min(other.len());
            drop(input.splice(at..end, other[from..until].iter().copied()));
        }
    }
}
