//! A person's end of a container: its output, our input, signals and the terminal's size.

use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::termios::{OptionalActions, Termios};

use crate::monitor::talk::{self, End, PACKET};

/// How we are attached.
#[derive(Clone, Debug)]
pub struct Options {
    /// Our standard input goes to the program.
    pub input: bool,
    /// The program has a terminal: ours passes every key on.
    pub terminal: bool,
    /// The keys that leave the container alone; none if empty.
    pub keys: Vec<u8>,
    /// Signals that we get go to the program.
    pub signals: bool,
    /// Its output comes to us.
    pub output: bool,
}

/// How being attached has ended.
pub enum Outcome {
    /// The container has ended, or could not be started.
    Ended(End),
    /// The keys were pressed; it goes on.
    Detached,
    /// Its monitor was killed.
    Lost,
}

/// Signals that are for the program.
const PASSED: [Signal; 10] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGALRM,
    Signal::SIGCONT,
    Signal::SIGWINCH,
    Signal::SIGTSTP,
];

/// Signals, kept for us to read. Made before the container is started, so that none is lost.
pub struct Signals(Option<SignalFd>);

impl Signals {
    /// Takes them over; with `pass` those that are for the program, else only changes of the terminal's size.
    pub fn take(pass: bool, terminal: bool) -> Result<Self> {
        let mut set = SigSet::empty();
        for signal in PASSED {
            let size = signal == Signal::SIGWINCH;
            // A stopped terminal program is the shell's; a terminal in raw mode sends no such signals.
            let ours = if size { terminal } else { pass && signal != Signal::SIGTSTP && signal != Signal::SIGCONT };
            if ours {
                set.add(signal);
            }
        }
        if set == SigSet::empty() {
            return Ok(Self(None));
        }
        set.thread_block()?;
        Ok(Self(Some(SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?)))
    }
}

/// Rows and columns of our terminal.
pub fn size() -> Option<(u16, u16)> {
    let size =
        rustix::termios::tcgetwinsize(std::io::stdin()).or_else(|_| rustix::termios::tcgetwinsize(std::io::stdout()));
    size.ok().filter(|it| it.ws_row > 0).map(|it| (it.ws_row, it.ws_col))
}

/// The keys of `--detach-keys`: `ctrl-X` or characters, with commas between.
pub fn keys(text: &str) -> Result<Vec<u8>> {
    let key = |word: &str| match word.as_bytes() {
        [one] => Ok(*one),
        [b'c', b't', b'r', b'l', b'-', key]
            if matches!(key, b'a'..=b'z' | b'@' | b'[' | b'\\' | b']' | b'^' | b'_') =>
        {
            Ok(key.to_ascii_uppercase() & 0x1f)
        }
        _ => bail!("--detach-keys {text:?}: {word:?} is no key: a character, or ctrl- and one of a-z @ [ \\ ] ^ _"),
    };
    if text.is_empty() { Ok(Vec::new()) } else { text.split(',').map(key).collect() }
}

/// Our terminal in raw mode, until this is dropped.
struct Raw(Option<Termios>);

impl Raw {
    fn enter(wanted: bool) -> Result<Self> {
        if !wanted || !rustix::termios::isatty(std::io::stdin()) {
            return Ok(Self(None));
        }
        let before = rustix::termios::tcgetattr(std::io::stdin()).context("our terminal")?;
        let mut raw = before.clone();
        raw.make_raw();
        rustix::termios::tcsetattr(std::io::stdin(), OptionalActions::Drain, &raw).context("our terminal")?;
        Ok(Self(Some(before)))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = rustix::termios::tcsetattr(std::io::stdin(), OptionalActions::Drain, before);
        }
    }
}

/// Where the search for the detach keys in the input stands.
struct Keys<'a> {
    wanted: &'a [u8],
    matched: usize,
}

impl Keys<'_> {
    /// What of the input goes to the program, and whether the keys are complete.
    fn filter(&mut self, input: &[u8]) -> (Vec<u8>, bool) {
        if self.wanted.is_empty() {
            return (input.to_vec(), false);
        }
        let mut out = Vec::with_capacity(input.len() + self.matched);
        for byte in input {
            if *byte == self.wanted[self.matched] {
                self.matched += 1;
                if self.matched == self.wanted.len() {
                    return (out, true);
                }
                continue;
            }
            // Not the sequence after all: what was held back belongs to the program.
            out.extend_from_slice(&self.wanted[..self.matched]);
            self.matched = usize::from(*byte == self.wanted[0]);
            if self.matched == 0 {
                out.push(*byte);
            }
        }
        (out, false)
    }
}

