//! Terminals: the engine's end of a console socket, and `rt` on a terminal of the caller's.

use std::io::{IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::process::{Child, Command};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use super::{Place, RT};

/// Takes the one terminal that a runtime sends.
#[track_caller]
pub fn receive(listener: &UnixListener) -> OwnedFd {
    take(listener).unwrap()
}

/// The same, where it may send none.
pub fn take(listener: &UnixListener) -> Result<OwnedFd, String> {
    let (socket, _) = listener.accept().map_err(|error| error.to_string())?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut name = [0; 64];
    let message = recvmsg(&socket, &mut [IoSliceMut::new(&mut name)], &mut control, RecvFlags::CMSG_CLOEXEC)
        .map_err(|error| error.to_string())?;
    if message.bytes == 0 {
        return Err("a message without a byte is lost on some receivers".into());
    }
    let fds: Vec<OwnedFd> = control
        .drain()
        .filter_map(|part| if let RecvAncillaryMessage::ScmRights(fds) = part { Some(fds) } else { None })
        .flatten()
        .collect();
    let [master] = <[OwnedFd; 1]>::try_from(fds).map_err(|fds| format!("{} descriptors, wanted one", fds.len()))?;
    let mut rest = Vec::new();
    (&socket).read_to_end(&mut rest).map_err(|error| error.to_string())?;
    if rest.is_empty() { Ok(master) } else { Err("more than one message".into()) }
}

/// Reads from a terminal until its other side is closed, or what was read ends with `until`.
pub fn read_terminal(master: &OwnedFd, until: &str) -> String {
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    while until.is_empty() || !String::from_utf8_lossy(&text).ends_with(until) {
        match rustix::io::read(master, &mut buffer) {
            Ok(0) | Err(rustix::io::Errno::IO) => break,
            Ok(length) => text.extend(&buffer[..length]),
            Err(error) => panic!("{error}"),
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// A pseudo-terminal of the host, and `rt` with these arguments on it.
pub fn on_terminal(place: &Place, args: &[&str], rows: u16, columns: u16) -> (OwnedFd, Child) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let slave = ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    tcsetwinsize(&slave, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    // setsid makes it the controlling terminal: without that a resize would signal nobody.
    let mut command = Command::new("setsid");
    command.args(["--ctty", "--wait", RT, "--root"]).arg(&place.root).args(args);
    command.stdin(slave.try_clone().unwrap()).stdout(slave.try_clone().unwrap()).stderr(slave);
    (master, command.spawn().unwrap())
}
