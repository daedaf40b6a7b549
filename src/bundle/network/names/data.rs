//! Who is in which network. Each running container has a file in the directory `containers` of each of its networks;
//! what the containers of other hosts are called lies in `remote` in the same form. The directories are watched, of
//! all networks, since a container may be in several; files of other networks than ours are read only when one of our
//! containers turns out to be in there too.

use std::collections::{BTreeMap, HashMap};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

use super::network::{HERE, Network, THERE, read};

/// What is watched.
enum Watched {
    /// The directory of all networks.
    All,
    /// A network's directory of containers, and which of the two.
    Members(String, &'static str),
}

/// All networks of this host, as seen by the server of one of them.
pub struct Networks {
    inotify: OwnedFd,
    root: PathBuf,
    /// The name of our own network's directory.
    own: String,
    all: BTreeMap<String, Network>,
    watches: HashMap<i32, Watched>,
    /// Whether the directory of our network's containers is gone.
    gone: bool,
    /// How often it has changed who is in our network, of this host.
    changed: u64,
}

impl Networks {
    /// Watches the networks that lie beside this one, and reads this one.
    pub fn open(dir: &Path) -> Result<Self> {
        let (root, own) = dir.parent().zip(dir.file_name()).context("a network's directory has a name")?;
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)
            .context("inotify (the host's limit is fs.inotify.max_user_instances)")?;
        let mut networks = Self {
            inotify,
            root: root.into(),
            own: own.to_string_lossy().into_owned(),
            all: BTreeMap::new(),
            watches: HashMap::new(),
            gone: false,
            changed: 0,
        };
        let own = networks.own.clone();
        // Ours has to be whole.
        let mut network = Network::open(dir);
        (network.config, network.loaded) = (read(&dir.join("network"))?, true);
        networks.all.insert(own.clone(), network);
        networks.watch(root, WatchFlags::empty(), Watched::All)?;
        networks.watch_members(&own)?;
        networks.look_beside();
        Ok(networks)
    }

    /// What tells that there is something to [`update`](Self::update).
    pub fn changes(&self) -> &OwnedFd {
        &self.inotify
    }

    /// Our own network.
    pub fn own(&self) -> &Network {
        &self.all[&self.own]
    }

    /// All networks.
    pub fn all(&self) -> impl Iterator<Item = &Network> {
        self.all.values()
    }

    /// Whether no container of this host is in our network any more.
    pub fn over(&self) -> bool {
        self.gone || !self.own().in_use()
    }

    /// A number that is another one when somebody else is in our network, of this host.
    pub fn changed(&self) -> u64 {
        self.changed
    }

    /// Whether our network's directory has been removed.
    pub fn gone(&self) -> bool {
        self.gone
    }

    /// The networks that a member of ours is in, our own first.
    pub fn of(&mut self, member: Option<&str>) -> Vec<&Network> {
        let Some(member) = member else { return vec![self.own()] };
        self.watch_rest();
        let shared = |(name, it): &(&String, &Network)| **name != self.own && it.has(member);
        let unseen = |it: &Network| !it.watched[1] || !it.loaded;
        let names: Vec<_> = self.all.iter().filter(shared).filter(|it| unseen(it.1)).map(|it| it.0.clone()).collect();
        for name in names {
            // Who runs on other hosts may be known only by now.
            let before = self.all.get(&name).map(|it| it.watched);
            let _ = self.watch_where_not(&name);
            if let Some(network) = self.all.get_mut(&name)
                && (!network.loaded || before != Some(network.watched))
            {
                network.loaded = true;
                network.scan();
            }
        }
        let others = self.all.iter().filter(|(name, it)| **name != self.own && it.has(member));
        std::iter::once(self.own()).chain(others.map(|(_, it)| it)).collect()
    }

