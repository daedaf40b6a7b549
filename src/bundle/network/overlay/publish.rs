//! Tells the other hosts which containers run here. Their keys belong to a lease of etcd that is renewed: when this
//! host vanishes, they go by themselves.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use anyhow::Result;

use super::etcd::Op;
use super::members::{Overlay, Running};
use crate::network::names::log;

/// How long to wait after a failure.
const PAUSE: Duration = Duration::from_secs(2);
/// How many steps a transaction of etcd may have, at the most (its --max-txn-ops).
const MOST_STEPS: usize = 100;

/// The containers that run here, by their ids: their addresses and names.
pub type Snapshot = BTreeMap<String, (Vec<IpAddr>, Vec<String>)>;

/// What the name server says.
pub enum Local {
    /// These run.
    Runs(Snapshot),
    /// None does any more; who waits is to be told when the others know.
    Ends(Sender<()>),
}

struct Publisher<'a> {
    overlay: &'a Overlay,
    host: &'a str,
    /// The lease; 0: there is none.
    lease: i64,
    /// What the others have been told.
    told: Snapshot,
    renewed: Instant,
    /// How often it is renewed.
    renewal: Duration,
    life: u64,
}

/// Until the end is told, or whoever would tell it is gone. Names stay for `life` seconds when we vanish.
pub fn publish(overlay: &Overlay, host: &str, life: u64, changes: &Receiver<Local>) {
    let renewal = Duration::from_secs(life) / 3;
    let (told, renewed) = (Snapshot::new(), Instant::now());
    let mut publisher = Publisher { overlay, host, lease: 0, told, renewed, renewal, life };
    let (mut wanted, mut due) = (Snapshot::new(), Instant::now() + renewal);
    loop {
        match changes.recv_timeout(due.saturating_duration_since(Instant::now())) {
            Ok(Local::Runs(it)) => wanted = it,
            Ok(Local::Ends(done)) => {
                publisher.end();
                let _ = done.send(());
                return;
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        due = match publisher.bring(&wanted) {
            Ok(()) => publisher.renewed + renewal,
            Err(error) => {
                log(&format!("telling other hosts what runs here: {error:#}"));
                Instant::now() + PAUSE
            }
        };
    }
}

impl Publisher<'_> {
    /// Has the others know what is wanted.
    fn bring(&mut self, wanted: &Snapshot) -> Result<()> {
        let client = self.overlay.client();
        if self.lease != 0 && self.renewed.elapsed() >= self.renewal {
            if !client.keep(self.lease)? {
                // We were away for too long, and all is gone.
                self.lease = 0;
            }
            self.renewed = Instant::now();
        }
        if self.lease == 0 {
            self.lease = client.grant(self.life)?;
            self.renewed = Instant::now();
            self.told.clear();
        }
        let new: Vec<_> = wanted.iter().filter(|(id, it)| self.told.get(*id) != Some(it)).collect();
        let gone: Vec<_> = self.told.keys().filter(|it| !wanted.contains_key(*it)).cloned().collect();
        let key = |id: &str| format!("{}running/{id}", self.overlay.prefix);
        for some in new.chunks(MOST_STEPS) {
            let mut pairs = Vec::new();
            for (id, (addresses, names)) in some {
                let (host, addresses, names) = (self.host.to_owned(), addresses.clone(), names.clone());
                pairs.push((key(id), serde_json::to_vec(&Running { host, addresses, names })?));
            }
            client.apply(&pairs.iter().map(|(key, value)| Op::Put(key, value, self.lease)).collect::<Vec<_>>())?;
            self.told.extend(some.iter().map(|(id, it)| ((*id).clone(), (*it).clone())));
        }
        for some in gone.chunks(MOST_STEPS) {
            let keys: Vec<String> = some.iter().map(|it| key(it)).collect();
            client.apply(&keys.iter().map(|it| Op::Delete(it)).collect::<Vec<_>>())?;
            self.told.retain(|it, _| !some.contains(it));
        }
        Ok(())
    }

    /// With the lease all goes at once.
    fn end(&mut self) {
        if self.lease != 0
            && let Err(error) = self.overlay.client().revoke(self.lease)
        {
            log(&format!("telling other hosts that nothing runs here: {error:#}"));
        }
    }
}
