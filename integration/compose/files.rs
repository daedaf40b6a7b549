//! What is read: files over files, included and extended ones, variables, profiles, names; and what is wrong in them.

use serde_json::json;

use crate::bed::Project;

const ONE: &str = "services: {a: {image: it}}\n";

#[test]
fn every_error_has_its_line() {
    let it = Project::new("errors", ONE);
    for (text, words) in [
        ("services:\n  a:\n    image: it\n    imge: x\n", "compose.yaml:4:5: \"imge\" of services.a is no field"),
        (
            "services:\n  a: {image: it}\nservice: {}\n",
            "compose.yaml:3:1: \"service\" is no field of a compose file: did you mean services?",
        ),
        ("services:\n  a:\n    image: it\n    ports: ['x']\n", "compose.yaml:4:13: services.a.ports"),
        ("services:\n  a:\n    image: it\n    tty: perhaps\n", "compose.yaml:4:10: services.a.tty"),
        ("services:\n  a:\n   image: it\n  b: [", "compose.yaml:"),
        ("services:\n  a:\n    command: x\n", "compose.yaml:2:3: services.a: neither an image nor a build"),
        (
            "services:\n  a:\n    image: it\n    networks: [n]\n",
            "compose.yaml:4:5: services.a.networks: there is no network \"n\"",
        ),
        (
            "services:\n  a:\n    image: it\n    volumes: ['v:/v']\n",
            "compose.yaml:4:5: services.a.volumes: there is no volume \"v\"",
        ),
        (
            "services:\n  a:\n    image: it\n    secrets: [s]\n",
            "compose.yaml:4:5: services.a.secrets: there is no secret \"s\"",
        ),
        (
            "services:\n  a:\n    image: it\n    depends_on: [b]\n",
            "compose.yaml:4:5: services.a.depends_on: there is no service \"b\"",
        ),
        (
            "services:\n  a: {image: it, depends_on: [b]}\n  b: {image: it, depends_on: [a]}\n",
            "a waits for b waits for a",
        ),
        (
            "services:\n  a:\n    image: ${X:?is needed}\n",
            "compose.yaml:3:12: \"${X:?is needed}\": the variable X is required: is needed",
        ),
        (
            "services:\n  a:\n    image: it\n    image: it\n",
            "compose.yaml:4:12: the key \"image\" is given twice, first in line 3",
        ),
        (
            "services:\n  a:\n    image: it\n    gpus: all\n",
            "compose.yaml:4:5: services.a.gpus: this tool knows no maker's devices",
        ),
        ("services:\n  a:\n    image: it\n    network_mode: host\n    networks: [default]\n", "one of them"),
        ("services:\n  a:\n    image: it\n    scale: -1\n", "compose.yaml:4:5: services.a.scale"),
        (
            "services:\n  a:\n    image: it\n    extends: b\n",
            "compose.yaml:4:14: services.a.extends: compose.yaml has no service \"b\"",
        ),
        ("services:\n  a:\n    image: it\n    env_file: none\n", "compose.yaml:4:5: services.a.env_file"),
        (
            "services:\n  a:\n    image: it\n    env_file: /dev/zero\n",
            "compose.yaml:4:5: services.a.env_file: reading /dev/zero: it has more than 4194304 bytes",
        ),
        (
            "services:\n  a:\n    image: it\n    label_file: /dev/zero\n",
            "compose.yaml:4:5: services.a.label_file: /dev/zero: it has more than 4194304 bytes",
        ),
        ("services: {}\n", "there are no services"),
        ("", "the file is empty"),
        ("services:\n  a b: {image: it}\n", "a name has letters"),
        ("secrets:\n  s: {}\nservices: {a: {image: it}}\n", "compose.yaml:2:3: secrets.s: one of file"),
    ] {
        it.write("compose.yaml", text);
        it.run(&["config", "-q"]).fails(1, words);
        it.run(&["up", "-d"]).fails(1, words);
    }
    // What only the machine can tell is known before anything is made, too.
    for (field, words) in [
        ("cap_add: [NOTHING]", "compose.yaml:4:5: services.a.cap_add"),
        ("ulimits: {what: 5}", "compose.yaml:4:5: services.a.ulimits"),
        ("mem_limit: 1", "compose.yaml:4:5: services.a.mem_limit"),
        ("sysctls: {kernel.panic: 1}", "compose.yaml:4:5: services.a.sysctls"),
        ("restart: sometimes", "compose.yaml:4:5: services.a.restart"),
        ("stop_signal: NONE", "compose.yaml:4:5: services.a.stop_signal"),
        ("runtime: none-such", "compose.yaml:4:5: services.a.runtime"),
        ("logging: {driver: syslog}", "compose.yaml:4:5: services.a.logging"),
        ("image: none-such:1\n    pull_policy: never", "no such image: none-such:1"),
    ] {
        let image = if field.contains("image") { "tty: true" } else { "image: it" };
        it.write("compose.yaml", &format!("services:\n  a:\n    {image}\n    {field}\nvolumes: {{v: }}\n"));
        it.run(&["up", "-d"]).fails(1, words);
    }
    assert!(it.host.run(&["ps", "-aq"]).ok().out.is_empty());
    assert!(it.host.run(&["network", "ls", "-q"]).ok().out.is_empty());
    assert!(it.host.run(&["volume", "ls", "-q"]).ok().out.is_empty());
    std::fs::remove_file(it.dir.join("compose.yaml")).unwrap();
    it.run(&["ps"]).fails(1, "no compose file in ");
}

