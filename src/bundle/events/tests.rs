//! Events of many writers, across the change of files.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Filters, Kind, MAX_SIZE, Query, append, read};

struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("bundle-events-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn past(root: &Path, filters: &[&str]) -> Vec<Value> {
    let filters: Vec<String> = filters.iter().map(|it| (*it).to_owned()).collect();
    let query = Query { until: Some(Timestamp::now()), filters: Filters::parse(&filters).unwrap(), since: None };
    let mut seen = Vec::new();
    read(root, &query, &mut |event| {
        seen.push(event.clone());
        Ok(())
    })
    .unwrap();
    seen
}

#[test]
fn nothing_is_lost_between_writers_and_files() {
    let scratch = Scratch::new();
    let root = &scratch.0;
    // Together some 9 MB: the file changes twice.
    let text = "x".repeat(1000);
    let (writers, each) = (4, 2000);
    let seen = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut seen = vec![Vec::new(); writers];
            let mut left = writers * each;
            let query = Query { since: Some(Timestamp::UNIX_EPOCH), ..Query::default() };
            read(root, &query, &mut |event| {
                let writer: usize = event["Actor"]["ID"].as_str().unwrap().parse().unwrap();
                let number: usize = event["Action"].as_str().unwrap().parse().unwrap();
                seen[writer].push(number);
                left -= 1;
                if left == 0 { Err(std::io::ErrorKind::BrokenPipe.into()) } else { Ok(()) }
            })
            .unwrap();
            seen
        });
        for writer in 0..writers {
            let text = &text;
            scope.spawn(move || {
                for number in 0..each {
                    append(root, Kind::Container, &number.to_string(), &writer.to_string(), &[("text", text)]);
                }
            });
        }
        reader.join().unwrap()
    });
    for numbers in seen {
        assert_eq!(numbers, (0..each).collect::<Vec<_>>());
    }
    let mut names: Vec<_> = std::fs::read_dir(root).unwrap().map(|it| it.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["events", "events.1"]);
    for name in names {
        assert!(root.join(name).metadata().unwrap().len() <= MAX_SIZE);
    }
}

#[test]
fn events_are_dockers_and_chosen_by_its_filters() {
    let scratch = Scratch::new();
    let root = &scratch.0;
    append(root, Kind::Image, "pull", "docker.io/library/alpine:3", &[("name", "alpine")]);
    append(root, Kind::Container, "start", "abcdef", &[("name", "web"), ("image", "alpine"), ("tier", "front")]);
    append(root, Kind::Container, "health_status: healthy", "abcdef", &[("name", "web"), ("image", "alpine")]);
    append(root, Kind::Container, "die", "fedcba", &[("name", "db"), ("image", "redis"), ("exitCode", "1")]);
    append(root, Kind::Volume, "create", "data", &[("driver", "local")]);
    let all = past(root, &[]);
    assert_eq!(all.len(), 5);
    assert_eq!(all[1]["Type"], "container");
    assert_eq!(
        all[1]["Actor"],
        json!({"ID": "abcdef", "Attributes": {"name": "web", "image": "alpine", "tier": "front"}})
    );
    assert_eq!(all[1]["timeNano"].as_i64().unwrap() / 1_000_000_000, all[1]["time"].as_i64().unwrap());
    for (filters, wanted) in [
        (&["type=container"][..], 3),
        (&["container=web"], 2),
        (&["container=abc"], 2),
        (&["container=web", "container=db"], 3),
        (&["container=web", "event=start"], 1),
        (&["event=health_status"], 1),
        (&["event=health_status: healthy"], 1),
        (&["image=alpine:latest"], 3),
        (&["volume=data"], 1),
        (&["label=tier"], 1),
        (&["label=tier=front"], 1),
        (&["label=tier=back"], 0),
        (&["scope=local", "type=image"], 1),
        (&["network=x"], 0),
    ] {
        assert_eq!(past(root, filters).len(), wanted, "{filters:?}");
    }
    for bad in ["x", "nothing=1", "=1"] {
        assert!(Filters::parse(&[bad.to_owned()]).is_err(), "{bad}");
    }
    // Without a time only what is to come, which here is nothing.
    let query = Query { since: Some(Timestamp::now()), until: Some(Timestamp::now()), ..Query::default() };
    read(root, &query, &mut |event| panic!("{event}")).unwrap();
    // A store without events, or none at all, keeps nobody from his work.
    append(&root.join("nothing"), Kind::Image, "pull", "x", &[]);
}
