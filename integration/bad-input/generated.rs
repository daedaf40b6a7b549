//! Every field of full documents, broken in every way that fits its type, through the real binary.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::{Value, json};

use super::generate::{Broken, Ends, breaks};
use super::harness::{self, Bundle, Done, Place};
use super::{AT_ONCE, none_failed, rows};

/// What became of the cases.
#[derive(Default)]
struct Count {
    refused: usize,
    legal: usize,
    untried: usize,
    failed: Vec<String>,
}

/// Whether a broken document was refused as it should: in time, by this status, with one line that names the place.
fn refused(done: &Done, status: i32, broken: &Broken, start: Instant) -> Result<(), String> {
    let lines = done.stderr.lines().count();
    // What is no JSON, or no text at all, has no fields: the place is the document.
    let whole = ["this is not JSON", "is not UTF-8", "number out of range"];
    let named = names(&done.stderr, &broken.at) || whole.iter().any(|words| done.stderr.contains(words));
    if done.code != status || lines != 1 || !named || done.stderr.contains("panicked") || done.stderr.len() > 2000 {
        return Err(format!("status {}, {lines} lines: {}", done.code, shortened(&done.stderr)));
    }
    if start.elapsed() > AT_ONCE { Err(format!("took {:?}", start.elapsed())) } else { Ok(()) }
}

/// Whether a line names a field, something in it, or the object in which it contradicts its neighbours.
fn names(line: &str, at: &str) -> bool {
    let mut above = at;
    line.contains(at)
        || std::iter::from_fn(|| Some(above.rsplit_once('/')?.0).inspect(|parent| above = parent))
            .any(|parent| !parent.is_empty() && line.contains(&format!("{parent}: ")))
}

fn shortened(text: &str) -> String {
    text.chars().take(300).collect()
}

fn create(bundle: &Bundle<'_>, all: Vec<Broken>, count: &mut Count) {
    let place = bundle.place;
    let id = place.id("bad");
    for broken in all {
        if broken.ends == Ends::Untried {
            count.untried += 1;
            continue;
        }
        fs::write(bundle.dir.join("config.json"), &broken.bytes).unwrap();
        let start = Instant::now();
        let done = super::create(bundle);
        let result = if broken.ends == Ends::Refused {
            count.refused += 1;
            refused(&done, 1, &broken, start)
        } else {
            count.legal += 1;
            if done.code == 0 { Ok(()) } else { Err(format!("legal, but: {}", shortened(&done.stderr))) }
        };
        if done.code == 0 {
            place.rt(&["delete", "--force", &id]).ok();
        }
        let left = fs::read_dir(&place.root).map_or(0, Iterator::count);
        let result = if left > 0 { Err(format!("{left} state directories left; {result:?}")) } else { result };
        if let Err(why) = result {
            count.failed.push(format!("{} with {}: {why}", broken.at, broken.how));
        }
    }
    assert_eq!(place.lasting_leftovers(), Vec::<String>::new());
}

#[test]
fn every_field_in_every_way() {
    let place = Place::new();
    let mut bundle = place.bundle("true");
    let id = place.id("bad");
    let cgroup = if harness::systemd() { format!("system.slice:rt-test:{id}") } else { format!("/{id}") };
    bundle.config = rows::full(&bundle.config, &cgroup);
    bundle.create("good", &[]).ok();
    place.rt(&["delete", "--force", &place.id("good")]).ok();
    let mut count = Count::default();
    create(&bundle, breaks(&bundle.config, rows::FIELDS), &mut count);
    println!(
        "{} refused, {} legal, {} untried, {} failed",
        count.refused,
        count.legal,
        count.untried,
        count.failed.len()
    );
    none_failed(&count.failed);
}

#[test]
fn every_rare_field_in_every_way() {
    let place = Place::new();
    let mut bundle = place.bundle("true");
    let good = bundle.config.clone();
    bundle.config = rows::rare(&good);
    let mut count = Count::default();
    let mut all = breaks(&bundle.config, rows::FIELDS);
    // What is legal is refused for what the machine lacks, if anything. The root is asked of the machine, too.
    all.retain(|broken| broken.ends == Ends::Refused && !broken.at.starts_with("/root"));
    create(&bundle, all, &mut count);
    println!("{} refused, {} failed", count.refused, count.failed.len());
    none_failed(&count.failed);
}

/// The part of each document below `at`, as a document of its own.
fn parts(whole: Value, at: &str) -> impl Iterator<Item = Broken> {
    let before: String = at.split('/').skip(1).map(|part| format!("{{\"{part}\":")).collect();
    let after = at.matches('/').count();
    let own = at.to_owned();
    breaks(&whole, rows::FIELDS).into_iter().filter_map(move |mut broken| {
        // What is wrong with the part as a whole is the rest's matter.
        broken.at = String::from(broken.at.strip_prefix(&own)?);
        let inside = broken.bytes.strip_prefix(before.as_bytes())?;
        broken.bytes = inside[..inside.len() - after].to_vec();
        (!broken.at.is_empty() && broken.ends != Ends::Untried).then_some(broken)
    })
}

