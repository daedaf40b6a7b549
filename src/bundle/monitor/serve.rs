//! What clients ask of the monitor.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::clients::Client;
use super::{Monitor, Phase, Stopping, talk};
use crate::container::state::Status;
use talk::End;

impl Monitor {
    /// New clients, and what the old ones say.
    pub(super) fn serve_clients(&mut self) {
        while let Some(listener) = &self.listener
            && let Ok(socket) = rustix::net::accept_with(listener, rustix::net::SocketFlags::CLOEXEC)
        {
            self.clients.push(Client::new(socket));
        }
        let mut clients = std::mem::take(&mut self.clients);
        for client in &mut clients {
            client.retry();
            // Input that the program has not taken holds its sender back.
            while (!client.attached || self.streams.waiting.is_empty())
                && let Some(length) = client.receive(&mut self.buffer)
            {
                let packet = self.buffer[..length].to_vec();
                self.obey(client, packet[0], &packet[1..]);
            }
            if client.is_gone() && client.first && client.attached && self.plan.input_once {
                self.streams.ending = true;
                self.streams.feed();
            }
        }
        clients.retain(|it| !it.is_gone());
        if self.held && !clients.iter().any(|it| it.holds) {
            self.held = false;
            if !self.state.paused {
                let _ = self.runtime.run(&["resume", &self.plan.id]);
            }
        }
        self.clients = clients;
        self.streams.feed();
    }

    fn obey(&mut self, client: &mut Client, kind: u8, bytes: &[u8]) {
        match (kind, bytes) {
            (talk::ATTACH, _) => (client.attached, client.lossless) = (true, bytes == b"1"),
            (talk::INPUT, _) if self.plan.input && !self.streams.ending => {
                self.streams.waiting.extend_from_slice(bytes);
                self.streams.feed();
            }
            (talk::INPUT_END, _) if self.plan.input_once && client.first => {
                self.streams.ending = true;
                self.streams.feed();
            }
            (talk::SIZE, [a, b, c, d]) => {
                let (rows, columns) = (u16::from_le_bytes([*a, *b]), u16::from_le_bytes([*c, *d]));
                self.plan.size = Some((rows, columns));
                self.streams.resize(rows, columns);
            }
            (talk::SIGNAL, [signal]) => self.signal(i32::from(*signal)),
            (talk::PAUSED, [paused]) => {
                self.state.paused = *paused == b'1';
                self.note();
            }
            (talk::HOLD, _) => {
                let held = self.hold(client);
                let mut answer = vec![talk::HELD];
                answer.extend(held.err().map(|it| format!("{it:#}")).unwrap_or_default().as_bytes());
                client.send(&answer);
            }
            (talk::STOP, _) => {
                if let Ok(stop) = serde_json::from_slice(bytes) {
                    let _ = self.stop(&stop, true);
                }
            }
            (talk::CHANGE, _) => {
                if let Ok(change) = serde_json::from_slice::<talk::Change>(bytes) {
                    self.plan.restart = change.restart.unwrap_or(self.plan.restart);
                    self.plan.name = change.name.unwrap_or_else(|| std::mem::take(&mut self.plan.name));
                }
            }
            _ => {}
        }
    }

    /// Freezes the container while a client reads its files. What is frozen already is left as it is.
    fn hold(&mut self, client: &mut Client) -> Result<()> {
        if !matches!(self.phase, Phase::Running(None)) {
            bail!("it is not running just now");
        }
        if !self.state.paused && !self.held {
            self.runtime.run(&["pause", &self.plan.id])?;
        }
        (client.holds, self.held) = (true, true);
        Ok(())
    }

    /// Sends the first process a signal.
    pub(super) fn signal(&self, signal: i32) {
        if let Some(init) = &self.init {
            crate::sys::send_signal(&init.pidfd, signal);
        }
    }

    pub(super) fn stop(&mut self, stop: &talk::Stop, by_hand: bool) -> Result<()> {
        if by_hand && !self.state.stopped {
            self.state.stopped = true;
            self.note();
        }
        let seconds = stop.timeout.unwrap_or(self.plan.stop_timeout);
        let kill = u64::try_from(seconds).ok().and_then(|it| Instant::now().checked_add(Duration::from_secs(it)));
        let signal = stop.signal.unwrap_or(self.plan.stop_signal);
        self.stopping = Some(Stopping { signal, kill, killed: false });
        if let Phase::Waiting(_) = self.phase {
            let status = self.state.exit.unwrap_or(0);
            self.state.status = Status::Exited;
            self.keep()?;
            self.over(End { status, error: None, again: false }, None);
            return Ok(());
        }
        self.signal(signal);
        self.thaw();
        Ok(())
    }

    /// A frozen container does not take its signals.
    pub(super) fn thaw(&mut self) {
        if (self.state.paused || self.held) && self.runtime.run(&["resume", &self.plan.id]).is_ok() {
            (self.state.paused, self.held) = (false, false);
            self.note();
        }
    }
}
