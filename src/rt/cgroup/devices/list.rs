//! Device rules as the lines of cgroup v1's `devices.allow` and `devices.deny`
//! (Documentation/admin-guide/cgroup-v1/devices.rst).

use super::{ALL, Kind, MKNOD, READ, Rule, WRITE, bit};

/// The file and the lines for one rule.
pub fn lines(rule: &Rule) -> (&'static str, Vec<String>) {
    let file = if rule.allow { "devices.allow" } else { "devices.deny" };
    // "a" drops the numbers and the access in the kernel, so a narrower rule for both kinds is
    // written as two.
    let kinds: &[char] = match rule.kind {
        Kind::All if rule.is_everything() => return (file, vec!["a".to_owned()]),
        Kind::All => &['c', 'b'],
        Kind::Character => &['c'],
        Kind::Block => &['b'],
    };
    let entry = |kind: &char| Entry { kind: *kind, major: rule.major, minor: rule.minor, access: rule.access };
    (file, kinds.iter().map(|kind| entry(kind).to_string()).collect())
}

/// One line of `devices.list`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    kind: char,
    major: Option<u32>,
    minor: Option<u32>,
    access: u8,
}

impl std::fmt::Display for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let number = |number: Option<u32>| number.map_or("*".to_owned(), |number| number.to_string());
        write!(f, "{} {}:{} ", self.kind, number(self.major), number(self.minor))?;
        for (bit, letter) in [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')] {
            if self.access & bit != 0 {
                write!(f, "{letter}")?;
            }
        }
        Ok(())
    }
}

impl Entry {
    fn parse(line: &str) -> Option<Entry> {
        let mut words = line.split_whitespace();
        let (kind, numbers, access) = (words.next()?.chars().next()?, words.next()?, words.next()?);
        let (major, minor) = numbers.split_once(':')?;
        let number = |text: &str| if text == "*" { Some(None) } else { text.parse().ok().map(Some) };
        let access = access.bytes().fold(0, |bits, byte| bits | bit(byte));
        Some(Entry { kind, major: number(major)?, minor: number(minor)?, access })
    }

    fn same_device(&self, other: &Entry) -> bool {
        (self.kind, self.major, self.minor) == (other.kind, other.major, other.minor)
    }
}

/// What the kernel holds for a group: everything is allowed, or these entries are.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Table {
    Everything,
    Only(Vec<Entry>),
}

impl Table {
    /// Reads `devices.list`.
    fn parse(text: &str) -> Table {
        let entries: Vec<Entry> = text.lines().filter_map(Entry::parse).collect();
        if entries.iter().any(|entry| entry.kind == 'a') { Table::Everything } else { Table::Only(entries) }
    }

    /// What the kernel would hold after these rules: it merges the access of equal devices, and a
    /// denial takes away from the entry of exactly that device.
    fn of(rules: &[Rule]) -> Table {
        let mut table = Table::Only(Vec::new());
        for rule in rules {
            let (_, lines) = lines(rule);
            if rule.is_everything() {
                table = if rule.allow { Table::Everything } else { Table::Only(Vec::new()) };
                continue;
            }
            let Table::Only(entries) = &mut table else { continue };
            for entry in lines.iter().filter_map(|line| Entry::parse(line)) {
                match entries.iter_mut().find(|known| known.same_device(&entry)) {
                    Some(known) if rule.allow => known.access |= entry.access,
                    Some(known) => known.access &= ALL & !entry.access,
                    None if rule.allow => entries.push(entry),
                    None => {}
                }
            }
            entries.retain(|entry| entry.access != 0);
        }
        table
    }
}

/// The writes that lead from what a group holds (`devices.list`) to `rules`, without a moment in which
/// something that both allow is denied; but for the way from everything to a list, which the kernel
/// offers only by denying everything first.
pub fn transition(current: &str, rules: &[Rule]) -> Vec<(&'static str, String)> {
    let write = |rules: &[Rule]| -> Vec<(&'static str, String)> {
        rules
            .iter()
            .flat_map(|rule| {
                let (file, lines) = lines(rule);
                lines.into_iter().map(move |line| (file, line))
            })
            .collect()
    };
    let (old, new) = match (Table::parse(current), Table::of(rules)) {
        (Table::Only(old), Table::Only(new)) => (old, new),
        (Table::Everything, Table::Only(_)) => return write(rules),
        (before, Table::Everything) => {
            // What is denied after all, and no more.
            let all = rules.iter().rposition(Rule::is_everything).unwrap_or(0);
            let from = if before == Table::Everything { all + 1 } else { all };
            let rest: Vec<Rule> =
                rules[from..].iter().filter(|rule| rule.is_everything() || !rule.allow).copied().collect();
            return write(&rest);
        }
    };
    let beyond = |list: &[Entry], other: &[Entry]| -> Vec<Entry> {
        list.iter()
            .filter_map(|entry| {
                let has = other.iter().find(|known| known.same_device(entry)).map_or(0, |known| known.access);
                let access = entry.access & !has;
                (access != 0).then_some(Entry { access, ..*entry })
            })
            .collect()
    };
    let allow = beyond(&new, &old).into_iter().map(|entry| ("devices.allow", entry.to_string()));
    allow.chain(beyond(&old, &new).into_iter().map(|entry| ("devices.deny", entry.to_string()))).collect()
}

#[cfg(test)]
mod tests {
    use super::super::rules;
    use super::*;
    use crate::config::types::Resources;

    fn parse(json: &str) -> Vec<Rule> {
        rules(&serde_json::from_str::<Resources<'_>>(json).unwrap())
    }

    #[test]
    fn a_transition_touches_only_what_changes() {
        let before = parse(r#"{"devices":[{"allow":true,"type":"c","major":10,"minor":200,"access":"rwm"}]}"#);
        let Table::Only(entries) = Table::of(&before) else { panic!() };
        let list: String = entries.iter().map(|entry| format!("{entry}\n")).collect();
        assert_eq!(transition(&list, &before), []);
        let after = parse(
            r#"{"devices":[{"allow":true,"type":"c","major":10,"minor":200,"access":"r"},
            {"allow":true,"type":"b","major":7,"minor":-1,"access":"rw"}]}"#,
        );
        assert_eq!(
            transition(&list, &after),
            [("devices.allow", "b 7:* rw".to_owned()), ("devices.deny", "c 10:200 wm".to_owned())]
        );
    }

    #[test]
    fn from_and_to_everything() {
        let all = parse(r#"{"devices":[{"allow":true,"access":"rwm"}]}"#);
        assert_eq!(transition("c 1:3 rwm\n", &all), [("devices.allow", "a".to_owned())]);
        assert_eq!(transition("a *:* rwm\n", &all), []);
        let but = parse(r#"{"devices":[{"allow":true,"access":"rwm"},{"allow":false,"type":"b","major":8}]}"#);
        assert_eq!(transition("a *:* rwm\n", &but), [("devices.deny", "b 8:* rwm".to_owned())]);
        assert_eq!(transition("a *:* rwm\n", &parse("{}"))[0], ("devices.deny", "a".to_owned()));
    }
}
