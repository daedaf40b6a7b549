use serde_json::{Value as Json, json};

use super::short::words;
use super::tables::{FILE, SERVICE};
use super::{check, model};
use crate::compose::yaml;

fn service(text: &str) -> anyhow::Result<Json> {
    let mut node = yaml::parse("f", text)?;
    check(&mut node, &SERVICE, "services.x")?;
    model(&node, &SERVICE)
}

#[track_caller]
fn gives(text: &str, wanted: Json) {
    assert_eq!(service(text).unwrap(), wanted, "{text}");
}

#[track_caller]
fn fails(text: &str, words: &str) {
    let error = format!("{:#}", service(text).unwrap_err());
    assert!(error.contains(words), "{words}: {error}");
}

#[test]
fn short_forms_become_long_ones() {
    gives("build: .", json!({"build": {"context": "."}}));
    gives("extends: a", json!({"extends": {"service": "a"}}));
    gives("env_file: a", json!({"env_file": [{"path": "a"}]}));
    gives("command: a 'b c' \"d\\\"\" e\\ f", json!({"command": ["a", "b c", "d\"", "e f"]}));
    gives("networks: [a]", json!({"networks": {"a": {}}}));
    gives("ulimits: {nofile: 5, nproc: {soft: 1, hard: 2}}", {
        json!({"ulimits": {"nofile": {"single": 5}, "nproc": {"soft": 1, "hard": 2}}})
    });
    gives("healthcheck: {test: a b}", json!({"healthcheck": {"test": ["CMD-SHELL", "a b"]}}));
    gives("extra_hosts: ['a=1.1.1.1', 'a:::1', 'b:host-gateway']", {
        json!({"extra_hosts": {"a": ["1.1.1.1", "::1"], "b": ["host-gateway"]}})
    });
    gives("extra_hosts: {a: 1.1.1.1}", json!({"extra_hosts": {"a": ["1.1.1.1"]}}));
    gives("devices: ['/dev/a']", {
        json!({"devices": [{"source": "/dev/a", "target": "/dev/a", "permissions": "rwm"}]})
    });
}

#[test]
fn ports_have_ranges_and_addresses() {
    let port = |target: u16, published: &str, ip: &str, protocol: &str| {
        let mut it = json!({"target": target, "protocol": protocol, "mode": "ingress"});
        for (key, value) in [("published", published), ("host_ip", ip)] {
            if !value.is_empty() {
                it[key] = json!(value);
            }
        }
        it
    };
    for (text, wanted) in [
        ("80", vec![port(80, "", "", "tcp")]),
        ("53:53/udp", vec![port(53, "53", "", "udp")]),
        ("127.0.0.1:80:81", vec![port(81, "80", "127.0.0.1", "tcp")]),
        ("127.0.0.1::81", vec![port(81, "", "127.0.0.1", "tcp")]),
        ("[::1]:80:81", vec![port(81, "80", "::1", "tcp")]),
        ("90-91:80-81", vec![port(80, "90", "", "tcp"), port(81, "91", "", "tcp")]),
        ("90-99:80", vec![port(80, "90-99", "", "tcp")]),
    ] {
        gives(&format!("ports: ['{text}']"), json!({"ports": wanted}));
    }
    for (text, words) in [
        ("x", "\"x\" is no number from 1 to 65535"),
        ("0:80", "the host's port"),
        ("1-2:80-82", "2 ports of the host for 3"),
        ("1.2.3:80:80", "no address"),
        ("80-70", "the last is before the first"),
    ] {
        fails(&format!("ports:\n- '{text}'"), words);
        fails(&format!("ports:\n- '{text}'"), "f:2:3: services.x.ports: ");
    }
}

#[test]
fn volumes_are_names_or_paths() {
    gives("volumes: ['./a:/b:ro,z', 'v:/c:nocopy', /d]", {
        json!({"volumes": [
            {"type": "bind", "source": "./a", "target": "/b", "read_only": true,
                "bind": {"selinux": "z", "create_host_path": true}},
            {"type": "volume", "source": "v", "target": "/c", "volume": {"nocopy": true}},
            {"type": "volume", "target": "/d"},
        ]})
    });
    for text in ["a:b:c:d", ":x", "a:/b:what", ""] {
        fails(&format!("volumes: [{text:?}]"), "services.x.volumes");
    }
}