#[test]
fn every_field_of_a_process() {
    let place = Place::new();
    let mut bundle = place.bundle("exec sleep 1000");
    let process = rows::full(&bundle.config, "")["process"].clone();
    bundle.config["process"]["capabilities"] = process["capabilities"].clone();
    bundle.create("c", &[]).ok();
    let id = place.id("c");
    place.rt(&["start", &id]).ok();
    let file = place.dir.join("process.json");
    let mut count = Count::default();
    for broken in parts(json!({"process": process}), "/process") {
        fs::write(&file, &broken.bytes).unwrap();
        let start = Instant::now();
        let done = place.rt(&["exec", "--process", file.to_str().unwrap(), &id]);
        let result = if broken.ends == Ends::Refused {
            count.refused += 1;
            refused(&done, 255, &broken, start)
        } else {
            count.legal += 1;
            if done.code == 255 { Err(format!("legal, but: {}", shortened(&done.stderr))) } else { Ok(()) }
        };
        if let Err(why) = result {
            count.failed.push(format!("{} with {}: {why}", broken.at, broken.how));
        }
    }
    place.rt(&["delete", "--force", &id]).ok();
    println!("exec: {} refused, {} legal, {} failed", count.refused, count.legal, count.failed.len());
    none_failed(&count.failed);
}

#[test]
fn every_field_of_an_update() {
    let place = Place::new();
    let bundle = place.bundle("true");
    bundle.create("c", &[]).ok();
    let id = place.id("c");
    let file = place.dir.join("resources.json");
    let mut count = Count::default();
    for whole in [rows::full(&bundle.config, ""), rows::rare(&bundle.config)] {
        let whole = json!({"linux": {"resources": whole["linux"]["resources"]}});
        // What is legal is tried by create: here it would change the same cgroup again and again.
        for broken in parts(whole, "/linux/resources").filter(|broken| broken.ends == Ends::Refused) {
            fs::write(&file, &broken.bytes).unwrap();
            let start = Instant::now();
            let done = place.rt(&["update", "--resources", file.to_str().unwrap(), &id]);
            count.refused += 1;
            if let Err(why) = refused(&done, 1, &broken, start) {
                count.failed.push(format!("{} with {}: {why}", broken.at, broken.how));
            }
        }
    }
    println!("update: {} refused, {} failed", count.refused, count.failed.len());
    none_failed(&count.failed);
}

/// What `exec --process` and `update --resources` are given is read as config.json is: nothing is waited for.
#[test]
fn what_is_no_file_is_not_waited_for_elsewhere_either() {
    let place = Place::new();
    let bundle = place.bundle("exec sleep 1000");
    bundle.create("c", &[]).ok();
    let id = place.id("c");
    let path = |name: &str| place.dir.join(name).display().to_string();
    harness::host(&format!("mkfifo {}; mkdir {}", path("fifo"), path("directory"))).ok();
    let _socket = std::os::unix::net::UnixListener::bind(path("socket")).unwrap();
    std::fs::File::create(path("large")).unwrap().set_len(1 << 30).unwrap();
    for (file, says) in [
        (path("fifo"), "not a regular file"),
        (path("directory"), "not a regular file"),
        (path("socket"), "no such device or address"),
        (path("missing"), "no such file"),
        (path("large"), "bytes, more than"),
        ("/dev/zero".to_owned(), "not a regular file"),
    ] {
        for (args, status) in [(["exec", "--process", &file, &id], 255), (["update", "--resources", &file, &id], 1)] {
            let start = Instant::now();
            let done = place.rt(&args);
            let good = done.code == status && done.stderr.lines().count() == 1 && done.stderr.contains(says);
            assert!(good && done.stderr.contains(&file), "{args:?}: {done:?}");
            assert!(start.elapsed() < AT_ONCE, "{args:?}");
        }
    }
}

