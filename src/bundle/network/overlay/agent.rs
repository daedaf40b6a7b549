//! Keeps a host's part of a network across hosts up to date: two threads in the network's name server. This one reads
//! all keys of the network, enters what follows from them, and then watches what changes. The other one
//! (`publish`) tells the others which containers run here.
//!
//! Where the watch breaks it is made again from where it ended, and where etcd has forgotten that point, all is read
//! again. What is in the kernel stays until it is known better.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::entries::{Effect, Entry, Members};
use super::etcd::{Pair, Settings};
use super::members::{Overlay, Running, read};
use super::publish::{self, Local};
use super::watch::{Change, Said};
use crate::network::link::{ALL, Links};
use crate::network::names::{THERE, log};

/// The file in a network's directory that an agent is made by. It may have a password in it: its mode is 0600.
pub const FILE: &str = "overlay";
/// How long to wait after a failure: at first, and at the most. It doubles.
const PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How long a start waits for what the other hosts have.
const FIRST: Duration = Duration::from_secs(2);

/// What an agent has to know.
#[derive(Serialize, Deserialize)]
pub struct Agent {
    /// The network's name in etcd.
    pub network: String,
    /// This host's id.
    pub host: String,
    /// The name of the vxlan link.
    pub device: String,
    /// How etcd is reached.
    pub etcd: Settings,
    /// How long the names of this host's containers stay when it vanishes, in seconds.
    #[serde(default = "life")]
    pub life: u64,
}

/// How long names stay that nobody renews, in seconds.
pub const LIFE: u64 = 60;

fn life() -> u64 {
    LIFE
}

/// An agent that is at work.
pub struct Working {
    synced: Receiver<()>,
    local: Sender<Local>,
}

impl Agent {
    /// Of the network with this directory; `None` for a network of this host alone.
    pub fn of(dir: &Path) -> Result<Option<Self>> {
        let path = dir.join(FILE);
        if path.exists() { crate::network::names::read(&path).map(Some) } else { Ok(None) }
    }

    /// Starts its threads, in the network namespace that the caller is in. They end with the process.
    pub fn start(self, dir: &Path) -> Result<Working> {
        let remote = dir.join(THERE);
        std::fs::create_dir_all(&remote).with_context(|| format!("making {}", remote.display()))?;
        let (first, synced) = channel();
        let (local, changes) = channel();
        let overlay = Overlay::open(&self.etcd, &self.network)?;
        let publisher = Overlay::open(&self.etcd, &self.network)?;
        let mut follower = Follower {
            overlay,
            links: Links::here()?,
            index: 0,
            members: Members::default(),
            running: HashMap::new(),
            next: 0,
            first: Some(first),
            agent: self,
            remote,
        };
        let (host, life) = (follower.agent.host.clone(), follower.agent.life);
        std::thread::Builder::new()
            .spawn(move || publish::publish(&publisher, &host, life, &changes))
            .context("a thread")?;
        std::thread::Builder::new().spawn(move || follower.follow()).context("a thread")?;
        Ok(Working { synced, local })
    }
}

impl Working {
    /// Waits until the other hosts' containers are known, but not for long: etcd may be away.
    pub fn first(&self) {
        let _ = self.synced.recv_timeout(FIRST);
    }

    /// Says which containers run here: their ids, addresses and names.
    pub fn local(&self, running: publish::Snapshot) {
        let _ = self.local.send(Local::Runs(running));
    }

    /// Says that none runs here any more, and waits until the others know, but not for long.
    pub fn end(self) {
        let (done, ended) = channel();
        let _ = self.local.send(Local::Ends(done));
        let _ = ended.recv_timeout(FIRST);
    }
}

/// Follows what the others say.
struct Follower {
    agent: Agent,
    overlay: Overlay,
    links: Links,
    /// The vxlan link's number.
    index: u32,
    members: Members,
    /// The ids of containers by their keys, as their files are.
    running: HashMap<String, Running>,
    remote: PathBuf,
    /// The revision to go on from; 0: all is to be read.
    next: i64,
    first: Option<Sender<()>>,
}

impl Follower {
    fn follow(&mut self) {
        let mut pause = PAUSE;
        loop {
            let before = self.next;
            let Err(error) = self.read_and_watch() else { continue };
            log(&format!("network {}: {error:#}", self.agent.network));
            pause = if self.next == before { LONGEST_PAUSE.min(pause * 2) } else { PAUSE };
            std::thread::sleep(pause);
        }
    }

    /// Until something fails, or is to be begun anew.
    fn read_and_watch(&mut self) -> Result<()> {
        if self.next == 0 {
            self.read_all()?;
            self.first.take();
        }
        let mut watch = self.overlay.client().watch(&self.overlay.prefix, self.next)?;
        loop {
            match watch.next()? {
                Said::Changes(changes, revision) => {
                    // Where one fails all is read again.
                    self.next = 0;
                    for change in &changes {
                        self.take_up(change)?;
                    }
                    self.next = revision + 1;
                }
                Said::Begun(revision) if revision >= self.next - 1 => {}
                // It has been set up anew or from an old copy, or has forgotten where we were.
                Said::Begun(_) | Said::Forgotten => {
                    self.next = 0;
                    return Ok(());
                }
                Said::Quiet => return Ok(()),
            }
        }
    }

