//! What /proc says of a process: just the two fields that identify it.

use std::path::Path;

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

/// A process as it was found in /proc/PID/stat (proc_pid_stat(5)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// Field 3: `R`, `S`, `Z` …
    pub state: char,
    /// Field 22: clock ticks between boot and the start of the process.
    pub start_time: u64,
}

impl Stat {
    /// Reads the entry of `pid`; `None` when there is no such process.
    pub fn of(pid: i32) -> Option<Stat> {
        Stat::parse(&super::file::read(Path::new(&format!("/proc/{pid}/stat"))).ok()?)
    }

    /// Whether there is a process `pid` that was started then, and has not ended.
    pub fn is_alive(pid: i32, start_time: u64) -> bool {
        // Of one that is gone the kernel says so faster here than in /proc, which makes an entry first.
        pid > 0
            && Pid::from_raw(pid).is_some_and(|pid| test_kill_process(pid) != Err(Errno::SRCH))
            && Stat::of(pid).is_some_and(|stat| stat.start_time == start_time && !stat.is_dead())
    }

    /// Whether the process has ended and only waits to be reaped.
    pub fn is_dead(self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x')
    }

    fn parse(line: &[u8]) -> Option<Stat> {
        // The command name is chosen by the process and may hold blanks and parentheses: count
        // from the last one.
        let after = line.iter().rposition(|&byte| byte == b')')? + 1;
        let rest = std::str::from_utf8(line.get(after..)?).ok()?;
        let mut fields = rest.split_ascii_whitespace();
        Some(Stat { state: fields.next()?.chars().next()?, start_time: fields.nth(18)?.parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_command_name_does_not_shift_the_fields() {
        let line = b"7 (a) R 1 ) S 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4242 0 0 0\n";
        assert_eq!(Stat::parse(line), Some(Stat { state: 'S', start_time: 4242 }));
    }

    #[test]
    fn short_or_empty_lines_are_no_process() {
        assert_eq!(Stat::parse(b""), None);
        assert_eq!(Stat::parse(b"7 (a) S 1"), None);
    }

    #[test]
    fn we_are_alive() {
        assert!(!Stat::of(std::process::id() as i32).unwrap().is_dead());
    }

    #[test]
    fn fuzz_stat() {
        let seeds: [&[u8]; 2] = [
            b"7 (a) R 1 ) S 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 0 20 0 1 0 4242 0 0 0\n",
            b"1 (systemd) S 0 1 1 0 -1 4194560 9 9 9 9 1 1 1 1 20 0 1 0 5 170000000 3000 18446744073709551615 1 1\n",
        ];
        crate::fuzz::fuzz(&seeds, |bytes| {
            let _ = Stat::parse(bytes);
        });
    }
}