/// Ids that would lead elsewhere are refused before any path is made of them, by every command.
#[test]
fn ids_that_traverse() {
    let place = Place::new();
    let bundle = place.bundle("true");
    bundle.write();
    // What would be reached if the id were a path.
    let outside = place.dir.join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("state.json"), "{}").unwrap();
    fs::create_dir_all(&place.root).unwrap();
    let long = "x".repeat(5000);
    let before: [&[&str]; 15] = [
        &["checkpoint"],
        &["create", "--bundle", bundle.path()],
        &["delete"],
        &["delete", "--force"],
        &["events", "--stats"],
        &["exec"],
        &["kill"],
        &["pause"],
        &["ps"],
        &["restore", "--bundle", bundle.path()],
        &["resume"],
        &["run", "--bundle", bundle.path()],
        &["start"],
        &["state"],
        &["update", "--pids-limit", "5"],
    ];
    for args in before {
        for id in [
            "../outside",
            "..",
            ".",
            "",
            "/etc",
            "a/b",
            "a/../../outside",
            "a b",
            "a\nb",
            "\u{e4}",
            "a\\b",
            "a:b",
            &long,
        ] {
            let mut all = args.to_vec();
            all.extend(["--", id]);
            if args[0] == "exec" {
                all.push("true");
            }
            let done = place.rt(&all);
            let status = if args[0] == "exec" { 255 } else { 1 };
            let lines = done.stderr.lines().count();
            let shown: String = id.chars().take(20).collect::<String>().escape_debug().to_string();
            assert!(done.code == status && lines == 1 && done.stderr.contains(&shown), "{all:?}: {done:?}");
        }
    }
    assert!(outside.join("state.json").exists());
}

/// The same cases through the runtime of `RT_BAD_INPUT_RUNTIME` (see `run`), as a table; every 20th of them where it is
/// not given, through `rt`.
#[test]
fn table_of_a_runtime() {
    let asked = std::env::var("RT_BAD_INPUT_RUNTIME").ok();
    let every = std::env::var("RT_BAD_INPUT_EVERY").ok().and_then(|text| text.parse().ok()).unwrap_or(20);
    let place = Place::new();
    let program = match asked.as_deref() {
        None => harness::RT.to_owned(),
        Some("crun") => harness::crun(&place),
        Some(other) => other.to_owned(),
    };
    let mut bundle = place.bundle("true");
    let spec = bundle.config.clone();
    let id = place.id("bad");
    let runtime = |args: &[&str]| {
        let err = place.dir.join("err");
        let mut command = Command::new(&program);
        command.arg("--root").arg(&place.root).args(args).stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(fs::File::create(&err).unwrap());
        let mut done = harness::finish(command.spawn().unwrap());
        done.stderr = String::from_utf8_lossy(&fs::read(err).unwrap()).into_owned();
        done
    };
    // What is broken in a document that the runtime refuses anyway would prove nothing.
    bundle.config = rows::full(&spec, &format!("/{id}"));
    // Debian's runc and crun are older than these.
    bundle.config["ociVersion"] = json!("1.0.2");
    for (object, field) in [
        ("/linux/seccomp", "flags"),
        ("/process", "scheduler"),
        ("/process", "ioPriority"),
        ("", "domainname"),
        ("/process", "execCPUAffinity"),
        ("/linux/namespaces/4", "path"),
        ("/linux/resources", "network"),
        ("/linux/resources", "hugepageLimits"),
        ("/linux/resources", "rdma"),
        ("/linux/resources", "unified"),
    ] {
        bundle.config.pointer_mut(object).unwrap().as_object_mut().unwrap().remove(field);
    }
    bundle.write();
    let good = runtime(&["create", "--bundle", bundle.path(), &id]);
    runtime(&["delete", "--force", &id]);
    assert_eq!(good.code, 0, "{program} takes not even the good document: {}", good.stderr);

    let (mut tried, mut handled, mut refused, mut one_line, mut named, mut clean) = (0, 0, 0, 0, 0, 0);
    for broken in breaks(&bundle.config, rows::FIELDS).into_iter().filter(|it| it.ends == Ends::Refused).step_by(every)
    {
        fs::write(bundle.dir.join("config.json"), &broken.bytes).unwrap();
        let start = Instant::now();
        let done = runtime(&["create", "--bundle", bundle.path(), &id]);
        let said_no =
            done.code > 0 && done.code < 128 && start.elapsed() < AT_ONCE && !done.stderr.contains("goroutine");
        let left = fs::read_dir(&place.root).map_or(0, Iterator::count) + harness::cgroups_named(&id).len();
        let field = broken.at.rsplit('/').find(|part| part.parse::<u32>().is_err()).unwrap_or_default();
        tried += 1;
        refused += usize::from(said_no);
        one_line += usize::from(said_no && done.stderr.lines().count() == 1);
        named += usize::from(said_no && done.stderr.contains(field));
        clean += usize::from(said_no && left == 0);
        handled += usize::from(said_no && left == 0 && done.stderr.lines().count() == 1);
        if left > 0 || done.code == 0 {
            runtime(&["delete", "--force", &id]);
            harness::host(&format!("find /sys/fs/cgroup -depth -type d -name '{id}*' -exec rmdir {{}} + 2>/dev/null"));
        }
    }
    println!("| runtime | tried | handled | refused | in one line | the field's name | nothing left |");
    println!("| {program} | {tried} | {handled} | {refused} | {one_line} | {named} | {clean} |");
    assert!(tried > 10);
    assert!(asked.is_some() || handled == tried, "{handled} of {tried}");
}
