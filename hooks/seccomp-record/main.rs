//! An OCI hook that records the system calls of a container and writes them as a seccomp profile.
//!
//! The hook (createRuntime or prestart) finds the container's first process in the state on
//! standard input and starts itself again as the recorder: detached, and the process's tracer before
//! the runtime goes on. The recorder follows every child and thread and ends with the last of them.

#[path = "../../src/rt/seccomp/names.rs"]
#[allow(dead_code)] // the runtime's table, which is asked the other way round here
mod names;
mod profile;
#[path = "../state.rs"]
mod state;
mod sys;

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::Parser;
use serde_json::Value;

use names::Abi;
use profile::Record;
use state::State;
use sys::Stop;

/// The annotation that names the files: `of:/OUTPUT`, or `if:/INPUT;of:/OUTPUT`.
const ANNOTATION: &str = "io.containers.trace-syscall";

/// What the recorder says once it traces.
const READY: &str = "ready";

/// Calls with which a runtime builds what the container sees, and with which it loads a filter, if the
/// recorded container has one already. All runtimes load the filter after the last of the others, so
/// before the program's execve each makes the record begin anew: what a runtime needs to get from the
/// filter to the program is in the profile, and mount(2) is not.
const BUILDING: [&str; 20] = [
    "chroot",
    "fsconfig",
    "fsmount",
    "fsopen",
    "fspick",
    "mknod",
    "mknodat",
    "mount",
    "mount_setattr",
    "move_mount",
    "open_tree",
    "open_tree_attr",
    "pivot_root",
    "seccomp",
    "setdomainname",
    "sethostname",
    "setns",
    "umount",
    "umount2",
    "unshare",
];

const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;