#[test]
fn files_go_over_files() {
    let it = Project::new(
        "files",
        "services: {a: {image: it, environment: {A: 1, B: 2}, ports: ['1:80'], command: x y}, b: {image: it, profiles: [p]}}\n",
    );
    it.write("compose.override.yaml", "services: {a: {environment: {B: 3}, ports: ['2:80'], command: z}}\n");
    let config = it.config(&[]);
    let a = &config["services"]["a"];
    assert_eq!(a["environment"], json!({"A": "1", "B": "3"}));
    assert_eq!(a["command"], json!(["z"]));
    assert_eq!(a["ports"].as_array().unwrap().len(), 2);
    assert_eq!(config["services"].get("b"), None, "it has a profile");
    assert_eq!(it.config(&["--profile", "p"])["services"]["b"]["image"], "it");
    assert_eq!(it.config(&["-f", "compose.yaml"])["services"]["a"]["environment"]["B"], "2");
    it.write("more.yaml", "services: {a: {image: '${I}', ports: !override ['3:80'], command: !reset null}}\n");
    it.write(".env", "I=other\nCOMPOSE_PROFILES=p\n");
    let config = it.config(&["-f", "compose.yaml", "-f", "more.yaml"]);
    assert_eq!(config["services"]["a"]["image"], "other");
    assert_eq!(config["services"]["a"]["ports"][0]["published"], "3");
    assert_eq!(config["services"]["a"].get("command"), None);
    assert_eq!(config["services"]["b"]["image"], "it");
    let set = it.with(&[("COMPOSE_FILE", "compose.yaml:more.yaml"), ("I", "set")], &["config", "--images"]).ok().out;
    assert_eq!(set, "set\nit\n");
    it.write("my.env", "I=mine\n");
    let config = it.config(&["--env-file", "my.env", "-f", "compose.yaml", "-f", "more.yaml"]);
    assert_eq!(config["services"]["a"]["image"], "mine");
    // From the standard input.
    let mut command = it.command(&["-f", "-", "config", "--services"]);
    let mut child = command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(child.stdin.as_mut().unwrap(), b"services: {piped: {image: it}}\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "piped\n");
}

#[test]
fn services_extend_and_files_include() {
    let it = Project::new(
        "extend",
        "
include:
  - sub/compose.yaml
  - {path: [other/one.yaml], env_file: other/env}
x-base: &base {image: it, labels: {team: a}}
services:
  a: {extends: {service: base, file: common/base.yaml}, environment: {B: own}}
  b: {<<: *base, extends: a, command: x}
  c: {<<: *base, tty: true}
",
    );
    it.write("common/base.yaml", "services:\n  base: {extends: root, environment: {A: 1, B: 2}, volumes: ['./data:/data']}\n  root: {image: \"${I:-it}\", env_file: root.env}\n");
    it.write("common/root.env", "C=3\nB=0\n");
    it.write("sub/compose.yaml", "services: {d: {image: it, build: ctx, environment: [S]}}\nvolumes: {v: }\n");
    it.write("sub/.env", "S=sub\n");
    it.write("other/env", "O=other\n");
    it.write("other/one.yaml", "services: {e: {image: 'i-${O}'}}\n");
    let config = it.config(&[]);
    let services = &config["services"];
    assert_eq!(services["a"]["environment"], json!({"A": "1", "B": "own", "C": "3"}));
    let dir = it.dir.to_str().unwrap();
    assert_eq!(services["a"]["volumes"][0]["source"], format!("{dir}/common/data"));
    assert_eq!((&services["b"]["labels"]["team"], &services["b"]["command"]), (&json!("a"), &json!(["x"])));
    assert_eq!(services["b"]["environment"]["B"], "own");
    assert_eq!(services["c"]["tty"], true);
    assert_eq!(services["d"]["build"]["context"], format!("{dir}/sub/ctx"));
    assert_eq!(services["e"]["image"], "i-other");
    assert_eq!(config["volumes"]["v"]["name"], "p_v");
    // What is extended is what the file has, or those before it, not what later ones make of it.
    it.write("over.yaml", "services: {a: {environment: {B: over}}, f: {extends: b, tty: true}}\n");
    let over = it.config(&["-f", "compose.yaml", "-f", "over.yaml"]);
    let value = |service: &str| over["services"][service]["environment"]["B"].as_str().unwrap().to_owned();
    assert_eq!((value("a"), value("b"), value("f")), ("over".into(), "own".into(), "own".into()));
    it.write("sub/compose.yaml", "services: {c: {image: x}}\n");
    it.run(&["config"]).fails(1, "sub/compose.yaml:1:12: services.c: it is in compose.yaml");
    it.write("sub/compose.yaml", "include: [compose.yaml]\nservices: {d: {image: it}}\n");
    it.run(&["config"]).fails(1, "files include each other");
    it.write("compose.yaml", "services: {a: {extends: b}, b: {extends: a}}\n");
    it.run(&["config"]).fails(1, "comes back to itself");
}

#[test]
fn projects_have_names() {
    let it = Project::new("names", ONE);
    let name = |config: &serde_json::Value| config["name"].as_str().unwrap().to_owned();
    assert_eq!(name(&it.config(&[])), "p");
    assert_eq!(name(&it.config(&["-p", "q"])), "q");
    it.write(
        "compose.yaml",
        "name: mine-${X:-1}\nservices: {a: {image: it, environment: {N: $COMPOSE_PROJECT_NAME}}}\n",
    );
    let config = it.config(&[]);
    assert_eq!((name(&config), &config["services"]["a"]["environment"]["N"]), ("mine-1".into(), &json!("mine-1")));
    assert!(it.with(&[("COMPOSE_PROJECT_NAME", "env")], &["config"]).ok().out.starts_with("name: env\n"));
    assert_eq!(name(&it.config(&["-p", "flag"])), "flag");
    it.run(&["-p", "Bad Name", "config"]).fails(1, "lower case letters");
    it.write("sub/Dir One/compose.yaml", ONE);
    assert_eq!(name(&it.config(&["-f", "sub/Dir One/compose.yaml"])), "dirone");
    let below = it.dir.join("sub/below");
    std::fs::create_dir_all(&below).unwrap();
    let mut command = it.command(&["config", "--environment"]);
    assert!(
        crate::bed::Done::of(command.current_dir(below), &["config"]).ok().out.contains("COMPOSE_PROJECT_NAME=mine-1")
    );
}

#[test]
fn what_is_read_is_read_again() {
    let it = Project::new(
        "config",
        "
services:
  a:
    image: it
    command: echo $$HOME ${X:-a$$b}
    environment: [\"A=1: #x\", 'B= y', 'C=yes']
    healthcheck: {test: [CMD, x], interval: 1s}
    volumes: ['v:/v:ro', './b:/b']
    depends_on: [b]
    deploy: {resources: {limits: {cpus: '0.5', memory: 64m}}}
    secrets: [{source: s, mode: 0440}, {source: s, target: all, mode: '7777'}, {source: s, target: none, mode: 0}]
    configs: [{source: c, mode: 288}]
  b: {image: it, scale: 0, volumes: [{type: tmpfs, target: /t, tmpfs: {mode: 0o1777}}]}
volumes: {v: }
secrets: {s: {file: ./s}}
configs: {c: {file: ./c}}
",
    );
    it.write("s", "s");
    it.write("c", "c");
    let text = it.run(&["config"]).ok().out;
    it.write("again/compose.yaml", &text);
    let again = it.run(&["-p", "p", "-f", "again/compose.yaml", "config"]).ok().out;
    assert_eq!(text, again);
    let modes: Vec<&str> =
        text.lines().filter_map(|it| it.trim_start_matches([' ', '-']).strip_prefix("mode: ")).collect();
    assert_eq!(modes, [r#""0440""#, r#""0440""#, r#""07777""#, r#""00""#, r#""01777""#], "{text}");
    assert_eq!(it.config(&[])["services"]["a"]["command"], json!(["echo", "$$HOME", "a$$b"]));
    let hashes = it.run(&["config", "--hash", "*"]).ok().out;
    assert_eq!(hashes.lines().count(), 2);
    assert_eq!(it.run(&["config", "--hash", "b"]).ok().out, hashes.lines().nth(1).unwrap().to_owned() + "\n");
    assert_eq!(it.run(&["config", "--services", "b"]).ok().out, "b\n");
    assert_eq!(it.run(&["config", "--volumes"]).ok().out, "v\n");
    assert!(it.run(&["config", "--no-interpolate"]).ok().out.contains("${X:-"));
    it.run(&["config", "-o", "out.yaml"]).ok();
    assert_eq!(std::fs::read_to_string(it.dir.join("out.yaml")).unwrap(), text);
}
