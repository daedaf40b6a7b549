//! Links in namespaces of the test's own.

use std::os::fd::AsFd;
use std::path::Path;

use super::read::{Address, Route};
use super::*;

const MAC: Mac = [2, 0, 0, 0, 0, 1];

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn a_bridge_is_made_once_and_completed() {
    let (_host, mut links) = new_namespace().unwrap();
    assert!(!links.find("lo").unwrap().unwrap().up);
    let wanted = [(ip("10.88.0.1"), 16), (ip("fd00::1"), 64)];
    assert!(links.bridge("br-a", 1400, MAC, &wanted).unwrap());
    assert!(!links.bridge("br-a", 1300, [2, 0, 0, 0, 0, 2], &wanted).unwrap());
    let link = links.find("br-a").unwrap().unwrap();
    assert_eq!((link.kind.as_str(), link.mtu, link.mac, link.up), ("bridge", 1300, Some([2, 0, 0, 0, 0, 2]), true));
    let addresses = links.addresses(Some(link.index)).unwrap();
    for (address, prefix) in wanted {
        assert!(addresses.contains(&Address { index: link.index, ip: address, prefix }), "{addresses:?}");
    }
    let routes = links.routes().unwrap();
    assert!(
        routes.contains(&Route { to: (ip("10.88.0.0"), 16), gateway: None, index: Some(link.index) }),
        "{routes:?}"
    );
    assert!(routes.iter().any(|it| it.to == (ip("fd00::"), 64)), "{routes:?}");
    links.remove("br-a").unwrap();
    links.remove("br-a").unwrap();
    assert_eq!(links.find("br-a").unwrap(), None);
}

#[test]
fn what_fails_names_the_link_and_leaves_nothing() {
    let (_host, mut links) = new_namespace().unwrap();
    let (container, mut inner) = new_namespace().unwrap();
    links.macvlan(1, "never", container.as_fd(), None, None).unwrap_err();
    assert!(links.bridge("br-a", 1500, MAC, &[]).unwrap());
    let bridge = links.find("br-a").unwrap().unwrap().index;
    let veth = |name, peer, master| Veth {
        name,
        bridge: master,
        peer,
        namespace: container.as_fd(),
        mac: None,
        mtu: 1500,
        hairpin: true,
        isolated: false,
    };
    links.veth(&veth("v-1", "eth0", bridge)).unwrap();
    let said = format!("{:#}", links.bridge("v-1", 1500, MAC, &[]).unwrap_err());
    assert!(said.contains("v-1") && said.contains("no bridge"), "{said}");
    let said = format!("{:#}", links.veth(&veth("v-2", "eth0", bridge)).unwrap_err());
    assert!(said.contains("v-2") && said.contains("File exists"), "{said}");
    let said = format!("{:#}", links.veth(&veth("v-3", "eth1", 999)).unwrap_err());
    assert!(said.contains("v-3"), "{said}");
    let names = |links: &mut Links| links.list().unwrap().into_iter().map(|it| it.name).collect::<Vec<_>>();
    assert_eq!(names(&mut links).iter().filter(|it| it.starts_with('v')).collect::<Vec<_>>(), ["v-1"]);
    assert!(!names(&mut inner).contains(&"eth1".to_owned()));
    let said = format!("{:#}", links.bridge("br-b", 1500, MAC, &[(ip("10.0.0.1"), 33)]).unwrap_err());
    assert!(said.contains("br-b") && said.contains("10.0.0.1/33"), "{said}");
    assert!(!names(&mut links).contains(&"br-b".to_owned()));
    links.up("none-such").unwrap_err();
}

