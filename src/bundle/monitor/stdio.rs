//! The container's standard streams, as the monitor has them.
//!
//! Without a terminal, output goes through FIFOs that the container has open for reading too: it does not get
//! SIGPIPE when its monitor is killed, and the next one opens them again by name.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketAddrUnix, SocketFlags, SocketType,
};

use super::plan::Plan;
use super::talk::{ERROR, OUTPUT, PACKET, Place};
use crate::container::runtime::null;

/// One thing to read from.
pub struct Source {
    fd: OwnedFd,
    /// What its packets are called.
    pub kind: u8,
    terminal: bool,
}

/// What a read has given.
pub enum Got {
    /// So many bytes.
    Bytes(usize),
    /// Nothing now.
    Nothing,
    /// Nothing until somebody opens the terminal again.
    Hung,
    /// Nothing any more: all who could write have closed it.
    End,
}

/// All streams of one run.
#[derive(Default)]
pub struct Streams {
    /// Where output comes from.
    pub sources: Vec<Source>,
    /// Where input goes.
    pub input: Option<OwnedFd>,
    /// Input that the program has not taken yet.
    pub waiting: Vec<u8>,
    /// Nothing comes behind that.
    pub ending: bool,
    /// The terminal, whose size is set there.
    pub terminal: Option<OwnedFd>,
    /// Where the runtime sends the terminal to.
    console: Option<(OwnedFd, Place)>,
}

impl Streams {
    /// Makes the streams of a new run, and gives the runtime's command its ends.
    pub fn make(plan: &Plan, command: &mut Command) -> Result<Self> {
        let mut streams = Self::default();
        if plan.terminal {
            let path = plan.run_dir.join("console");
            let _ = std::fs::remove_file(&path);
            let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
            let place = Place::open(&plan.run_dir)?;
            rustix::net::bind(&socket, &SocketAddrUnix::new(place.path("self", "console"))?)
                .with_context(|| format!("making {}", path.display()))?;
            rustix::net::listen(&socket, 1)?;
            command.arg("--console-socket").arg(place.path(&std::process::id().to_string(), "console"));
            streams.console = Some((socket, place));
            command.stdin(null()).stdout(null()).stderr(null());
            return Ok(streams);
        }
        for (name, kind) in [("stdout", OUTPUT), ("stderr", ERROR)] {
            let path = plan.run_dir.join(name);
            // A new one for each run: nothing of the last one is in it.
            let _ = std::fs::remove_file(&path);
            rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
                .with_context(|| format!("making {}", path.display()))?;
            streams.sources.push(Source::open(&path, kind)?);
            let theirs = File::options().read(true).write(true).open(&path)?;
            if kind == OUTPUT {
                command.stdout(theirs)
            } else {
                command.stderr(theirs)
            };
        }
        if plan.input {
            let (theirs, ours) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
            rustix::io::ioctl_fionbio(&ours, true)?;
            streams.input = Some(ours);
            command.stdin(theirs);
        } else {
            command.stdin(null());
        }
        Ok(streams)
    }

    /// The streams of a run whose monitor was killed, as far as they are left.
    pub fn find(plan: &Plan) -> Self {
        let names = [("stdout", OUTPUT), ("stderr", ERROR)];
        let sources = names.iter().filter_map(|(name, kind)| Source::open(&plan.run_dir.join(name), *kind).ok());
        Self { sources: if plan.terminal { Vec::new() } else { sources.collect() }, ..Self::default() }
    }

    /// Takes the terminal that the runtime has sent.
    pub fn accept_terminal(&mut self, plan: &Plan) -> Result<()> {
        let Some((console, _place)) = self.console.take() else { return Ok(()) };
        let _ = std::fs::remove_file(plan.run_dir.join("console"));
        let stream = rustix::net::accept_with(&console, SocketFlags::CLOEXEC)?;
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut name = [0; 256];
        let mut slices = [std::io::IoSliceMut::new(&mut name)];
        rustix::net::recvmsg(&stream, &mut slices, &mut control, RecvFlags::CMSG_CLOEXEC)?;
        let sent = control.drain().find_map(|it| match it {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        let Some(terminal) = sent else { bail!("the runtime has sent no terminal") };
        rustix::io::ioctl_fionbio(&terminal, true)?;
        self.sources.push(Source { fd: terminal.try_clone()?, kind: OUTPUT, terminal: true });
        self.input = plan.input.then(|| terminal.try_clone()).transpose()?;
        self.terminal = Some(terminal);
        if let Some((rows, columns)) = plan.size {
            self.resize(rows, columns);
        }
        Ok(())
    }

    /// Sets the size of the terminal, if there is one.
    pub fn resize(&self, rows: u16, columns: u16) {
        if let Some(terminal) = &self.terminal {
            let size = rustix::termios::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
            let _ = rustix::termios::tcsetwinsize(terminal, size);
        }
    }

    /// Gives the program as much of its input as it takes.
    pub fn feed(&mut self) {
        while let Some(input) = &self.input
            && !self.waiting.is_empty()
        {
            match rustix::io::write(input, &self.waiting) {
                Ok(count) => drop(self.waiting.drain(..count)),
                Err(Errno::AGAIN) => return,
                Err(Errno::INTR) => {}
                // The program has closed it.
                Err(_) => self.input = None,
            }
        }
        self.waiting.clear();
        // A terminal has no end of its input but the byte that stands for it.
        if self.ending && self.terminal.is_none() {
            self.input = None;
        }
    }
}

impl Source {
    fn open(path: &Path, kind: u8) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty()).with_context(|| format!("opening {}", path.display()))?;
        Ok(Self { fd, kind, terminal: false })
    }

    /// Reads what is there behind the buffer's first byte, which is left for the packet's kind.
    pub fn read(&self, buffer: &mut [u8]) -> Got {
        loop {
            match rustix::io::read(&self.fd, &mut buffer[1..=PACKET]) {
                Ok(0) => return Got::End,
                Ok(count) => return Got::Bytes(count),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Got::Nothing,
                Err(Errno::IO) if self.terminal => return Got::Hung,
                Err(_) => return Got::End,
            }
        }
    }
}

impl AsFd for Source {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
