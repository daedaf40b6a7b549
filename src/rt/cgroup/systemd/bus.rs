//! A connection to a D-Bus peer: the broker, or systemd itself on its private socket. One call at a
//! time, everything within a time limit.
//!
//! Written by hand: the crates that speak D-Bus were measured (src/README.md, "Dependencies"), and
//! none of them can log in from inside a user namespace.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recv, send, socket_with,
};

use super::address::Address;
use super::wire::{self, Call, Message, Value};
use crate::sys::error::{At, errno};

/// How long an operation may take in all. Systemd's own limit for a call is 25 seconds.
pub(super) const LIMIT: Duration = Duration::from_secs(30);

/// The only signal that anybody here waits for.
pub(super) const WANTED: &str = "JobRemoved";

const CLOSED: &str = "the connection was closed";

/// The longest line of the login.
const LINE: usize = 1024;

/// Why a call failed.
#[derive(Debug)]
pub(super) enum Error {
    /// The other side said no.
    Refused {
        /// Such as `org.freedesktop.systemd1.NoSuchUnit`.
        name: String,
        /// In words.
        text: String,
    },
    /// There was no answer.
    Lost(anyhow::Error),
}

impl From<anyhow::Error> for Error {
    fn from(error: anyhow::Error) -> Error {
        Error::Lost(error)
    }
}

impl From<Error> for anyhow::Error {
    fn from(error: Error) -> anyhow::Error {
        match error {
            Error::Refused { name, text } => anyhow!("{text} ({name})"),
            Error::Lost(error) => error,
        }
    }
}

/// A connection.
pub(super) struct Bus {
    socket: OwnedFd,
    address: Address,
    /// What has been received and not been looked at.
    input: Vec<u8>,
    serial: u32,
    deadline: Instant,
    /// Signals that came while an answer was waited for.
    signals: Vec<Message>,
}

impl Bus {
    /// Connects and logs in.
    pub(super) fn open(address: &Address) -> Result<Bus> {
        let socket = connect_to(&address.path).at(|| address.to_string())?;
        let mut bus = Bus {
            socket,
            address: address.clone(),
            input: Vec::new(),
            serial: 0,
            deadline: Instant::now() + LIMIT,
            signals: Vec::new(),
        };
        bus.log_in()?;
        if address.broker {
            bus.call_broker("Hello", &[])?;
        }
        Ok(bus)
    }

    /// Starts the time limit anew.
    pub(super) fn set_limit(&mut self, limit: Duration) {
        self.deadline = Instant::now() + limit;
    }

    /// Whether a broker stands in between.
    pub(super) fn has_broker(&self) -> bool {
        self.address.broker
    }

    /// Calls a method of the broker itself.
    pub(super) fn call_broker(&mut self, member: &str, body: &[Value]) -> Result<Message, Error> {
        let (name, path) = ("org.freedesktop.DBus", "/org/freedesktop/DBus");
        self.call(Call { destination: Some(name), path, interface: name, member, body, flags: 0 })
    }

    /// Calls a method and waits for what it returns.
    pub(super) fn call(&mut self, call: Call<'_>) -> Result<Message, Error> {
        let serial = self.post(call)?;
        loop {
            let message = self.receive()?;
            match message.kind {
                wire::REPLY if message.reply_to == serial => return Ok(message),
                wire::ERROR if message.reply_to == serial => {
                    let text = message.text().unwrap_or("no reason given").to_owned();
                    return Err(Error::Refused { name: message.error, text });
                }
                wire::SIGNAL if message.member == WANTED => self.signals.push(message),
                // Systemd's own socket hands out every signal. Other answers nobody waits for, and
                // calls are not for a client.
                _ => {}
            }
        }
    }

    /// Calls a method without waiting. Gives out the call's number.
    pub(super) fn post(&mut self, call: Call<'_>) -> Result<u32> {
        self.serial += 1;
        self.send(&call.to_bytes(self.serial))?;
        Ok(self.serial)
    }

    /// Waits for a [`WANTED`] signal that `pick` takes. Those that it does not take are dropped.
    pub(super) fn wait_for<T>(&mut self, mut pick: impl FnMut(&Message) -> Option<T>) -> Result<T> {
        if let Some(found) = std::mem::take(&mut self.signals).iter().find_map(&mut pick) {
            return Ok(found);
        }
        loop {
            let message = self.receive()?;
            if message.kind == wire::SIGNAL
                && message.member == WANTED
                && let Some(found) = pick(&message)
            {
                return Ok(found);
            }
        }
    }

