//! `logs`: what a container has written comes out, whole, apart and in time.

use std::io::Read;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::bed::{Bed, names, read_until, until};
use crate::harness::sh;

#[test]
fn lines_are_chosen_by_number_and_time() {
    let bed = Bed::new("logs");
    let script = "echo one; echo two >&2; sleep 1.2; echo three; printf half";
    bed.run(&["run", "--name", "ll", "it", "sh", "-c", script]).ok();
    let logs = |flags: &[&str]| {
        let done = bed.run(&[&["logs"], flags, &["ll"]].concat()).ok();
        (done.out, done.err)
    };
    let pair = |out: &str, err: &str| (out.to_owned(), err.to_owned());
    assert_eq!(logs(&[]), pair("one\nthree\nhalf", "two\n"));
    assert_eq!(logs(&["-n", "all"]), logs(&[]));
    assert_eq!(logs(&["-n", "2"]), pair("three\nhalf", ""));
    assert_eq!(logs(&["--tail", "0"]), pair("", ""));
    assert_eq!(logs(&["--tail=100"]), logs(&[]));
    // It has ended: there is nothing to wait for.
    assert_eq!(logs(&["-f", "-n", "1"]), pair("half", ""));
    let (out, err) = logs(&["-t"]);
    let time = |line: &str| line.split(' ').next().unwrap().to_owned();
    let times: Vec<String> = out.lines().map(time).collect();
    assert!(times.len() == 3 && times.iter().all(|it| it.len() == 30 && it.ends_with('Z')), "{out}");
    assert!(err.ends_with(" two\n"));
    assert_eq!(logs(&["--since", &times[1]]), pair("three\nhalf", ""));
    assert_eq!(logs(&["--until", &time(&err)]), pair("one\n", "two\n"));
    assert_eq!(logs(&["--since", "1h"]), logs(&[]));
    assert_eq!(logs(&["--since", "0s"]), pair("", ""));
    assert_eq!(logs(&["--until", "1000000000.5"]), pair("", ""));
    for (bad, words) in [
        (&["--since", "yesterday"][..], "--since"),
        (&["--until", ""], "--until"),
        (&["--tail=-1"], "--tail"),
        (&["--tail", "x"], "--tail"),
        (&["--details"], "--details"),
    ] {
        let done = bed.run(&[&["logs"], bad, &["ll"]].concat());
        assert!(done.status != 0 && done.err.contains(words) && done.out.is_empty(), "{bad:?}: {}", done.err);
    }
    bed.run(&["logs", "nobody"]).fails(1, "no such container: nobody");
    bed.run(&["run", "--name", "quiet", "--log-driver", "none", "it", "echo", "x"]).ok();
    bed.run(&["logs", "quiet"]).fails(1, "--log-driver none");
}

#[test]
fn any_bytes_come_out_as_they_went_in() {
    let bed = Bed::new("bytes");
    let script = "head -c 3000000 /dev/urandom | tee /copy; head -c 500000 /dev/urandom | tee /copy2 >&2";
    bed.run(&["run", "-d", "--name", "bb", "it", "sh", "-c", script]).ok();
    bed.run(&["wait", "bb"]).ok();
    for name in ["copy", "copy2"] {
        bed.run(&["cp", &format!("bb:/{name}"), &bed.0.text(name)]).ok();
    }
    let output = bed.command(&["logs", "bb"]).output().unwrap();
    assert!(output.stdout == std::fs::read(bed.0.path("copy")).unwrap(), "{} bytes", output.stdout.len());
    assert!(output.stderr == std::fs::read(bed.0.path("copy2")).unwrap(), "{} bytes", output.stderr.len());
}

