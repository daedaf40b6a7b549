//! What a network is made of: the flags of `network create`, read and found to be possible. No effects, no machine.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result, bail};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use super::mac::Mac;
use crate::cli::network::Create;
use crate::container::units;

/// What carries its packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    /// A bridge of the host.
    Bridge,
    /// Devices with addresses of their own on a device of the host.
    Macvlan,
    /// Bridges of several hosts, joined by VXLAN (RFC 7348).
    Vxlan,
}

impl Driver {
    /// Its word on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::Macvlan => "macvlan",
            Self::Vxlan => "vxlan",
        }
    }
}

/// The addresses of one family.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnet {
    /// All of them.
    pub net: IpNet,
    /// The way out: the host's own address in it.
    pub gateway: IpAddr,
    /// Those that are handed out where nobody asks for one.
    pub range: IpNet,
    /// Those that never are, beside the gateway: they belong to somebody outside.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reserved: Vec<IpAddr>,
}

impl Subnet {
    /// The first and the last address that are handed out where nobody asks for one.
    pub fn bounds(&self) -> (IpAddr, IpAddr) {
        let last = match self.range {
            IpNet::V4(it) => IpAddr::V4(it.broadcast()),
            IpNet::V6(it) => IpAddr::V6(it.broadcast()),
        };
        (self.range.network(), last)
    }

    /// Whether a container can never have an address: the gateway, a reserved one, and in IPv4 the first and the last
    /// (RFC 919), in IPv6 the first (RFC 4291, 2.6.1).
    pub fn keeps(&self, address: IpAddr) -> bool {
        address == self.gateway
            || self.reserved.contains(&address)
            || address == self.net.network()
            || matches!(self.net, IpNet::V4(it) if address == it.broadcast())
    }
}

/// What a network over several hosts needs besides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vxlan {
    /// Its number, which tells its packets from other networks' (1 to 2^24 - 1); 0 where etcd is to give one.
    pub vni: u32,
    /// The UDP port that the hosts talk by.
    pub port: u16,
    /// The address that this host has for the others; unspecified where the way to etcd is to tell.
    pub local: IpAddr,
    /// The others, where no store tells of them.
    #[serde(default)]
    pub peers: Vec<IpAddr>,
    /// Where the hosts keep what they share: URLs of etcd.
    #[serde(default)]
    pub etcd: Vec<String>,
    /// Files of etcd's certificates: its authority's, our own, our key.
    #[serde(default)]
    pub ca: Option<String>,
    /// See `ca`.
    #[serde(default)]
    pub cert: Option<String>,
    /// See `ca`.
    #[serde(default)]
    pub key: Option<String>,
    /// etcd's user, and the file with the password.
    #[serde(default)]
    pub user: Option<String>,
    /// See `user`.
    #[serde(default)]
    pub password_file: Option<String>,
}

/// How a network was asked for. It is all that a start needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// What carries its packets.
    pub driver: Driver,
    /// Its addresses, at most one of each family, IPv4 first.
    pub subnets: Vec<Subnet>,
    /// Nothing goes in or out.
    pub internal: bool,
    /// Whether other networks of ours are kept out.
    pub isolate: bool,
    /// Whether names are answered.
    pub names: bool,
    /// Greatest packet, in bytes; `None`: the kernel's default.
    pub mtu: Option<u32>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// `--opt` as it was given.
    pub options: BTreeMap<String, String>,
    /// Of macvlan: the host's device, and the mode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// Of VXLAN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vxlan: Option<Vxlan>,
}

impl Settings {
    /// The subnet that an address is of.
    pub fn subnet_of(&self, address: IpAddr) -> Option<&Subnet> {
        self.subnets.iter().find(|it| it.net.contains(&address))
    }

    /// Whether an Ethernet address is the one of a container here that asks for none, or of the bridge.
    pub fn is_made_of_an_address(&self, mac: Mac) -> bool {
        self.subnets.first().is_some_and(|it| match (mac.0, it.net) {
            ([2, 0x42, a, b, c, d], IpNet::V4(net)) => net.contains(&Ipv4Addr::new(a, b, c, d)),
            ([2, 0x46, ..], IpNet::V6(_)) => true,
            _ => false,
        })
    }