#[derive(Debug, Parser)]
#[command(
    name = "oci-seccomp-record",
    version,
    about = "OCI hook (createRuntime, prestart): record a container's system calls as a seccomp profile",
    after_help = "The state of the container comes on standard input. The annotation\n\
        io.containers.trace-syscall=\"of:/OUTPUT\" or \"if:/INPUT;of:/OUTPUT\" names the files where the options do not.\n\
        The profile is written when the last process of the container has ended."
)]
struct Cli {
    /// Write the profile to this file
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Extend this profile
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Be the recorder of this process; for the hook itself
    #[arg(long, value_name = "PID", hide = true)]
    trace: Option<i32>,
    /// The hook's stage, as some engines give it; of no meaning here
    #[arg(value_name = "STAGE")]
    stage: Option<String>,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.trace {
        Some(pid) => trace(pid, &cli),
        None => hook(cli),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("oci-seccomp-record: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Starts the recorder and waits until it traces.
fn hook(cli: Cli) -> Result<()> {
    let state = State::read()?;
    let mut files = (cli.input, cli.output);
    if files.1.is_none() {
        let text = state.annotations.get(ANNOTATION).with_context(|| format!("no --output and no {ANNOTATION}"))?;
        files = annotation(text)?;
    }
    let output = files.1.context("no output file is named (of:/FILE)")?;
    ensure!(output.is_absolute(), "the output file {} is not an absolute path", output.display());
    let folder = output.parent().filter(|parent| parent.is_dir());
    ensure!(folder.is_some() && !output.is_dir(), "no file can be made at {}", output.display());
    if let Some(input) = &files.0 {
        profile::read(input)?;
    }

    let mut command = Command::new(std::env::current_exe().context("finding this program")?);
    command.arg("--trace").arg(state.process()?.to_string()).arg("--output").arg(output);
    if let Some(input) = files.0 {
        command.arg("--input").arg(input);
    }
    // Nothing of the runtime's is held open, nor its working directory, while the container runs.
    command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut recorder = command.spawn().context("starting the recorder")?;
    let mut answer = String::new();
    recorder.stdout.take().context("the recorder's output")?.read_to_string(&mut answer)?;
    if answer != READY {
        let _ = recorder.wait();
        bail!("{}", if answer.is_empty() { "the recorder died" } else { &answer });
    }
    Ok(())
}

/// Takes the annotation apart: input and output.
fn annotation(text: &str) -> Result<(Option<PathBuf>, Option<PathBuf>)> {
    let (mut input, mut output) = (None, None);
    for part in text.split(';').filter(|part| !part.is_empty()) {
        let (place, path) = match (part.strip_prefix("if:"), part.strip_prefix("of:")) {
            (Some(path), _) => (&mut input, path),
            (_, Some(path)) => (&mut output, path),
            _ => bail!("{ANNOTATION}: {part:?} is neither if:/FILE nor of:/FILE"),
        };
        ensure!(path.starts_with('/'), "{ANNOTATION}: {path:?} is not an absolute path");
        ensure!(place.replace(PathBuf::from(path)).is_none(), "{ANNOTATION}: {part:?} comes twice");
    }
    Ok((input, output))
}

/// The recorder: traces, tells the hook, and writes what it saw.
fn trace(pid: i32, cli: &Cli) -> Result<()> {
    let output = cli.output.as_deref().context("--trace takes --output")?;
    let begun = begin(pid, cli);
    let answer = begun.as_ref().map_or_else(|error| format!("{error:#}"), |_| READY.to_owned());
    let mut stdout = std::io::stdout();
    stdout.write_all(answer.as_bytes())?;
    stdout.flush()?;
    let base = begun?;
    // The hook waits for the end of this stream.
    rustix::stdio::dup2_stdout(fs::File::options().write(true).open("/dev/null")?)?;
    if let Some(record) = record(pid)? {
        profile::write(&profile::make(&record, base), output)?;
    }
    Ok(())
}

fn begin(pid: i32, cli: &Cli) -> Result<Option<Value>> {
    sys::close_inherited();
    let base = cli.input.as_deref().map(profile::read).transpose()?;
    // A session of its own: signals from a terminal are not for the recorder.
    rustix::process::setsid().context("setsid")?;
    seize_all(pid).with_context(|| format!("tracing process {pid}"))?;
    Ok(base)
}

/// Traces every thread of a process. Threads of traced ones are traced by the kernel.
fn seize_all(pid: i32) -> Result<()> {
    let mut seized = BTreeSet::new();
    loop {
        let mut new = 0;
        for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
            let thread: i32 = entry?.file_name().to_str().unwrap_or_default().parse()?;
            if seized.contains(&thread) {
                continue;
            }
            match sys::seize(thread) {
                // A thread made by one that is traced already is refused; one that has ended is no more.
                Err(error) if thread == pid => return Err(anyhow!(error)),
                _ => new += usize::from(seized.insert(thread)),
            }
        }
        if new == 0 {
            return Ok(());
        }
    }
}

/// Follows all threads to their ends. `None` if the program never ran.
fn record(init: i32) -> Result<Option<Record>> {
    let mut record = Record::default();
    record.architectures.insert(if cfg!(target_arch = "x86_64") { "SCMP_ARCH_X86_64" } else { "SCMP_ARCH_AARCH64" });
    let mut started = false;
    while let Some((thread, stop)) = sys::wait()? {
        // A thread that was killed as it stood answers none of these any more: its end comes next.
        let _ = match stop {
            Stop::Ended => Ok(()),
            Stop::Group => sys::listen(thread),
            Stop::Signal(signal) => sys::resume(thread, signal),
            Stop::Event => sys::resume(thread, 0),
            Stop::Exec => {
                started |= thread == init;
                sys::resume(thread, 0)
            }
            Stop::Call => {
                if let Ok(Some((architecture, number))) = sys::call(thread) {
                    note(&mut record, started, architecture, number);
                }
                sys::resume(thread, 0)
            }
        };
    }
    Ok(started.then_some(record))
}

/// The calling convention of a call, from its `AUDIT_ARCH_…` (`linux/audit.h`).
fn abi_of(architecture: u32, number: u32) -> Option<Abi> {
    Some(match architecture {
        AUDIT_ARCH_X86_64 if number & names::X32_BIT != 0 => Abi::X32,
        AUDIT_ARCH_X86_64 => Abi::X86_64,
        0x4000_0003 => Abi::X86,
        0xc000_00b7 => Abi::Aarch64,
        0x4000_0028 => Abi::Arm,
        _ => return None,
    })
}

fn note(record: &mut Record, started: bool, architecture: u32, number: u64) {
    let Ok(number) = u32::try_from(number) else { return };
    let Some(abi) = abi_of(architecture, number) else { return };
    let architecture = profile::ARCHITECTURES.iter().find(|(known, _)| *known == abi).map(|(_, name)| *name);
    record.architectures.extend(architecture);
    // A number that no name is known for is none of a kernel that this was made for: left out.
    let number = (number & !names::X32_BIT).cast_signed();
    for (name, _) in names::TABLE.iter().filter(|(_, numbers)| numbers[abi as usize] == number) {
        if !started && BUILDING.contains(name) {
            record.names.clear();
            return;
        }
        record.names.insert((*name).to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotations_name_files() {
        let path = |text: &str| Some(PathBuf::from(text));
        assert_eq!(annotation("of:/a").unwrap(), (None, path("/a")));
        assert_eq!(annotation("if:/b;of:/a").unwrap(), (path("/b"), path("/a")));
        for wrong in ["/a", "of:a", "of:/a;of:/b", "xf:/a"] {
            assert!(annotation(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn building_the_container_begins_the_record_anew() {
        let number = |name| names::find(name).unwrap().on(Abi::X86_64).unwrap().into();
        let mut record = Record::default();
        for name in ["openat", "mount", "close"] {
            note(&mut record, false, AUDIT_ARCH_X86_64, number(name));
        }
        assert_eq!(record.names, BTreeSet::from(["close".to_owned()]));
        note(&mut record, true, AUDIT_ARCH_X86_64, number("mount"));
        assert_eq!(record.names, BTreeSet::from(["close".to_owned(), "mount".to_owned()]));
    }
}