    /// SASL's EXTERNAL: the kernel tells the other side who we are (`SO_PEERCRED`).
    ///
    /// Who we say that we are may be left empty, as sd-bus does: inside a user namespace, as with
    /// rootless engines, our own user id is not what the other side sees.
    ///
    /// All three lines go in one piece. When systemd 252 reads the last one together with the first
    /// message, it forgets that message until the next one comes; so that line must have been read
    /// by the time that OK is answered.
    fn log_in(&mut self) -> Result<()> {
        self.send(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n")?;
        let mut line = self.line()?;
        // It asks for the data that we have just sent. Before version 243 systemd said OK twice.
        if line == "DATA" || line.starts_with("OK ") {
            line = self.line()?;
        }
        if !line.starts_with("OK ") {
            bail!("{}: this user is not let in ({})", self.address, line.replace(char::is_control, " "));
        }
        Ok(())
    }

    /// One line of the login.
    fn line(&mut self) -> Result<String> {
        loop {
            if let Some(end) = self.input.windows(2).position(|two| two == b"\r\n") {
                let line: Vec<u8> = self.input.drain(..end + 2).take(end).collect();
                return Ok(String::from_utf8_lossy(&line).into_owned());
            }
            if self.input.len() > LINE {
                bail!("{}: what answers there does not speak D-Bus", self.address);
            }
            self.fill()?;
        }
    }

    fn receive(&mut self) -> Result<Message> {
        let no_message =
            |bus: &Bus| anyhow!("{}: sent something that is no message of D-Bus, or too long", bus.address);
        let mut length = wire::HEADER;
        loop {
            if let Some(first) = self.input.first_chunk() {
                length = wire::length(first).ok_or_else(|| no_message(self))?;
            }
            if self.input.len() >= length {
                break;
            }
            self.fill()?;
        }
        let message = Message::parse(&self.input[..length]).ok_or_else(|| no_message(self));
        self.input.drain(..length);
        message
    }

    /// Reads what there is, or waits for more.
    fn fill(&mut self) -> Result<()> {
        let mut buffer = [0; 4096];
        let received = loop {
            self.arm(Timeout::Recv)?;
            match recv(&self.socket, &mut buffer, RecvFlags::empty()) {
                Err(Errno::INTR) => {}
                other => break other.map(|(received, _)| received).map_err(|error| self.failed(error))?,
            }
        };
        if received == 0 {
            bail!("{}: {CLOSED}", self.address);
        }
        self.input.extend_from_slice(&buffer[..received]);
        Ok(())
    }

    fn send(&self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            self.arm(Timeout::Send)?;
            match send(&self.socket, bytes, SendFlags::NOSIGNAL) {
                Ok(sent) => bytes = &bytes[sent..],
                Err(Errno::INTR) => {}
                Err(error) => return Err(self.failed(error)),
            }
        }
        Ok(())
    }

    /// Lets the next system call wait no longer than until the deadline.
    fn arm(&self, timeout: Timeout) -> Result<()> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        // Zero would be no limit at all.
        if left < Duration::from_micros(1) {
            return Err(self.failed(Errno::AGAIN));
        }
        set_socket_timeout(&self.socket, timeout, Some(left)).map_err(|error| self.failed(error))
    }

    fn failed(&self, error: Errno) -> anyhow::Error {
        match error {
            Errno::AGAIN => {
                anyhow!("{}: no answer in time; `systemctl list-jobs` shows what systemd waits for", self.address)
            }
            Errno::CONNRESET | Errno::PIPE => anyhow!("{}: {CLOSED}", self.address),
            other => anyhow!("{}: {}", self.address, errno(other)),
        }
    }
}