#[test]
fn values_have_kinds() {
    gives("{mem_limit: 1g, cpus: 0.5, init: yes, oom_score_adj: -5, stop_grace_period: 1m30s}", {
        json!({"mem_limit": 1 << 30, "cpus": 0.5, "init": true, "oom_score_adj": -5, "stop_grace_period": "1m30s"})
    });
    gives("secrets: [{source: a, mode: 0440}, {source: b, mode: '440'}, {source: c, mode: 288}]", {
        json!({"secrets": [{"source": "a", "mode": 288}, {"source": "b", "mode": 288}, {"source": "c", "mode": 288}]})
    });
    gives("{image: , tty: ~}", json!({}));
    for (text, words) in [
        ("init: maybe", "true or false is wanted"),
        ("mem_limit: much", "services.x.mem_limit"),
        ("cpus: x", "a number is wanted"),
        ("scale: 1.5", "a whole number is wanted"),
        ("stop_grace_period: soon", "services.x.stop_grace_period"),
        ("image: [a]", "a text is wanted, not a list"),
        ("cap_add: A", "a list is wanted, not a text"),
        ("labels: 5", "a mapping or a list of KEY=VALUE"),
        ("environment: {A: [1]}", "services.x.environment.A: a text is wanted"),
        ("command: {a: b}", "a line or a list of words"),
        ("command: 'a \" b'", "without its second one"),
        ("networks: [a, a]", "named twice"),
        ("ports: 80", "a list is wanted"),
    ] {
        fails(text, words);
        fails(text, "f:1:");
    }
}

#[test]
fn unknown_fields_are_errors_with_their_line() {
    fails("image: a\nimge: b", "f:2:1: \"imge\" of services.x is no field of a compose file: did you mean image?");
    fails("build:\n  context: .\n  contxt: x", "f:3:3: \"contxt\" of services.x.build");
    fails("zzzzzz: 1", "names of one's own begin with x-");
    fails("gpus: all", "services.x.gpus: this tool knows no maker's devices");
    gives("{x-mine: [1], build: {context: a, x-mine: 2}}", json!({"build": {"context": "a"}}));
    let mut file = yaml::parse("f", "services:\n  a:\n    image: b\nvolume: {}\n").unwrap();
    let error = format!("{:#}", check(&mut file, &FILE, "").unwrap_err());
    assert_eq!(error, "f:4:1: \"volume\" is no field of a compose file: did you mean volumes?");
}

/// Every field that there is can be told from one that there is not, at its place.
#[test]
fn every_field_is_found_and_its_neighbour_is_not() {
    let super::Kind::Object(fields) = &SERVICE else { panic!("a service is an object") };
    assert!(fields.len() > 90, "{}", fields.len());
    for field in *fields {
        let wrong = format!("image: a\n{}q: 1\n", field.name);
        fails(&wrong, &format!("f:2:1: \"{}q\" of services.x", field.name));
    }
    let mut names: Vec<&str> = fields.iter().map(|it| it.name).collect();
    names.sort_unstable();
    assert_eq!(names, fields.iter().map(|it| it.name).collect::<Vec<_>>(), "in order");
    names.dedup();
    assert_eq!(names.len(), fields.len(), "none twice");
}

#[test]
fn lines_have_words() {
    for (line, wanted) in
        [("a  b", vec!["a", "b"]), ("", vec![]), ("'' \"\"", vec!["", ""]), ("a'b'\"c\"", vec!["abc"])]
    {
        assert_eq!(words(line).unwrap(), wanted, "{line}");
    }
    for line in ["'", "\"", "\"\\", "a\\"] {
        assert!(words(line).is_err(), "{line}");
    }
}

/// Whatever a field is said to be, the answer is a model or an error with a place.
#[test]
fn random_values_never_panic() {
    let super::Kind::Object(fields) = &SERVICE else { panic!("a service is an object") };
    let words = [
        "a",
        "1",
        "-",
        ":",
        "/",
        "=",
        ".",
        ",",
        " ",
        "[",
        "]",
        "0",
        "99999999999",
        "~",
        "@",
        "tcp",
        "é",
        "$",
        "#",
        "\"",
        "s",
    ];
    let (mut seed, mut models) = (7_u64, 0);
    for field in *fields {
        for _ in 0..50 {
            let mut value = String::new();
            for _ in 0..5 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                value += words[(seed >> 33) as usize % words.len()];
            }
            let name = field.name;
            for text in [
                format!("{name}: '{value}'"),
                format!("{name}: ['{value}']"),
                format!("{name}: {{'{value}': '{value}'}}"),
                format!("{name}: [{{'{value}': ['{value}']}}]"),
                format!("{name}: {{a: {{'{value}': [['{value}']]}}}}"),
                format!("{name}: {value}"),
            ] {
                match service(&text) {
                    Ok(_) => models += 1,
                    Err(error) => assert!(format!("{error:#}").starts_with("f:"), "{text}: {error:#}"),
                }
            }
        }
    }
    assert!(models > 1000, "only {models} values were good: the words are the wrong ones");
}