    /// Whether containers have addresses of this family.
    pub fn has_v6(&self) -> bool {
        self.subnets.iter().any(|it| it.net.addr().is_ipv6())
    }
}

/// The network that containers are in where nobody names one.
pub fn usual(subnet: Subnet) -> Settings {
    Settings {
        driver: Driver::Bridge,
        subnets: vec![subnet],
        internal: false,
        isolate: true,
        names: true,
        mtu: None,
        labels: BTreeMap::new(),
        options: BTreeMap::new(),
        parent: None,
        vxlan: None,
    }
}

/// What no flag said, and is looked for on the machine: which subnets are free.
pub enum Missing {
    /// Of IPv4.
    V4,
    /// Of IPv6, unique local addresses (RFC 4193).
    V6,
}

/// Reads the flags. `free` gives a subnet where none is named.
pub fn read(args: &Create, free: &mut dyn FnMut(Missing) -> Result<IpNet>) -> Result<Settings> {
    let driver = match args.driver.as_str() {
        "bridge" => Driver::Bridge,
        "macvlan" => Driver::Macvlan,
        "vxlan" | "overlay" => Driver::Vxlan,
        other => bail!("--driver {other:?}: known are bridge, macvlan and vxlan"),
    };
    let mut options = BTreeMap::new();
    for text in &args.opt {
        let (key, value) =
            text.split_once('=').with_context(|| format!("--opt {text:?}: not of the form KEY=VALUE"))?;
        if options.insert(key.to_owned(), value.to_owned()).is_some() {
            bail!("--opt {key}: given twice");
        }
    }
    let mut left = options.clone();
    let mtu = left.remove("mtu").map(|text| mtu(&text)).transpose()?;
    let isolate = match left.remove("isolate").as_deref() {
        None | Some("true") => true,
        Some("false") => false,
        Some(other) => bail!("--opt isolate={other:?}: true or false"),
    };
    let parent = parent(driver, &mut left)?;
    let vxlan = vxlan(driver, args, &mut left)?;
    if let Some(key) = left.keys().next() {
        bail!("--opt {key}: the driver {} knows {}", driver.word(), known(driver));
    }
    if driver == Driver::Macvlan && args.internal {
        bail!("--internal: a macvlan's packets go straight to the wire, where nobody can hold them back");
    }
    let mut subnets = subnets(args)?;
    if driver == Driver::Macvlan && subnets.is_empty() {
        bail!("--subnet: a macvlan needs the subnet of the network that its parent is in");
    }
    if vxlan.is_some() && subnets.is_empty() {
        bail!("--subnet: a vxlan needs one that is the same on all hosts");
    }
    let any = |subnets: &[Subnet], v6: bool| subnets.iter().any(|it| it.net.addr().is_ipv6() == v6);
    if !any(&subnets, false) && !any(&subnets, true) {
        subnets.push(subnet(free(Missing::V4)?, None, None)?);
    }
    if args.ipv6 && !any(&subnets, true) {
        subnets.push(subnet(free(Missing::V6)?, None, None)?);
    }
    match_up(args, &mut subnets)?;
    subnets.sort_by_key(|it| it.net.addr().is_ipv6());
    let labels = units::labels(&args.label).context("--label")?.into_iter().collect();
    let names = !args.disable_dns;
    Ok(Settings { driver, subnets, internal: args.internal, isolate, names, mtu, labels, options, parent, vxlan })
}

fn known(driver: Driver) -> &'static str {
    match driver {
        Driver::Bridge => "mtu, isolate",
        Driver::Macvlan => "mtu, parent",
        Driver::Vxlan => {
            "mtu, isolate, vni, port, local, etcd, etcd-ca, etcd-cert, etcd-key, etcd-user, etcd-password-file"
        }
    }
}

/// The kernel's least for IPv4 (RFC 791) and its most.
fn mtu(text: &str) -> Result<u32> {
    let number = text.parse().ok().filter(|it| (68..=65535).contains(it));
    number.with_context(|| format!("--opt mtu={text:?}: a number of bytes from 68 to 65535"))
}

