//! Where systemd may be reached. Pure.

/// Where to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    /// A path, or after a NUL a name in the abstract namespace (unix(7)).
    pub path: Vec<u8>,
    /// Whether a broker listens there, which wants to be greeted and has names for its peers.
    pub broker: bool,
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.path).replace('\0', "@"))
    }
}

/// Where a manager may be reached, the best first.
///
/// Its own socket comes before the bus, as with systemctl: it is the right manager whatever bus a
/// session was given, it works while no broker runs, and each message takes one hop less. Only an
/// address that root was given on purpose goes before it. Who may not connect to it goes on to the next.
pub(super) fn addresses(user: bool, variable: impl Fn(&str) -> Option<String>) -> Vec<Address> {
    let socket = |path: String, broker| Address { path: path.into_bytes(), broker };
    if !user {
        if let Some(list) = variable("DBUS_SYSTEM_BUS_ADDRESS") {
            return parse(&list);
        }
        return vec![
            socket("/run/systemd/private".to_owned(), false),
            socket("/run/dbus/system_bus_socket".to_owned(), true),
        ];
    }
    let runtime = variable("XDG_RUNTIME_DIR");
    let mut list = Vec::new();
    list.extend(runtime.as_ref().map(|dir| socket(format!("{dir}/systemd/private"), false)));
    list.extend(variable("DBUS_SESSION_BUS_ADDRESS").iter().flat_map(|list| parse(list)));
    list.extend(runtime.map(|dir| socket(format!("{dir}/bus"), true)).filter(|bus| !list.contains(bus)));
    list
}

/// The unix sockets of a list of server addresses: `unix:path=/run/bus,guid=1;unix:abstract=x`.
/// Other transports are passed over.
fn parse(list: &str) -> Vec<Address> {
    let one = |address: &str| {
        address.strip_prefix("unix:")?.split(',').find_map(|pair| {
            let (key, value) = pair.split_once('=')?;
            let mut path = if key == "abstract" { vec![0] } else { Vec::new() };
            path.extend(unescape(value).filter(|value| !value.is_empty())?);
            matches!(key, "path" | "abstract").then_some(Address { path, broker: true })
        })
    };
    list.split(';').filter_map(one).collect()
}

/// Undoes `%20`. What is no such escape is none at all.
fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        out.push(*first);
        if *first == b'%' {
            let (digits, after) = rest.split_at_checked(2)?;
            rest = after;
            out.pop();
            out.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_addresses() {
        let of = |list: &str| parse(list).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(of("unix:path=/run/user/1000/bus,guid=aa"), ["/run/user/1000/bus"]);
        assert_eq!(of("tcp:host=h;unix:guid=1,abstract=/tmp/x;unix:path=/a%20b%2f"), ["@/tmp/x", "/a b/"]);
        for bad in ["", ";", "unix:", "unix:path=", "unix:path", "unix:path=%2", "unix:path=%zz", "unix:tmpdir=/tmp"] {
            assert_eq!(of(bad), Vec::<String>::new(), "{bad}");
        }
    }

    #[test]
    fn where_to_connect() {
        let of = |user: bool, set: &[(&str, &str)]| {
            let variable =
                |name: &str| set.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
            let list = addresses(user, variable);
            list.iter().map(|a| format!("{a}{}", if a.broker { "" } else { " directly" })).collect::<Vec<_>>()
        };
        assert_eq!(of(false, &[]), ["/run/systemd/private directly", "/run/dbus/system_bus_socket"]);
        assert_eq!(of(false, &[("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/x")]), ["/x"]);
        let runtime = ("XDG_RUNTIME_DIR", "/run/user/1");
        assert_eq!(of(true, &[runtime]), ["/run/user/1/systemd/private directly", "/run/user/1/bus"]);
        let session = ("DBUS_SESSION_BUS_ADDRESS", "unix:abstract=/tmp/dbus-1,guid=0");
        assert_eq!(
            of(true, &[runtime, session]),
            ["/run/user/1/systemd/private directly", "@/tmp/dbus-1", "/run/user/1/bus"]
        );
        let same = ("DBUS_SESSION_BUS_ADDRESS", "unix:path=/run/user/1/bus");
        assert_eq!(of(true, &[runtime, same]), ["/run/user/1/systemd/private directly", "/run/user/1/bus"]);
        assert_eq!(of(true, &[]), Vec::<String>::new());
    }
}
