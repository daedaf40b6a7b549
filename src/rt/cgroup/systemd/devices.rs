//! `linux.resources.devices` as systemd's list of what may be used, on v1. Pure.
//!
//! There systemd would allow everything the next time that it writes the list. Not on v2: a program
//! of ours is attached beside anything of systemd's and stays through `daemon-reload`,
//! `daemon-reexec` and `set-property`; a second one, systemd's, would add a fifth to the time of a
//! start and double that of a stop (measured in the guest, `integration/guest`).

use super::Property;
use super::wire::Value;
use crate::cgroup::BASE;
use crate::cgroup::devices::{Kind, MKNOD, READ, Rule, WRITE, rules};
use crate::config::types::Resources;

/// The policy, an empty list, which empties systemd's, and the list.
///
/// Systemd knows what is allowed, nothing of what is denied out of that. Where it cannot say what
/// the document does its list is the shorter one; the exact lines are written after it.
pub(super) fn allowed(resources: &Resources<'_>, version: u32) -> Vec<Property> {
    let mut everything = false;
    let mut allowed: Vec<Rule> = Vec::new();
    for rule in rules(resources) {
        if rule.is_everything() {
            everything = rule.allow;
            allowed.clear();
        } else if !rule.allow {
            everything = false;
            allowed.retain(|other| !overlap(other, &rule));
        } else if !everything {
            allowed.push(rule);
        }
    }
    let entries = allowed.iter().flat_map(|rule| entries(rule, version)).collect();
    let pointer = format!("{BASE}/devices");
    let property =
        |name: &str, value| Property { name: name.to_owned(), value, pointer: pointer.clone(), optional: true };
    let list = |entries| property("DeviceAllow", Value::Array("(ss)".to_owned(), entries));
    let policy = if everything { "auto" } else { "strict" };
    vec![property("DevicePolicy", policy.into()), list(Vec::new()), list(entries)]
}

/// Whether there is something that both rules are for.
fn overlap(one: &Rule, other: &Rule) -> bool {
    let number = |one: Option<u32>, other: Option<u32>| one.is_none() || other.is_none() || one == other;
    (one.kind == other.kind || one.kind == Kind::All || other.kind == Kind::All)
        && number(one.major, other.major)
        && number(one.minor, other.minor)
        && one.access & other.access != 0
}

/// A rule as pairs of node and access, one for each kind that it is for.
fn entries(rule: &Rule, version: u32) -> Vec<Value> {
    let kinds: &[&str] = match rule.kind {
        Kind::All => &["char", "block"],
        Kind::Character => &["char"],
        Kind::Block => &["block"],
    };
    let letters = [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')];
    let access: String = letters.iter().filter(|(bit, _)| rule.access & bit != 0).map(|(_, letter)| letter).collect();
    let node = |kind: &str| match (rule.major, rule.minor) {
        (Some(major), Some(minor)) => Some(format!("/dev/{kind}/{major}:{minor}")),
        (Some(major), None) if version >= 240 => Some(format!("{kind}-{major}")),
        // Before, a major number went by its name in /proc/devices.
        (Some(136), None) if kind == "char" => Some("char-pts".to_owned()),
        (None, None) => Some(format!("{kind}-*")),
        _ => None,
    };
    let nodes = kinds.iter().filter_map(|kind| node(kind));
    nodes.map(|node| Value::Struct(vec![Value::String(node), Value::String(access.clone())])).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::properties;
    use super::super::properties::tests::show;
    use crate::config::problem::Problems;

    fn devices_of(json: &str, version: u32) -> Vec<String> {
        let resources = serde_json::from_str(json).unwrap();
        let lines = show(&properties(&resources, &BTreeMap::new(), false, version, &mut Problems::default()));
        assert_eq!(lines[1], "DeviceAllow=");
        assert_eq!(properties(&resources, &BTreeMap::new(), true, version, &mut Problems::default()), []);
        vec![lines[0].clone(), lines[2].clone()]
    }

    const DEFAULTS: &str = "char-*,m block-*,m /dev/char/1:3,rwm /dev/char/1:5,rwm /dev/char/1:7,rwm /dev/char/1:8,rwm \
                            /dev/char/1:9,rwm /dev/char/5:0,rwm /dev/char/5:1,rwm /dev/char/5:2,rwm char-136,rwm";

    #[test]
    fn devices_are_a_list_of_what_is_allowed() {
        let expected = |more: &str| ["DevicePolicy=strict".to_owned(), format!("DeviceAllow={more}{DEFAULTS}")];
        assert_eq!(devices_of("{}", 252), expected(""));
        let allowed = r#"{"allow":false,"access":"rwm"},{"allow":true,"type":"c","major":10,"minor":229,"access":"rw"},
            {"allow":true,"type":"b","major":8,"access":"r"}"#;
        let of = |more: &str| devices_of(&format!(r#"{{"devices":[{allowed}{more}]}}"#), 252);
        assert_eq!(of(""), expected("/dev/char/10:229,rw block-8,r "));
        // What is denied after all is gone with all that it was allowed with.
        assert_eq!(
            of(r#",{"allow":false,"type":"b","major":8,"minor":1,"access":"r"}"#),
            expected("/dev/char/10:229,rw ")
        );
        assert_eq!(
            of(r#",{"allow":false,"type":"b","major":8,"minor":1,"access":"w"}"#),
            expected("/dev/char/10:229,rw block-8,r ")
        );
        assert_eq!(of(r#",{"allow":false}"#), expected(""));
    }

    #[test]
    fn everything_allowed_is_no_policy() {
        let all = r#"{"devices":[{"allow":true,"access":"rwm"}]}"#;
        assert_eq!(devices_of(all, 252), ["DevicePolicy=auto", "DeviceAllow="]);
        let but = r#"{"devices":[{"allow":true},{"allow":false,"type":"b","major":8}]}"#;
        assert_eq!(devices_of(but, 252), ["DevicePolicy=strict".to_owned(), format!("DeviceAllow={DEFAULTS}")]);
    }

    #[test]
    fn what_systemd_cannot_say_of_devices() {
        let json = r#"{"devices":[{"allow":true,"minor":5,"access":"r"},{"allow":true,"major":8,"access":"r"}]}"#;
        assert_eq!(devices_of(json, 252)[1], format!("DeviceAllow=char-8,r block-8,r {DEFAULTS}"));
        assert_eq!(devices_of(json, 239)[1], format!("DeviceAllow={}", DEFAULTS.replace("char-136", "char-pts")));
    }
}