fn parent(driver: Driver, left: &mut BTreeMap<String, String>) -> Result<Option<String>> {
    if driver != Driver::Macvlan {
        return Ok(None);
    }
    let parent = left.remove("parent").context("--opt parent=DEVICE: a macvlan needs a device of the host")?;
    if parent.is_empty() || parent.len() > 15 || parent.contains(['/', ' ', '\0']) {
        bail!("--opt parent={parent:?}: not the name of a device");
    }
    Ok(Some(parent))
}

fn vxlan(driver: Driver, args: &Create, left: &mut BTreeMap<String, String>) -> Result<Option<Vxlan>> {
    if driver != Driver::Vxlan {
        if !args.peer.is_empty() {
            bail!("--peer: only the driver vxlan has other hosts");
        }
        return Ok(None);
    }
    let address = |what: &str, text: &str| -> Result<IpAddr> {
        text.parse().ok().with_context(|| format!("{what} {text:?}: not an address"))
    };
    let vni = match left.remove("vni") {
        Some(text) => {
            let vni = text.parse().ok().filter(|it| (1..1 << 24).contains(it));
            vni.with_context(|| format!("--opt vni={text:?}: a number from 1 to 16777215"))?
        }
        // Those who share a store of networks find one there.
        None if left.contains_key("etcd") => 0,
        None => bail!("--opt vni=NUMBER: a vxlan needs a number that is the same on all hosts"),
    };
    let port = match left.remove("port") {
        None => 4789,
        Some(text) => {
            let port = text.parse().ok().filter(|it| *it != 0);
            port.with_context(|| format!("--opt port={text:?}: a number from 1 to 65535"))?
        }
    };
    let local = match left.remove("local") {
        Some(text) => address("--opt local", &text)?,
        // Found out by the way to etcd.
        None if left.contains_key("etcd") => Ipv4Addr::UNSPECIFIED.into(),
        None => bail!("--opt local=ADDRESS: the address that this host has for the others"),
    };
    let peers = args.peer.iter().map(|it| address("--peer", it)).collect::<Result<Vec<_>>>()?;
    if let Some(bad) = peers.iter().find(|it| it.is_ipv6() != local.is_ipv6() || **it == local) {
        bail!("--peer {bad}: another host's address is wanted, of the same family as --opt local={local}");
    }
    let etcd: Vec<String> = left
        .remove("etcd")
        .map(|it| it.split([',', ';']).filter(|it| !it.is_empty()).map(str::to_owned).collect())
        .unwrap_or_default();
    if etcd.is_empty() == peers.is_empty() {
        bail!("a vxlan needs either --opt etcd=URL, by which the hosts find each other, or a --peer ADDRESS for each");
    }
    if let Some(bad) = etcd.iter().find(|it| !it.starts_with("http://") && !it.starts_with("https://")) {
        bail!("--opt etcd={bad:?}: not of the form http://HOST:PORT or https://HOST:PORT");
    }
    let mut file = |name: &str| left.remove(name);
    let vxlan = Vxlan {
        vni,
        port,
        local,
        peers,
        etcd,
        ca: file("etcd-ca"),
        cert: file("etcd-cert"),
        key: file("etcd-key"),
        user: file("etcd-user"),
        password_file: file("etcd-password-file"),
    };
    if vxlan.cert.is_some() != vxlan.key.is_some() {
        bail!("--opt etcd-cert and etcd-key: only together");
    }
    if vxlan.user.is_some() != vxlan.password_file.is_some() {
        bail!("--opt etcd-user and etcd-password-file: only together");
    }
    for (what, path) in [
        ("etcd-ca", &vxlan.ca),
        ("etcd-cert", &vxlan.cert),
        ("etcd-key", &vxlan.key),
        ("etcd-password-file", &vxlan.password_file),
    ] {
        if let Some(path) = path
            && !path.starts_with('/')
        {
            bail!("--opt {what}={path:?}: a whole path is wanted, for other commands to find it");
        }
    }
    Ok(Some(vxlan))
}