#[test]
fn a_containers_links() {
    let (_host, mut links) = new_namespace().unwrap();
    let (container, mut inner) = new_namespace().unwrap();
    links.bridge("br-a", 1500, MAC, &[(ip("10.88.0.1"), 24), (ip("fd00::1"), 64)]).unwrap();
    let bridge = links.find("br-a").unwrap().unwrap().index;
    let mac = Some([2, 0, 0, 0, 0, 9]);
    let namespace = container.as_fd();
    let (name, peer) = ("v-1", "eth0");
    links.veth(&Veth { name, bridge, peer, namespace, mac, mtu: 1450, hairpin: true, isolated: true }).unwrap();
    let read = |path: &str| inside(namespace, || ()).map(|()| Path::new(path).exists()).unwrap();
    assert!(!read("/sys/class/net/v-1"), "back in the namespace of the test, which has no such link");
    inner.up("lo").unwrap();
    inner.up("eth0").unwrap();
    let link = inner.find("eth0").unwrap().unwrap();
    assert_eq!((link.mac, link.mtu, link.up, link.kind.as_str()), (mac, 1450, true, "veth"));
    inner.address(link.index, ip("10.88.0.2"), 24).unwrap();
    inner.address(link.index, ip("10.88.0.2"), 24).unwrap();
    inner.address(link.index, ip("fd00::2"), 64).unwrap();
    for gateway in ["10.88.0.1", "fd00::1"] {
        inner.default_route(ip(gateway)).unwrap();
        inner.default_route(ip(gateway)).unwrap();
        assert!(inner.routes().unwrap().iter().any(|it| it.to.1 == 0 && it.gateway == Some(ip(gateway))));
    }
    inner.default_route(ip("10.9.9.9")).unwrap_err();
    links.silence("v-1").unwrap();
    links.silence("none-such").unwrap();
    links.remove("v-1").unwrap();
    assert!(inner.find("eth0").unwrap().is_none());
    links.bridge("br-m", 1500, MAC, &[]).unwrap();
    let parent = links.find("br-m").unwrap().unwrap().index;
    links.macvlan(parent, "mv0", namespace, mac, Some(1300)).unwrap();
    let link = inner.find("mv0").unwrap().unwrap();
    assert_eq!((link.kind.as_str(), link.mac, link.mtu, link.up), ("macvlan", mac, 1300, true));
}

#[test]
fn links_go_with_their_namespace() {
    let (_host, mut links) = new_namespace().unwrap();
    let (container, inner) = new_namespace().unwrap();
    links.bridge("br-a", 1500, MAC, &[]).unwrap();
    let bridge = links.find("br-a").unwrap().unwrap().index;
    let (name, peer, namespace) = ("v-1", "eth0", container.as_fd());
    let veth = Veth { name, bridge, peer, namespace, mac: None, mtu: 1500, hairpin: false, isolated: false };
    links.veth(&veth).unwrap();
    assert_eq!(links.find("v-1").unwrap().unwrap().master, Some(bridge));
    drop((container, inner));
    for _ in 0..100 {
        if links.find("v-1").unwrap().is_none() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    panic!("the link is still there");
}

#[test]
fn a_way_to_other_hosts() {
    let (_host, mut links) = new_namespace().unwrap();
    links.bridge("br-a", 1450, MAC, &[]).unwrap();
    let bridge = links.find("br-a").unwrap().unwrap().index;
    let mut vxlan = Vxlan {
        name: "vx-a",
        vni: 42,
        local: ip("192.0.2.1"),
        port: 4789,
        underlay: 0,
        mtu: 1450,
        learning: false,
        proxy: true,
        bridge,
    };
    assert!(links.vxlan(&vxlan).unwrap());
    assert!(!links.vxlan(&vxlan).unwrap());
    vxlan.name = "vx-b";
    let said = format!("{:#}", links.vxlan(&vxlan).unwrap_err());
    assert!(said.contains("vx-b") && said.contains("42"), "{said}");
    let link = links.find("vx-a").unwrap().unwrap();
    assert_eq!((link.kind.as_str(), link.master, link.mtu, link.up), ("vxlan", Some(bridge), 1450, true));
    let (one, two) = (ip("192.0.2.2"), ip("192.0.2.3"));
    for (mac, host) in [(MAC, one), (MAC, two), (ALL, one), (ALL, two), (ALL, two)] {
        links.add_forwarding(link.index, mac, host).unwrap();
    }
    let mut all = links.forwardings(link.index).unwrap();
    all.sort();
    assert_eq!(all, [(ALL, one), (ALL, two), (MAC, two)]);
    links.remove_forwarding(link.index, ALL, one).unwrap();
    links.remove_forwarding(link.index, ALL, one).unwrap();
    links.remove_forwarding(link.index, MAC, two).unwrap();
    assert_eq!(links.forwardings(link.index).unwrap(), [(ALL, two)]);
    for address in [ip("10.88.0.9"), ip("fd00::9")] {
        links.add_neighbour(link.index, address, MAC).unwrap();
        links.add_neighbour(link.index, address, [2, 0, 0, 0, 0, 7]).unwrap();
        assert_eq!(links.neighbours(link.index).unwrap(), [(address, [2, 0, 0, 0, 0, 7])]);
        links.remove_neighbour(link.index, address).unwrap();
        links.remove_neighbour(link.index, address).unwrap();
    }
    vxlan.local = ip("2001:db8::1");
    (vxlan.name, vxlan.vni) = ("vx-6", 43);
    assert!(links.vxlan(&vxlan).unwrap());
}