/// Stays attached until the container ends for good, or the keys are pressed.
pub fn attach(socket: &OwnedFd, signals: &Signals, options: &Options) -> Result<Outcome> {
    let mut buffer = vec![0; 1 + PACKET];
    let mut raw = None;
    let (mut input, mut output) = (options.input, options.output);
    let mut keys = Keys { wanted: &options.keys, matched: 0 };
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let mut end = None;
    if options.terminal {
        raw = Some(Raw::enter(options.input)?);
    }
    loop {
        let mut fds = vec![PollFd::new(socket, PollFlags::IN)];
        if let Some(signals) = &signals.0 {
            fds.push(PollFd::new(signals, PollFlags::IN));
        }
        if input && end.is_none() {
            fds.push(PollFd::new(&stdin, PollFlags::IN));
        }
        match rustix::event::poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let ready: Vec<bool> = fds.iter().map(|it| !it.revents().is_empty()).collect();
        let stdin_ready = input && end.is_none() && ready.last() == Some(&true);
        if let Some(fd) = &signals.0 {
            pass_signals(fd, socket, options)?;
        }
        if ready[0] {
            let Some((kind, length)) = talk::receive(socket, &mut buffer)? else {
                drop(raw);
                return Ok(end.map_or(Outcome::Lost, Outcome::Ended));
            };
            let bytes = &buffer[1..length];
            match kind {
                talk::OUTPUT if output => output = write_all(stdout.as_fd(), bytes)?,
                talk::ERROR if output => output = write_all(stderr.as_fd(), bytes)?,
                talk::END => {
                    let it: End = serde_json::from_slice(bytes).context("what the monitor says of the end")?;
                    if !it.again {
                        // The monitor closes its end when nothing is left of the run.
                        end = Some(it);
                    }
                }
                _ => {}
            }
        }
        if options.output && !output && options.signals {
            // Nobody reads what it writes: without us between them, the program would have got SIGPIPE.
            let stop = talk::Stop { signal: Some(Signal::SIGPIPE as i32), timeout: Some(1) };
            talk::send(socket, talk::STOP, &serde_json::to_vec(&stop)?)?;
            return drain(socket);
        }
        if stdin_ready && end.is_none() {
            match rustix::io::read(&stdin, &mut buffer[..PACKET]) {
                // The container goes on without us: a container cannot be asked to take more.
                Ok(0) => {
                    input = false;
                    let _ = talk::send(socket, talk::INPUT_END, &[]);
                }
                Ok(count) => {
                    let (bytes, detach) = keys.filter(&buffer[..count]);
                    if !bytes.is_empty() {
                        let _ = talk::send(socket, talk::INPUT, &bytes);
                    }
                    if detach {
                        drop(raw);
                        return Ok(Outcome::Detached);
                    }
                }
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(_) => input = false,
            }
        }
    }
}

fn pass_signals(fd: &SignalFd, socket: &OwnedFd, options: &Options) -> Result<()> {
    while let Some(info) = fd.read_signal()? {
        if info.ssi_signo == Signal::SIGWINCH as u32 {
            send_size(socket);
        } else if options.signals {
            let _ = talk::send(socket, talk::SIGNAL, &[info.ssi_signo as u8]);
        }
    }
    Ok(())
}

/// Tells the monitor how large our terminal is.
pub fn send_size(socket: &OwnedFd) {
    if let Some((rows, columns)) = size() {
        let _ = talk::send(socket, talk::SIZE, &[rows.to_le_bytes(), columns.to_le_bytes()].concat());
    }
}

/// Waits for the end of a container that nobody listens to any more.
fn drain(socket: &OwnedFd) -> Result<Outcome> {
    Ok(super::lifecycle::until_end(socket)?.map_or(Outcome::Lost, Outcome::Ended))
}

/// Writes all. Whether there is still somebody who reads.
fn write_all(to: std::os::fd::BorrowedFd<'_>, bytes: &[u8]) -> Result<bool> {
    let mut file = std::fs::File::from(to.try_clone_to_owned()?);
    match file.write_all(bytes) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(error).context("writing what the container writes")
        }
        written => Ok(written.is_ok()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_across_reads() {
        let wanted = keys("ctrl-p,ctrl-q").unwrap();
        assert_eq!(wanted, [16, 17]);
        let mut it = Keys { wanted: &wanted, matched: 0 };
        assert_eq!(it.filter(b"ab\x10"), (b"ab".to_vec(), false));
        assert_eq!(it.filter(b"c"), (b"\x10c".to_vec(), false));
        assert_eq!(it.filter(b"\x10\x10"), (b"\x10".to_vec(), false));
        assert_eq!(it.filter(b"\x11rest"), (Vec::new(), true));
        assert_eq!(keys("a,ctrl-[").unwrap(), [b'a', 27]);
        assert!(keys("").unwrap().is_empty());
        for bad in ["ctrl-", "ctrl-P1", "ab", "ctrl-1", ","] {
            assert!(keys(bad).is_err(), "{bad}");
        }
    }
}