    /// Takes up what has changed.
    pub fn update(&mut self) -> Result<()> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.inotify, &mut buffer);
        let mut changes = Vec::new();
        loop {
            match reader.next() {
                Ok(it) => {
                    let name = it.file_name().and_then(|it| it.to_str().ok()).unwrap_or_default();
                    changes.push((it.wd(), it.events(), name.to_owned()));
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(error) => return Err(error).context("reading what has changed"),
            }
        }
        for (watch, what, name) in changes {
            self.apply(watch, what, &name);
        }
        Ok(())
    }

    fn apply(&mut self, watch: i32, what: ReadFlags, name: &str) {
        if what.contains(ReadFlags::QUEUE_OVERFLOW) {
            self.look_beside();
            self.all.values_mut().for_each(Network::scan);
            self.changed += 1;
            return;
        }
        match self.watches.get(&watch) {
            Some(Watched::All) if !name.is_empty() && !what.intersects(ReadFlags::DELETE | ReadFlags::MOVED_FROM) => {
                self.look_at(name);
            }
            Some(Watched::Members(network, place)) => {
                let (network, place) = (network.clone(), *place);
                self.changed += u64::from(network == self.own && place == HERE);
                if what.contains(ReadFlags::IGNORED) {
                    self.watches.remove(&watch);
                    self.lost(&network, place);
                } else if let Some(network) = self.all.get_mut(&network).filter(|_| !name.starts_with('.')) {
                    let member = format!("{place}/{name}");
                    if what.intersects(ReadFlags::DELETE | ReadFlags::MOVED_FROM) {
                        network.remove(&member);
                    } else if !name.is_empty() {
                        network.put(&member);
                    }
                }
            }
            _ => {}
        }
    }

    /// A directory of members is gone, and with it those who are there.
    fn lost(&mut self, name: &str, place: &str) {
        if place == HERE {
            if name == self.own {
                self.gone = true;
            } else {
                self.all.remove(name);
            }
        } else if let Some(network) = self.all.get_mut(name) {
            network.watched[1] = false;
            network.scan();
        }
    }

    /// Takes up networks that are not known yet.
    fn look_beside(&mut self) {
        for entry in std::fs::read_dir(&self.root).into_iter().flatten().flatten() {
            if let Some(name) = entry.file_name().to_str() {
                self.look_at(name);
            }
        }
    }

    fn look_at(&mut self, name: &str) {
        if name.starts_with('.') || self.all.contains_key(name) || !self.root.join(name).is_dir() {
            return;
        }
        // Its directory may be there before its file is: it is then found by who asks next.
        let network = Network::open(&self.root.join(name));
        self.all.insert(name.into(), network);
        let _ = self.watch_members(name);
    }

    /// Watches what was not there yet when its network was found.
    fn watch_rest(&mut self) {
        let unread = |it: &Network| it.config.name.is_empty() || !it.watched[0];
        let names: Vec<String> = self.all.iter().filter(|(_, it)| unread(it)).map(|it| it.0.clone()).collect();
        for name in names {
            if !self.root.join(&name).is_dir() {
                self.all.remove(&name);
                continue;
            }
            if let Some(network) = self.all.get_mut(&name)
                && let Ok(config) = read(&network.dir.join("network"))
            {
                network.config = config;
            }
            let _ = self.watch_members(&name);
        }
    }

    /// Watches a network's members; then reads them, so that none is missed in between.
    fn watch_members(&mut self, name: &str) -> Result<()> {
        self.watch_where_not(name)?;
        if let Some(network) = self.all.get_mut(name) {
            network.scan();
        }
        Ok(())
    }

    fn watch_where_not(&mut self, name: &str) -> Result<()> {
        for (at, place) in [HERE, THERE].into_iter().enumerate() {
            let Some(network) = self.all.get(name) else { break };
            if network.watched[at] {
                continue;
            }
            let path = network.dir.join(place);
            match self.watch(&path, WatchFlags::ONLYDIR, Watched::Members(name.into(), place)) {
                Ok(()) => self.all.get_mut(name).expect("it was there").watched[at] = true,
                Err(error) if place == HERE => return Err(error),
                // Most networks are on this host alone.
                Err(_) => {}
            }
        }
        Ok(())
    }

    fn watch(&mut self, path: &Path, flags: WatchFlags, what: Watched) -> Result<()> {
        let changes = WatchFlags::MOVED_TO | WatchFlags::MOVED_FROM | WatchFlags::DELETE | WatchFlags::CLOSE_WRITE;
        let made = if matches!(what, Watched::All) { WatchFlags::CREATE } else { WatchFlags::empty() };
        let watch = inotify::add_watch(&self.inotify, path, changes | made | flags)
            .with_context(|| format!("watching {}", path.display()))?;
        self.watches.insert(watch, what);
        Ok(())
    }
}
