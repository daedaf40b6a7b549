//! The caller's ssh agent for a RUN: a socket of the command's own user, behind which what is said goes to the agent
//! and back.

use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use anyhow::{Context, Result};

/// Listens at a path for a user, until the program ends or the socket is removed.
pub fn serve(at: &Path, agent: &Path, mode: u32, (uid, gid): (u32, u32)) -> Result<()> {
    // Below the store's path a socket's may be too long; below /proc/self/fd it is not.
    let above = at.parent().context("a socket has a directory")?;
    let dir = std::fs::File::open(above)?;
    let name = at.file_name().context("a socket has a name")?;
    let short = Path::new("/proc/self/fd").join(std::os::fd::AsRawFd::as_raw_fd(&dir).to_string()).join(name);
    let listener = UnixListener::bind(short).context("a socket for the agent")?;
    std::os::unix::fs::chown(at, Some(uid), Some(gid))?;
    std::fs::set_permissions(at, std::fs::Permissions::from_mode(mode))?;
    let agent = agent.to_owned();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            if let Ok(agent) = UnixStream::connect(&agent) {
                std::thread::spawn(move || relay(&client, &agent));
            }
        }
    });
    Ok(())
}

/// Both directions, until both have ended.
fn relay(client: &UnixStream, agent: &UnixStream) {
    std::thread::scope(|scope| {
        let pass = |mut from: &UnixStream, mut to: &UnixStream| {
            let _ = std::io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Write);
        };
        scope.spawn(move || pass(client, agent));
        pass(agent, client);
    });
}