/// The subnets that are named, without their gateways and ranges yet.
fn subnets(args: &Create) -> Result<Vec<Subnet>> {
    let mut subnets: Vec<Subnet> = Vec::new();
    for text in &args.subnet {
        let net: IpNet = text
            .parse()
            .ok()
            .with_context(|| format!("--subnet {text:?}: not of the form ADDRESS/PREFIX, such as 10.80.0.0/24"))?;
        if net.trunc() != net {
            bail!("--subnet {text}: the address has bits behind the prefix: {} is meant?", net.trunc());
        }
        let (least, most) = if net.addr().is_ipv6() { (8, 126) } else { (8, 30) };
        if !(least..=most).contains(&net.prefix_len()) {
            bail!("--subnet {text}: a prefix from /{least} to /{most} has room for containers");
        }
        if !usable(net) {
            bail!("--subnet {text}: these addresses are not for a network's members (RFC 6890)");
        }
        if let Some(other) = subnets.iter().find(|it| it.net.addr().is_ipv6() == net.addr().is_ipv6()) {
            bail!("--subnet {text}: there is {} of this family already, and a network has one", other.net);
        }
        subnets.push(subnet(net, None, None)?);
    }
    Ok(subnets)
}

/// Whether a subnet can be a network's: not loopback, link-local, multicast, unspecified.
fn usable(net: IpNet) -> bool {
    let never: [IpNet; 7] = [
        Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8).into(),
        Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 8).into(),
        Ipv4Net::new_assert(Ipv4Addr::new(169, 254, 0, 0), 16).into(),
        Ipv4Net::new_assert(Ipv4Addr::new(224, 0, 0, 0), 3).into(),
        Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 96).into(),
        Ipv6Net::new_assert(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10).into(),
        Ipv6Net::new_assert(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8).into(),
    ];
    !never.iter().any(|it| overlap(*it, net))
}

/// Whether two subnets have addresses in common.
pub fn overlap(one: IpNet, other: IpNet) -> bool {
    one.contains(&other) || other.contains(&one)
}

/// A subnet with what is usual: the first address for the host, all others for containers.
pub fn subnet(net: IpNet, gateway: Option<IpAddr>, range: Option<IpNet>) -> Result<Subnet> {
    let first = match net.network() {
        IpAddr::V4(it) => IpAddr::from(Ipv4Addr::from_bits(it.to_bits() + 1)),
        IpAddr::V6(it) => IpAddr::from(Ipv6Addr::from_bits(it.to_bits() + 1)),
    };
    let it = Subnet { net, gateway: gateway.unwrap_or(first), range: range.unwrap_or(net), reserved: vec![] };
    let gateway = it.gateway;
    if !net.contains(&gateway) {
        bail!("--gateway {gateway}: not within {net}");
    }
    if gateway == net.network() || matches!(net, IpNet::V4(it) if gateway == it.broadcast()) {
        bail!("--gateway {gateway}: the first and the last address of {net} are no host's");
    }
    Ok(it)
}

/// Gives each `--gateway`, `--ip-range` and `--aux-address` to the subnet that it is of.
fn match_up(args: &Create, subnets: &mut [Subnet]) -> Result<()> {
    let mut seen = Vec::new();
    for text in &args.gateway {
        let gateway: IpAddr = text.parse().ok().with_context(|| format!("--gateway {text:?}: not an address"))?;
        let it = subnets.iter_mut().find(|it| it.net.contains(&gateway));
        let it = it.with_context(|| format!("--gateway {gateway}: not within a subnet of this network"))?;
        if seen.contains(&it.net) {
            bail!("--gateway {gateway}: {} has one already", it.net);
        }
        seen.push(it.net);
        *it = subnet(it.net, Some(gateway), Some(it.range))?;
    }
    seen.clear();
    for text in &args.ip_range {
        let range: IpNet =
            text.parse().ok().with_context(|| format!("--ip-range {text:?}: not of the form ADDRESS/PREFIX"))?;
        let range = range.trunc();
        let it = subnets.iter_mut().find(|it| it.net.contains(&range));
        let it = it.with_context(|| format!("--ip-range {range}: not within a subnet of this network"))?;
        if seen.contains(&it.net) {
            bail!("--ip-range {range}: {} has one already", it.net);
        }
        seen.push(it.net);
        it.range = range;
    }
    for text in &args.aux_address {
        let address = text.split_once('=').map_or(text.as_str(), |it| it.1);
        let address: IpAddr =
            address.parse().ok().with_context(|| format!("--aux-address {text:?}: not of the form NAME=ADDRESS"))?;
        let it = subnets.iter_mut().find(|it| it.net.contains(&address));
        let it = it.with_context(|| format!("--aux-address {address}: not within a subnet of this network"))?;
        it.reserved.push(address);
    }
    Ok(())
}