    /// Reads all keys and brings the kernel and the files in line with them.
    fn read_all(&mut self) -> Result<()> {
        let (pairs, revision) = self.overlay.client().range(&self.overlay.prefix, false)?;
        if !pairs.iter().any(|it| it.key[self.overlay.prefix.len()..] == *"config") {
            bail!("it is not in etcd any more: what is known of other hosts is kept");
        }
        let link = self.links.find(&self.agent.device)?;
        self.index = link.with_context(|| format!("the link {} is gone", self.agent.device))?.index;
        self.members = Members::new(&self.agent.host);
        let mut running = HashMap::new();
        for pair in &pairs {
            let key = &pair.key[self.overlay.prefix.len()..];
            self.members.set(key, Some(pair));
            if let Some((id, it)) = self.runs(key, pair) {
                running.insert(id.to_owned(), it);
            }
        }
        self.bring_entries()?;
        self.bring_files(running)?;
        self.next = revision + 1;
        Ok(())
    }

    /// Has the kernel have what it is to have, and nothing else.
    fn bring_entries(&mut self) -> Result<()> {
        let forwards = self.links.forwardings(self.index)?.into_iter().filter(|it| it.0 != ALL);
        let forwards: HashSet<Entry> = forwards.map(|(mac, host)| Entry::Forward(mac, host)).collect();
        let neighbours = self.links.neighbours(self.index)?.into_iter().map(|(ip, mac)| Entry::Neighbour(ip, mac));
        let there: HashSet<Entry> = forwards.into_iter().chain(neighbours).collect();
        let wanted: HashSet<Entry> = self.members.entries().collect();
        let gone = there.difference(&wanted).copied().map(Effect::Remove);
        let new = wanted.difference(&there).copied().map(Effect::Add);
        gone.chain(new).try_for_each(|it| self.bring(it))
    }

    fn bring(&mut self, effect: Effect) -> Result<()> {
        match effect {
            Effect::Remove(Entry::Forward(mac, host)) => self.links.remove_forwarding(self.index, mac, host),
            Effect::Remove(Entry::Neighbour(address, _)) => self.links.remove_neighbour(self.index, address),
            Effect::Add(Entry::Forward(mac, host)) => self.links.add_forwarding(self.index, mac, host),
            Effect::Add(Entry::Neighbour(address, mac)) => self.links.add_neighbour(self.index, address, mac),
        }
    }

    fn take_up(&mut self, change: &Change) -> Result<()> {
        let (key, pair) = match change {
            Change::Put(pair) => (&pair.key, Some(pair)),
            Change::Deleted(key) => (key, None),
        };
        let Some(key) = key.strip_prefix(&self.overlay.prefix) else { return Ok(()) };
        let effects = self.members.set(key, pair);
        effects.into_iter().try_for_each(|it| self.bring(it))?;
        let Some(id) = key.strip_prefix("running/").filter(|it| harmless(it)) else { return Ok(()) };
        match pair.and_then(|it| self.runs(key, it)) {
            Some((_, it)) => self.write(id, &it)?,
            None => self.remove(id)?,
        }
        Ok(())
    }

    /// The container of another host that a key is about.
    fn runs<'a>(&self, key: &'a str, pair: &Pair) -> Option<(&'a str, Running)> {
        let id = key.strip_prefix("running/").filter(|it| harmless(it))?;
        read::<Running>(pair).ok().filter(|it| it.host != self.agent.host).map(|it| (id, it))
    }

    /// Has the name server find what runs elsewhere, and nothing else.
    fn bring_files(&mut self, running: HashMap<String, Running>) -> Result<()> {
        for entry in std::fs::read_dir(&self.remote).into_iter().flatten().flatten() {
            if let Some(name) = entry.file_name().to_str().filter(|it| !running.contains_key(*it)) {
                self.remove(name)?;
            }
        }
        running
            .iter()
            .filter(|(id, it)| self.running.get(*id) != Some(it))
            .try_for_each(|(id, it)| self.file(id, it))?;
        self.running = running;
        Ok(())
    }

    fn write(&mut self, id: &str, it: &Running) -> Result<()> {
        self.file(id, it)?;
        self.running.insert(id.into(), it.clone());
        Ok(())
    }

    fn file(&self, id: &str, it: &Running) -> Result<()> {
        let text = json!({"container": id, "addresses": it.addresses, "names": it.names}).to_string();
        let (new, path) = (self.remote.join(format!(".{id}")), self.remote.join(id));
        let written = std::fs::write(&new, text).and_then(|()| std::fs::rename(&new, &path));
        written.with_context(|| format!("writing {}", path.display()))
    }

    fn remove(&mut self, id: &str) -> Result<()> {
        self.running.remove(id);
        let path = self.remote.join(id);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("removing {}", path.display()))
            }
            _ => Ok(()),
        }
    }
}

/// Whether an id that another host wrote can be a file's name.
fn harmless(id: &str) -> bool {
    let plain = |it: u8| it.is_ascii_alphanumeric() || it == b'-' || it == b'_';
    !id.is_empty() && id.len() <= 128 && id.bytes().all(plain)
}