fn connect_to(path: &[u8]) -> rustix::io::Result<OwnedFd> {
    let address = match path.split_first() {
        Some((0, name)) => SocketAddrUnix::new_abstract_name(name)?,
        _ => SocketAddrUnix::new(path)?,
    };
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // Connecting waits while the other side's queue is full.
    set_socket_timeout(&socket, Timeout::Send, Some(LIMIT))?;
    connect(&socket, &address)?;
    Ok(socket)
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::thread::{JoinHandle, spawn};

    use super::super::wire::tests::message;
    use super::*;

    /// Listens under a name of its own; `serve` plays the other side.
    pub(in super::super) fn listen<T: Send + 'static>(
        serve: impl FnOnce(UnixStream) -> T + Send + 'static,
    ) -> (Address, JoinHandle<T>) {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("rt-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        let server = spawn(move || serve(listener.accept().unwrap().0));
        (Address { path: format!("\0{name}").into_bytes(), broker: false }, server)
    }

    /// The other side of the login, with these answers; gives out what the client said.
    fn login(stream: &UnixStream, answers: &[&str]) -> Vec<String> {
        let mut lines = Vec::new();
        let mut reader = BufReader::with_capacity(1, stream);
        for answer in answers {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            lines.push(line);
            (&*stream).write_all(answer.as_bytes()).unwrap();
        }
        lines
    }

    /// Lets the client in and says BEGIN to itself.
    pub(in super::super) fn accept(stream: &UnixStream) {
        login(stream, &["DATA\r\n", "OK 0123\r\n", ""]);
    }

    /// One call: its serial, and all of its bytes.
    pub(in super::super) fn next_call(mut stream: &UnixStream) -> Option<(u32, Vec<u8>)> {
        let mut first = [0; wire::HEADER];
        stream.read_exact(&mut first).ok()?;
        let mut bytes = first.to_vec();
        bytes.resize(wire::length(&first).unwrap(), 0);
        stream.read_exact(&mut bytes[wire::HEADER..]).unwrap();
        Some((u32::from_ne_bytes(*bytes[8..].first_chunk().unwrap()), bytes))
    }

    const PING: Call<'_> = Call { destination: None, path: "/", interface: "a.b", member: "C", body: &[], flags: 0 };

    #[test]
    fn login_names_no_user() {
        let (address, server) = listen(|stream| login(&stream, &["DATA\r\n", "OK 12\r\n", ""]));
        Bus::open(&address).unwrap();
        assert_eq!(server.join().unwrap(), ["\0AUTH EXTERNAL\r\n", "DATA\r\n", "BEGIN\r\n"]);
        // systemd before 243.
        let (address, server) = listen(|stream| login(&stream, &["OK 12\r\n", "OK 12\r\n", ""]));
        Bus::open(&address).unwrap();
        server.join().unwrap();
    }

    #[test]
    fn a_login_that_fails_is_one_line() {
        let error = |answer: &'static str| {
            let (address, server) = listen(move |stream| drop(login(&stream, &[answer])));
            let error = Bus::open(&address).err().unwrap().to_string();
            server.join().unwrap();
            error.split_once(": ").unwrap().1.to_owned()
        };
        assert_eq!(error("REJECTED EXTERNAL\r\n"), "this user is not let in (REJECTED EXTERNAL)");
        assert_eq!(error(""), "the connection was closed");
        let long: &'static str = "x".repeat(2 * LINE).leak();
        assert_eq!(error(long), "what answers there does not speak D-Bus");
    }

    #[test]
    fn nobody_there() {
        let error = Bus::open(&Address { path: b"/nowhere/bus".to_vec(), broker: true }).err().unwrap();
        assert_eq!(error.to_string(), "/nowhere/bus: no such file or directory");
    }

    #[test]
    fn an_answer_is_found_among_other_messages() {
        let (address, server) = listen(|stream| {
            accept(&stream);
            let (serial, _) = next_call(&stream).unwrap();
            let signal = |text: &str| message(wire::SIGNAL, &[(3, WANTED.into())], &[text.into()]);
            let reply =
                |serial, kind| message(kind, &[(5, Value::Uint32(serial)), (4, "x.Bad".into())], &["because".into()]);
            let mut bytes = signal("One");
            bytes.extend(reply(serial + 1, wire::REPLY));
            bytes.extend(message(wire::CALL, &[], &[]));
            bytes.extend(message(wire::SIGNAL, &[(3, "JobNew".into())], &["Other".into()]));
            bytes.extend(reply(serial, wire::ERROR));
            bytes.extend(signal("Two"));
            // However it is cut.
            for piece in bytes.chunks(7) {
                (&stream).write_all(piece).unwrap();
            }
        });
        let mut bus = Bus::open(&address).unwrap();
        match bus.call(PING) {
            Err(Error::Refused { name, text }) => assert_eq!((name.as_str(), text.as_str()), ("x.Bad", "because")),
            other => panic!("{other:?}"),
        }
        let mut seen = Vec::new();
        bus.wait_for(|message| {
            seen.extend(message.text().map(str::to_owned));
            (message.text() == Some("Two")).then_some(())
        })
        .unwrap();
        assert_eq!(seen, ["One", "Two"]);
        server.join().unwrap();
    }

    #[test]
    fn waiting_ends() {
        let (address, server) = listen(|stream| {
            accept(&stream);
            let _ = next_call(&stream);
            // Signals for ever are no answer.
            while (&stream).write_all(&message(wire::SIGNAL, &[], &[])).is_ok() {
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        let mut bus = Bus::open(&address).unwrap();
        bus.set_limit(Duration::from_millis(50));
        let start = Instant::now();
        let error = anyhow::Error::from(bus.call(PING).unwrap_err()).to_string();
        assert!(error.contains("no answer in time"), "{error}");
        assert!(start.elapsed() < Duration::from_secs(5));
        drop(bus);
        server.join().unwrap();
    }

    #[test]
    fn nonsense_is_refused() {
        let long = {
            let mut bytes = message(wire::REPLY, &[], &[]);
            bytes[4..8].copy_from_slice(&(64u32 << 20).to_ne_bytes());
            bytes
        };
        for answer in [b"GET / HTTP/1.0\r\n\r\n".to_vec(), long] {
            let (address, server) = listen(move |stream| {
                accept(&stream);
                let _ = next_call(&stream);
                (&stream).write_all(&answer).unwrap();
            });
            let error = anyhow::Error::from(Bus::open(&address).unwrap().call(PING).unwrap_err()).to_string();
            assert!(error.contains("no message of D-Bus"), "{error}");
            server.join().unwrap();
        }
    }
}
