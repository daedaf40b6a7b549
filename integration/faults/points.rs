//! A fault at each system call of a command, and what has to hold after each.

use nix::errno::Errno;

use crate::bed::{Bed, runtime};
use crate::cases::Case;
use crate::harness::Place;
use crate::trace::{self, Fault, Point, Traced};

/// How many points of each row are tried; `0` is all of them.
const COUNT: &str = "RT_FAULTS_POINTS";

/// How many without being told.
const SHORT: usize = 30;

/// Which of them.
const SEED: &str = "RT_FAULTS_SEED";

/// The mildest thing that can be wrong.
const NOT_ONE_LINE: &str = "and not one line";

/// What is done at the points of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The process is killed: at the entry of each call, and at the exit of every fifth, which is hardly
    /// another moment than the entry of the next.
    Killed,
    /// The call fails.
    Failing,
}

const ERRORS: [Errno; 6] = [Errno::EIO, Errno::ENOSPC, Errno::EMFILE, Errno::ENOMEM, Errno::EINTR, Errno::EPERM];

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// Tries a row of the table, and prints it. For our runtime each point has to hold; another's are counted.
pub fn row(case: &Case, kind: Kind) {
    let place = Place::new();
    let mut bed = Bed::new(&place);
    (case.make)(&mut bed);
    let ours = !runtime().1;
    let (baseline, expected) = match undisturbed(&bed, case) {
        Ok(found) => found,
        Err(why) if ours => panic!("{}, undisturbed: {why}", case.name),
        Err(why) => {
            println!("FAULTS | {} | {kind:?} | – | – | – | – | without any fault: {why}", case.name);
            bed.sweep();
            return;
        }
    };
    let all = points(&baseline, case, kind);
    let seed = number(SEED).unwrap_or(9);
    let count = number(COUNT).map_or(SHORT, |count| count as usize);
    let chosen = if count == 0 { all } else { choose(all, count, seed) };
    let (mut tried, mut missed, mut words, mut failed) = (0, 0, 0, Vec::new());
    for point in chosen {
        let (traced, problems) = try_point(&bed, case, point, expected.as_deref());
        tried += 1;
        missed += u32::from(traced.hit.is_none());
        words += u32::from(!problems.is_empty() && problems.iter().all(|problem| problem.contains(NOT_ONE_LINE)));
        if !problems.is_empty() {
            let call = traced.hit.map_or_else(|| "not reached".to_owned(), trace::name);
            failed.push(format!(
                "{}: process {}, call {} ({call}), {:?}: {}",
                case.name,
                point.process,
                point.call,
                point.fault,
                problems.join("; ")
            ));
            bed.sweep();
        }
    }
    let held = tried - failed.len();
    println!("FAULTS | {} | {kind:?} | {tried} | {held} | {words} | {missed} | seed {seed}", case.name);
    for line in &failed {
        println!("FAULT {line}");
    }
    assert!(failed.is_empty() || !ours, "{} of {tried} did not hold", failed.len());
}

/// The command without a fault: how many calls each process makes, and what the program finds.
fn undisturbed(bed: &Bed<'_>, case: &Case) -> Result<(Traced, Option<String>), String> {
    (case.before)(bed)?;
    let traced = trace::run(&(case.script)(bed), None, &bed.out);
    if traced.code != Some(0) {
        return Err(format!("{:?}: {}", traced.code, traced.stderr.trim()));
    }
    let expected = (case.after)(bed)?;
    bed.works("delete", "--force")?;
    bed.leftovers()?;
    Ok((traced, expected))
}

fn points(baseline: &Traced, case: &Case, kind: Kind) -> Vec<Point> {
    let mut points = Vec::new();
    for (process, calls) in baseline.calls.iter().enumerate().filter(|(index, _)| case.processes.contains(index)) {
        for (call, number) in calls.iter().enumerate() {
            let mut add = |fault| points.push(Point { process, call, fault });
            match kind {
                Kind::Killed => {
                    add(Fault::KillAtEntry);
                    if call % 5 == 0 {
                        add(Fault::KillAtExit);
                    }
                }
                Kind::Failing => ERRORS
                    .iter()
                    .filter(|errno| trace::can_fail(*number, **errno))
                    .for_each(|errno| add(Fault::Fail(*errno))),
            }
        }
    }
    points
}

/// So many of them, the same ones for the same seed (xorshift, Marsaglia 2003).
fn choose(mut points: Vec<Point>, count: usize, seed: u64) -> Vec<Point> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut chosen = Vec::new();
    while chosen.len() < count && !points.is_empty() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        chosen.push(points.swap_remove(state as usize % points.len()));
    }
    chosen
}

/// One fault, and all that has to hold after it.
fn try_point(bed: &Bed<'_>, case: &Case, point: Point, expected: Option<&str>) -> (Traced, Vec<String>) {
    let mut problems = Vec::new();
    if let Err(why) = (case.before)(bed) {
        return (Traced::default(), vec![format!("before it: {why}")]);
    }
    let traced = trace::run(&(case.script)(bed), Some(point), &bed.out);
    let mut note = |what: &str, result: Result<(), String>| {
        if let Err(why) = result {
            problems.push(format!("{what}: {why}"));
        }
    };
    note("its answer", answered(bed, case, point, &traced, expected));
    note("afterwards", bed.works("delete", "--force"));
    note("afterwards", bed.leftovers());
    note("again", again(bed));
    (traced, problems)
}

/// Success, and then it is the whole container; or one line that says what failed; or nothing, from a
/// command that was killed itself.
fn answered(bed: &Bed<'_>, case: &Case, point: Point, traced: &Traced, expected: Option<&str>) -> Result<(), String> {
    let killed = matches!(point.fault, Fault::KillAtEntry | Fault::KillAtExit) && traced.hit.is_some();
    // Who was killed is as dead as if it had been a moment later.
    let may_be_stopped = traced.hit.is_some() && point.process > 0 && (killed || case.outlived);
    match traced.code {
        None => Err(format!("none within {} s", trace::LIMIT.as_secs())),
        Some(0) if may_be_stopped && bed.status() == "stopped" => Ok(()),
        Some(0) => match ((case.after)(bed), expected) {
            (Err(_), _) if may_be_stopped && bed.status() == "stopped" => Ok(()),
            (Err(why), _) => Err(why),
            (Ok(Some(found)), Some(expected)) if found != expected => Err(difference(&found, expected)),
            _ => Ok(()),
        },
        Some(137) if killed => Ok(()),
        Some(code) => match traced.stderr.trim_end().lines().count() {
            1 => Ok(()),
            _ => Err(format!("exit status {code}, {NOT_ONE_LINE}: {:?}", traced.stderr)),
        },
    }
}

/// Another container of that name has a whole life.
fn again(bed: &Bed<'_>) -> Result<(), String> {
    bed.works("create", "")?;
    bed.works("start", "")?;
    bed.works("delete", "--force")?;
    bed.leftovers()
}

/// The lines that only one of the two has.
fn difference(found: &str, expected: &str) -> String {
    let only = |one: &str, other: &str| -> Vec<String> {
        one.lines().filter(|line| !other.lines().any(|known| known == *line)).map(str::to_owned).collect()
    };
    format!("the container is another: has {:?}, has not {:?}", only(found, expected), only(expected, found))
}
