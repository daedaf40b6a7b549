//! What a container sees of itself: the program of the image `demo`. Nothing here reads the store.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::TcpListener;

use anyhow::{Context, Result, bail};

/// `probe` prints; `probe serve [PORT]` answers HTTP with the same; other words are small tools for tests.
pub fn run(words: &[String]) -> Result<u8> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        [] => print!("{}", report()),
        ["--json"] => println!("{}", serde_json::to_string_pretty(&facts())?),
        ["serve"] => serve(80)?,
        ["serve", port] => serve(port.parse().with_context(|| format!("{port:?} is no port"))?)?,
        ["args", ref rest @ ..] => println!("{}", serde_json::to_string(rest)?),
        ["env"] => {
            for (name, value) in std::env::vars() {
                println!("{name}={value}");
            }
        }
        ["cat", path] => std::io::stdout().write_all(&std::fs::read(path).with_context(|| path.to_owned())?)?,
        ["write", path, text] => std::fs::write(path, text).with_context(|| path.to_owned())?,
        ["ls", path] => {
            let mut names: Vec<_> =
                std::fs::read_dir(path).with_context(|| path.to_owned())?.flatten().map(|it| it.file_name()).collect();
            names.sort();
            for name in names {
                println!("{}", name.display());
            }
        }
        ["sleep", seconds] => std::thread::sleep(std::time::Duration::from_secs_f64(seconds.parse()?)),
        ["echo"] => drop(std::io::copy(&mut std::io::stdin(), &mut std::io::stdout())?),
        ["exit", status] => return Ok(status.parse()?),
        ["tty"] => return Ok(u8::from(!rustix::termios::isatty(std::io::stdin()))),
        _ => bail!(
            "probe [--json | serve [PORT] | args WORD... | env | cat FILE | write FILE TEXT | ls DIR | sleep SECONDS | echo | exit STATUS | tty]"
        ),
    }
    Ok(0)
}

/// Name and value of what there is to see, in order.
fn facts() -> serde_json::Map<String, serde_json::Value> {
    use serde_json::json;
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let status = read("/proc/self/status");
    let field = |name: &str| {
        status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap_or_default().trim().to_owned()
    };
    let ids = |name: &str| field(name).split_whitespace().next().unwrap_or_default().to_owned();
    let mut names: Vec<String> = std::fs::read_dir("/sys/class/net")
        .into_iter()
        .flatten()
        .flatten()
        .map(|it| it.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    let mounts: Vec<String> =
        read("/proc/self/mountinfo").lines().filter_map(|line| line.split(' ').nth(4).map(str::to_owned)).collect();
    let limit = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]
        .iter()
        .map(|it| read(it))
        .find(|it| !it.is_empty());
    let mut facts = serde_json::Map::new();
    for (name, value) in [
        ("hostname", json!(read("/proc/sys/kernel/hostname"))),
        ("pid", json!(std::process::id())),
        ("uid", json!(ids("Uid"))),
        ("gid", json!(ids("Gid"))),
        ("groups", json!(field("Groups"))),
        ("directory", json!(std::env::current_dir().unwrap_or_default())),
        ("kernel", json!(read("/proc/sys/kernel/osrelease"))),
        ("capabilities", json!(field("CapEff"))),
        ("bounding", json!(field("CapBnd"))),
        ("no_new_privileges", json!(field("NoNewPrivs") == "1")),
        ("seccomp", json!(field("Seccomp") == "2")),
        ("memory_limit", json!(limit)),
        ("interfaces", json!(names)),
        ("mounts", json!(mounts)),
        ("arguments", json!(std::env::args().collect::<Vec<_>>())),
    ] {
        facts.insert(name.to_owned(), value);
    }
    facts
}

fn report() -> String {
    let mut text = String::from("Hello from a container. This is what it sees of itself:\n\n");
    for (name, value) in facts() {
        let value = match value {
            serde_json::Value::String(text) => text,
            serde_json::Value::Array(list) if name == "mounts" => format!("{} of its own", list.len()),
            serde_json::Value::Array(list) => {
                list.iter().map(|it| it.as_str().unwrap_or_default()).collect::<Vec<_>>().join(" ")
            }
            serde_json::Value::Null => continue,
            other => other.to_string(),
        };
        let _ = writeln!(text, "  {:<18} {value}", name.replace('_', " "));
    }
    text
}

/// Answers every request on all addresses; one after another is enough for a demonstration.
fn serve(port: u16) -> Result<()> {
    let listener = TcpListener::bind((std::net::Ipv6Addr::UNSPECIFIED, port))
        .or_else(|_| TcpListener::bind((std::net::Ipv4Addr::UNSPECIFIED, port)))
        .with_context(|| format!("listening on port {port}"))?;
    eprintln!("probe: listening on port {port}");
    for stream in listener.incoming() {
        let Ok(mut stream) = stream else { continue };
        let _ = stream.set_read_timeout(Some(std::time::Duration::from_secs(5)));
        let mut request = [0; 4096];
        let _ = stream.read(&mut request);
        let body = report();
        let _ = write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
    }
    Ok(())
}