#[test]
fn a_follower_sees_lines_at_once_and_ends_with_the_container() {
    let bed = Bed::new("follow");
    bed.detached("ff", &[], "echo begin; while [ ! -e /go ]; do sleep 0.02; done; printf prompt; sleep 100");
    until("it has begun", || bed.run(&["logs", "ff"]).ok().out == "begin\n");
    let mut child = bed.command(&["logs", "-f", "-n", "0", "ff"]).stdout(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(200));
    bed.run(&["exec", "ff", "touch", "/go"]).ok();
    // Also a line that has not ended.
    assert_eq!(read_until(&mut child, "prompt"), "prompt");
    let begin = Instant::now();
    bed.run(&["stop", "-t", "0", "ff"]).ok();
    assert!(child.wait().unwrap().success());
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    // A container that is removed meanwhile ends it too.
    bed.run(&["start", "ff"]).ok();
    let mut child = bed.command(&["logs", "-f", "ff"]).stdout(Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(100));
    bed.run(&["rm", "-f", "ff"]).ok();
    until("the follower has ended", || child.try_wait().unwrap().is_some());
    bed.is_clean();
}

#[test]
fn rotation_keeps_the_end_and_loses_nothing_of_a_follower() {
    let bed = Bed::new("rotate");
    let flags = ["--log-opt", "max-size=64k", "--log-opt", "max-file=2"];
    bed.detached("rr", &flags, "while [ ! -e /go ]; do sleep 0.02; done; seq 1 100000");
    let child = bed.command(&["logs", "-f", "rr"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    bed.run(&["exec", "rr", "touch", "/go"]).ok();
    let followed = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
    assert!(followed.lines().eq((1..=100_000).map(|it| it.to_string())), "{} lines", followed.lines().count());
    let dir = bed.0.path("store/containers").join(bed.inspect("rr", ".Id")).join("log");
    let size = |name: &String| std::fs::metadata(dir.join(name)).unwrap().len();
    // What a follower still had to read was kept for it. With no one there, it goes with what comes next.
    bed.run(&["start", "rr"]).ok();
    bed.run(&["wait", "rr"]).ok();
    assert!(names(&dir).len() <= 2, "{:?}", names(&dir));
    assert!(names(&dir).iter().all(|it| size(it) <= 64 << 10), "{:?}", names(&dir));
    let late = bed.run(&["logs", "rr"]).ok();
    assert!(late.out.ends_with("\n99999\n100000\n") && late.out.lines().count() > 300, "{}", late.out.lines().count());
    assert_eq!(bed.run(&["logs", "-n", "2", "rr"]).ok().out, "99999\n100000\n");
    bed.run(&["run", "--log-opt", "max-size=x", "it"]).fails(125, "max-size");
}

#[test]
fn a_gigabyte_at_full_speed_loses_no_line() {
    let bed = Bed::new("gigabyte");
    // A block of 1 MiB in lines of 1 KiB, each with its number; the shell counts the blocks.
    let block: String = (0..1024).map(|line| format!("{line:08} {}\n", "x".repeat(1014))).collect();
    std::fs::write(bed.0.path("block"), &block).unwrap();
    let volume = format!("{}:/block:ro", bed.0.text("block"));
    let script = "while [ ! -e /go ]; do sleep 0.02; done; i=0; while [ $i -lt 1024 ]; do cat /block; i=$((i+1)); done";
    bed.detached("gg", &["-v", &volume], script);
    let mut child = bed.command(&["logs", "-f", "gg"]).stdout(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let begin = Instant::now();
    bed.run(&["exec", "gg", "touch", "/go"]).ok();
    let mut out = child.stdout.take().unwrap();
    let mut got = vec![0; block.len()];
    for number in 0..1024 {
        out.read_exact(&mut got).unwrap();
        assert!(got == block.as_bytes(), "block {number}");
        // A reader that is slower than the writer: files are rotated away that it has not read.
        if number % 64 == 0 {
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    assert_eq!(out.read(&mut got).unwrap(), 0);
    assert!(child.wait().unwrap().success());
    let read = begin.elapsed();
    assert!(read < Duration::from_mins(3), "{read:?}");
    println!("1 GiB written by a container and followed in {read:?}");
    // By default 10 MiB five times.
    let size: u64 =
        sh(&format!("du -sb {}/containers/{}/log | cut -f1", bed.0.text("store"), bed.inspect("gg", ".Id")))
            .trim()
            .parse()
            .unwrap();
    assert!(size < 51 << 20, "{size}");
}