/// The first of the subnets that are tried one after the other which overlaps nothing that is taken. The first
/// network gets a /16, as there will be most containers in it.
pub fn free_v4(taken: &[IpNet], first: bool) -> Option<IpNet> {
    let free = |it: &IpNet| !taken.iter().any(|other| overlap(*it, *other));
    let net = |a, b, c, prefix| IpNet::from(Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, 0), prefix));
    let wide = (80..96).map(|it| net(10, it, 0, 16));
    let narrow = (96..=255).flat_map(|b| (0..=255).map(move |c| net(10, b, c, 24)));
    let others = (16..32).flat_map(|b| (0..=255).map(move |c| net(172, b, c, 24)));
    let last = (0..=255).map(|c| net(192, 168, c, 24));
    let narrow = narrow.chain(others).chain(last);
    if first { wide.chain(narrow).find(free) } else { narrow.into_iter().find(free) }
}

/// A random unique local subnet (RFC 4193, 3.2.2) that overlaps nothing that is taken.
pub fn free_v6(taken: &[IpNet], random: &mut dyn FnMut() -> Result<u64>) -> Result<IpNet> {
    loop {
        let number = random()?;
        let bits = 0xfd << 120 | u128::from(number & 0x00ff_ffff_ffff_ffff) << 64;
        let net = IpNet::from(Ipv6Net::new_assert(Ipv6Addr::from_bits(bits), 64));
        if !taken.iter().any(|it| overlap(net, *it)) {
            return Ok(net);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        create: Create,
    }

    fn parse(words: &str) -> Result<Settings> {
        let words = ["x"].into_iter().chain(words.split(' ').filter(|it| !it.is_empty())).chain(["net"]);
        let args = Line::try_parse_from(words).map_err(|error| anyhow::anyhow!("{error}"))?.create;
        read(&args, &mut |missing| {
            Ok(match missing {
                Missing::V4 => "10.99.0.0/24".parse().unwrap(),
                Missing::V6 => "fd00:1::/64".parse().unwrap(),
            })
        })
    }

    #[test]
    fn what_is_usual() {
        let it = parse("").unwrap();
        assert_eq!((it.driver, it.isolate, it.internal, it.mtu), (Driver::Bridge, true, false, None));
        assert_eq!(it.subnets.len(), 1);
        assert_eq!(it.subnets[0].gateway, "10.99.0.1".parse::<IpAddr>().unwrap());
        let it = parse("--ipv6 --internal --opt mtu=1400 --opt isolate=false --label a=b").unwrap();
        assert_eq!(it.subnets[1].net, "fd00:1::/64".parse().unwrap());
        assert_eq!(it.subnets[1].gateway, "fd00:1::1".parse::<IpAddr>().unwrap());
        assert!(it.internal && !it.isolate && it.mtu == Some(1400) && it.labels["a"] == "b");
    }

    #[test]
    fn what_is_given_is_taken() {
        let it = parse("--subnet fd00::/64 --subnet 10.1.0.0/16 --gateway 10.1.255.254 --ip-range 10.1.8.0/24 --aux-address x=10.1.8.7").unwrap();
        let v4 = &it.subnets[0];
        assert_eq!(v4.gateway, "10.1.255.254".parse::<IpAddr>().unwrap());
        assert_eq!(v4.range, "10.1.8.0/24".parse().unwrap());
        assert!(v4.keeps("10.1.8.7".parse().unwrap()) && v4.keeps("10.1.0.0".parse().unwrap()));
        assert!(v4.keeps("10.1.255.255".parse().unwrap()) && !v4.keeps("10.1.8.0".parse().unwrap()));
        let it =
            parse("--driver vxlan --subnet 10.1.0.0/24 --opt vni=7 --opt local=192.0.2.1 --peer 192.0.2.2").unwrap();
        assert_eq!(it.vxlan.unwrap().peers.len(), 1);
        let it = parse("--driver macvlan --subnet 10.1.0.0/24 --opt parent=eth0").unwrap();
        assert_eq!(it.parent.as_deref(), Some("eth0"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (words, text) in [
            ("--driver tunnel", "--driver"),
            ("--subnet 10.0.0.1/24", "10.0.0.0/24 is meant"),
            ("--subnet 10.0.0.0", "ADDRESS/PREFIX"),
            ("--subnet 10.0.0.0/31", "/8 to /30"),
            ("--subnet 10.0.0.0/7", "/8 to /30"),
            ("--subnet 127.0.0.0/16", "6890"),
            ("--subnet 224.0.0.0/24", "6890"),
            ("--subnet 169.254.0.0/24", "6890"),
            ("--subnet fe80::/64", "6890"),
            ("--subnet ::/8", "6890"),
            ("--subnet 10.0.0.0/24 --subnet 10.1.0.0/24", "of this family already"),
            ("--gateway 10.1.0.1", "not within"),
            ("--subnet 10.0.0.0/24 --gateway 10.0.1.1", "not within"),
            ("--subnet 10.0.0.0/24 --gateway 10.0.0.255", "the first and the last"),
            ("--subnet 10.0.0.0/24 --gateway 10.0.0.0", "the first and the last"),
            ("--subnet 10.0.0.0/24 --gateway x", "not an address"),
            ("--subnet 10.0.0.0/24 --gateway 10.0.0.1 --gateway 10.0.0.2", "has one already"),
            ("--subnet 10.0.0.0/24 --ip-range 10.0.1.0/25", "not within"),
            ("--subnet 10.0.0.0/24 --ip-range 10.0.0.0/16", "not within"),
            ("--subnet 10.0.0.0/24 --aux-address a=10.1.0.1", "not within"),
            ("--opt mtu=1", "68"),
            ("--opt mtu=65536", "65535"),
            ("--opt color=red", "knows mtu"),
            ("--opt mtu", "KEY=VALUE"),
            ("--opt mtu=1400 --opt mtu=1500", "twice"),
            ("--opt isolate=maybe", "true or false"),
            ("--peer 10.0.0.1", "--peer"),
            ("--driver macvlan --subnet 10.0.0.0/24", "parent"),
            ("--driver macvlan --opt parent=eth0", "--subnet"),
            ("--driver macvlan --internal --subnet 10.0.0.0/24 --opt parent=eth0", "--internal"),
            ("--driver vxlan --subnet 10.0.0.0/24", "vni"),
            ("--driver vxlan --opt vni=0", "vni"),
            ("--driver vxlan --opt vni=1", "local"),
            ("--driver vxlan --opt vni=1 --opt local=10.0.0.1", "either"),
            ("--driver vxlan --opt vni=1 --opt local=10.0.0.1 --peer ::1", "same family"),
            ("--driver vxlan --opt vni=1 --opt local=10.0.0.1 --opt etcd=host", "http://"),
            ("--driver vxlan --opt vni=1 --opt local=10.0.0.1 --peer 10.0.0.2", "--subnet"),
            ("--driver vxlan --opt vni=1 --opt local=10.0.0.1 --opt etcd=http://a --opt etcd-user=u", "together"),
            ("--driver vxlan --opt vni=1 --opt local=10.0.0.1 --opt etcd=http://a --opt etcd-ca=u", "whole path"),
        ] {
            let error = format!("{:#}", parse(words).unwrap_err());
            assert!(error.contains(text), "{words}: {error}");
        }
    }

    #[test]
    fn free_subnets_overlap_nothing() {
        let mut taken: Vec<IpNet> = vec!["10.80.0.0/15".parse().unwrap(), "10.96.0.0/20".parse().unwrap()];
        assert_eq!(free_v4(&taken, true), Some("10.82.0.0/16".parse().unwrap()));
        for _ in 0..300 {
            let net = free_v4(&taken, false).unwrap();
            assert!(!taken.iter().any(|it| overlap(*it, net)), "{net}");
            taken.push(net);
        }
        taken.push("0.0.0.0/0".parse().unwrap());
        assert_eq!(free_v4(&taken, true), None);
        let mut numbers = [7, 7, 8].into_iter();
        let mut random = || Ok(numbers.next().unwrap());
        let first = free_v6(&[], &mut random).unwrap();
        assert_ne!(free_v6(&[first], &mut random).unwrap(), first);
        assert!(first.to_string().starts_with("fd00:"), "{first}");
    }
}
