//! What goes in comes out: byte for byte for each stream, whatever the rotation, also while a reader follows.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use rustix::mount::{MountFlags, MountPropagationFlags};

use super::record::Record;
use super::{Limits, Options, Stream, Writer, read};

struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("bundle-log-{}-{number}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    fn log(&self) -> PathBuf {
        self.0.join("log")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Marsaglia's xorshift: the same numbers every time.
struct Random(u64);

impl Random {
    fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % most
    }

    /// What a program may write at once: lines short and long, half lines, any bytes.
    fn piece(&mut self) -> Vec<u8> {
        let length = match self.below(20) {
            0 => 40_000,
            1 => 16_384,
            2..8 => self.below(20),
            _ => self.below(300),
        };
        let line_end = self.below(60) + 1;
        (0..length).map(|_| if self.below(line_end) == 0 { b'\n' } else { self.below(256) as u8 }).collect()
    }
}

const LARGE: Limits = Limits { max_size: 1 << 30, max_file: 5 };

fn read_all(dir: &Path, options: &Options) -> (Vec<u8>, Vec<u8>) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    read(dir, options, &mut out, &mut err, &mut || true).unwrap();
    (out, err)
}

fn lines(dir: &Path, options: &Options) -> String {
    let (out, err) = read_all(dir, options);
    format!("{}|{}", String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

/// A reader asks whether the writer has ended before it opens the first file, and again when it has it.
fn wait_until_it_follows(asked: &AtomicU32) {
    while asked.load(Ordering::Acquire) < 2 {
        std::thread::yield_now();
    }
}

#[test]
fn a_follower_gets_every_byte_while_files_come_and_go() {
    for seed in 1..40 {
        let mut random = Random(seed * 7919);
        let scratch = Scratch::new();
        let dir = scratch.log();
        let limits = Limits { max_size: 60 + random.below(60_000), max_file: 1 + random.below(4) as u32 };
        let mut writer = Writer::open(&dir, limits).unwrap();
        let (mut wanted_out, mut wanted_err) = (Vec::new(), Vec::new());
        let over = AtomicBool::new(false);
        let asked = AtomicU32::new(0);
        let (got_out, got_err) = std::thread::scope(|scope| {
            let follower = scope.spawn(|| {
                let (mut out, mut err) = (Vec::new(), Vec::new());
                let options = Options { follow: true, ..Options::default() };
                read(&dir, &options, &mut out, &mut err, &mut || {
                    asked.fetch_add(1, Ordering::Release);
                    over.load(Ordering::Acquire)
                })
                .unwrap();
                (out, err)
            });
            wait_until_it_follows(&asked);
            for _ in 0..random.below(400) {
                let piece = random.piece();
                if random.below(3) == 0 {
                    writer.write(Stream::Stderr, &piece);
                    wanted_err.extend_from_slice(&piece);
                } else {
                    writer.write(Stream::Stdout, &piece);
                    wanted_out.extend_from_slice(&piece);
                }
                // The monitor may be started anew at any time.
                if random.below(50) == 0 {
                    writer = Writer::open(&dir, limits).unwrap();
                }
            }
            over.store(true, Ordering::Release);
            follower.join().unwrap()
        });
        assert!(got_out == wanted_out, "seed {seed}: {} bytes of {}", got_out.len(), wanted_out.len());
        assert!(got_err == wanted_err, "seed {seed}: {} bytes of {}", got_err.len(), wanted_err.len());
        // Who comes later has the end, and no file is larger than it may be.
        let (late, _) = read_all(&dir, &Options::default());
        assert!(wanted_out.ends_with(&late), "seed {seed}");
        for file in fs::read_dir(&dir).unwrap() {
            let size = file.unwrap().metadata().unwrap().len();
            assert!(size <= limits.max_size.max(super::record::HEAD as u64 + (16 << 10) + 1), "seed {seed}: {size}");
        }
        drop(Writer::open(&dir, limits).unwrap());
        assert!(fs::read_dir(&dir).unwrap().count() <= limits.max_file as usize, "seed {seed}");
    }
}

#[test]
fn the_tail_is_the_end_of_the_whole() {
    for seed in 1..20 {
        let mut random = Random(seed * 104_729);
        let scratch = Scratch::new();
        let dir = scratch.log();
        let mut writer = Writer::open(&dir, Limits { max_size: 1000 + random.below(200_000), max_file: 1000 }).unwrap();
        for _ in 0..200 {
            let stream = if random.below(3) == 0 { Stream::Stderr } else { Stream::Stdout };
            writer.write(stream, &random.piece());
        }
        let all = read_all(&dir, &Options::default());
        let count = |text: &[u8]| text.split_inclusive(|&byte| byte == b'\n').count() as u64;
        let total = count(&all.0) + count(&all.1);
        for wanted in [0, 1, 2, 3, 10, 100, total - 1, total, total + 5] {
            let (out, err) = read_all(&dir, &Options { tail: Some(wanted), ..Options::default() });
            assert!(all.0.ends_with(&out) && all.1.ends_with(&err), "seed {seed}, {wanted} lines");
            assert_eq!(count(&out) + count(&err), wanted.min(total), "seed {seed}");
        }
        let only = Options { tail: Some(7), only: Some(Stream::Stderr), ..Options::default() };
        let (out, err) = read_all(&dir, &only);
        assert_eq!((out.len(), count(&err)), (0, count(&all.1).min(7)));
    }
}

#[test]
fn lines_have_times_and_are_chosen_by_them() {
    let scratch = Scratch::new();
    let dir = scratch.log();
    fs::create_dir(&dir).unwrap();
    let text = "2026-01-01T00:00:01.000000000Z stdout F one\n\
        2026-01-01T00:00:02.000000000Z stdout P tw\n\
        2026-01-01T00:00:03.000000000Z stderr F err\n\
        2026-01-01T00:00:04.000000000Z stdout F o\n\
        2026-01-01T00:00:05.000000000Z stdout P three";
    fs::write(dir.join("1"), text).unwrap();
    let at = |second: u8| Some(format!("2026-01-01T00:00:0{second}Z").parse::<Timestamp>().unwrap());
    let options = Options::default();
    assert_eq!(lines(&dir, &options), "one\ntwo\nthree|err\n");
    // A line is as old as its beginning.
    assert_eq!(lines(&dir, &Options { since: at(3), ..options.clone() }), "three|err\n");
    assert_eq!(lines(&dir, &Options { until: at(2), ..options.clone() }), "one\ntwo\n|");
    assert_eq!(lines(&dir, &Options { since: at(2), until: at(2), ..options.clone() }), "two\n|");
    // What has no end yet is a line more than was asked for.
    assert_eq!(lines(&dir, &Options { tail: Some(2), ..options.clone() }), "two\nthree|err\n");
    assert_eq!(lines(&dir, &Options { tail: Some(1), until: at(2), ..options.clone() }), "two\n|");
    let with_times = lines(&dir, &Options { timestamps: true, only: Some(Stream::Stdout), ..options });
    assert_eq!(
        with_times,
        "2026-01-01T00:00:01.000000000Z one\n2026-01-01T00:00:02.000000000Z two\n2026-01-01T00:00:05.000000000Z three|"
    );
}

#[test]
fn what_a_killed_writer_has_torn_ends_there() {
    let scratch = Scratch::new();
    let dir = scratch.log();
    for torn in ["2026-01-01T00:00:01.000000000Z stdout F one\n2026-01-01T00:0", "junk", "\n\n"] {
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("7"), torn).unwrap();
        Writer::open(&dir, LARGE).unwrap().write(Stream::Stdout, b"next\n");
        assert!(lines(&dir, &Options::default()).ends_with("next\n|"), "{torn:?}");
        assert_eq!(lines(&dir, &Options { tail: Some(1), ..Options::default() }), "next\n|", "{torn:?}");
    }
    // No log, or an empty one, is nothing to read.
    fs::remove_dir_all(&dir).unwrap();
    assert_eq!(lines(&dir, &Options { follow: true, ..Options::default() }), "|");
    fs::create_dir(&dir).unwrap();
    assert_eq!(lines(&dir, &Options { follow: true, tail: Some(3), ..Options::default() }), "|");
}

#[test]
fn a_full_disk_is_survived_and_told_of() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let scratch = Scratch::new();
    let disk = scratch.0.join("disk");
    fs::create_dir(&disk).unwrap();
    std::thread::scope(|scope| {
        let in_own_mounts = scope.spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
            rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
            rustix::mount::mount("tmpfs", &disk, "tmpfs", MountFlags::empty(), Some(c"size=128k")).unwrap();
            let dir = disk.join("log");
            let mut writer = Writer::open(&dir, LARGE).unwrap();
            fs::write(disk.join("filler"), vec![0; 60 << 10]).unwrap();
            // Lines that end nowhere near the end of a page.
            let line = |number: u32| format!("{number:0130}\n").into_bytes();
            for number in 0..500 {
                writer.write(Stream::Stdout, &line(number));
            }
            let kept = read_all(&dir, &Options::default()).0;
            assert!(kept.len() > 20_000 && kept.len() < 500 * 131, "{}", kept.len());
            fs::remove_file(disk.join("filler")).unwrap();
            writer.write(Stream::Stdout, b"room\n");
            let (out, err) = read_all(&dir, &Options::default());
            // The record that was half there is whole, and nothing is torn.
            let wanted: Vec<u8> = (0..500).flat_map(line).collect();
            let kept = out.strip_suffix(b"room\n").unwrap();
            assert!(wanted.starts_with(kept) && kept.len() % 131 == 0, "{}", kept.len());
            let missing = wanted.len() - kept.len();
            let said = format!("bundle: {missing} bytes of output are missing here: they could not be written\n");
            assert_eq!(String::from_utf8(err).unwrap(), said);
        });
        in_own_mounts.join().unwrap();
    });
}

/// A consumer that is slow at times.
struct Slow {
    next: u64,
    part: Vec<u8>,
    bytes: u64,
    naps: u32,
}

impl Write for Slow {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes += bytes.len() as u64;
        let mut rest = bytes;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            self.part.extend_from_slice(&rest[..end]);
            let digits = &self.part[..12];
            let number = std::str::from_utf8(digits).unwrap().parse::<u64>().unwrap();
            assert_eq!(number, self.next, "a line is missing");
            self.next += 1;
            self.part.clear();
            rest = &rest[end + 1..];
        }
        self.part.extend_from_slice(rest);
        // In all some seconds, in which the writer rotates again and again.
        if self.bytes / (20 << 20) > u64::from(self.naps) {
            self.naps += 1;
            std::thread::sleep(Duration::from_millis(60));
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_gigabyte_passes_a_slow_reader_whole() {
    let scratch = Scratch::new();
    let dir = scratch.log();
    let limits = Limits { max_size: 10 << 20, max_file: 3 };
    let mut writer = Writer::open(&dir, limits).unwrap();
    let over = AtomicBool::new(false);
    let asked = AtomicU32::new(0);
    let begin = Instant::now();
    let (lines, seen, written) = std::thread::scope(|scope| {
        let follower = scope.spawn(|| {
            let mut out = Slow { next: 0, part: Vec::new(), bytes: 0, naps: 0 };
            let options = Options { follow: true, ..Options::default() };
            read(&dir, &options, &mut out, &mut io::sink(), &mut || {
                asked.fetch_add(1, Ordering::Release);
                over.load(Ordering::Acquire)
            })
            .unwrap();
            assert!(out.naps >= 40 && out.part.is_empty());
            out.next
        });
        wait_until_it_follows(&asked);
        // As a pipe gives it: 64 KiB at once, lines from 13 to 3000 bytes.
        let mut pipe = Vec::with_capacity(70 << 10);
        let (mut total, mut lines) = (0_u64, 0_u64);
        while total < 1 << 30 {
            pipe.clear();
            while pipe.len() < 64 << 10 {
                write!(pipe, "{lines:012}").unwrap();
                pipe.resize(pipe.len() + (lines * 7919 % 3000) as usize, b'x');
                pipe.push(b'\n');
                lines += 1;
            }
            writer.write(Stream::Stdout, &pipe);
            total += pipe.len() as u64;
        }
        let written = begin.elapsed();
        over.store(true, Ordering::Release);
        (lines, follower.join().unwrap(), written)
    });
    println!("{lines} lines: written in {written:?}, read in {:?}", begin.elapsed());
    assert_eq!(seen, lines);
    assert!(begin.elapsed() < Duration::from_mins(2));
    drop(Writer::open(&dir, limits).unwrap());
    assert!(fs::read_dir(&dir).unwrap().count() <= 3);
}

#[test]
fn records_are_those_of_the_cri() {
    let scratch = Scratch::new();
    let dir = scratch.log();
    let mut writer = Writer::open(&dir, LARGE).unwrap();
    writer.write(Stream::Stdout, b"a\nb");
    writer.write(Stream::Stderr, &[b'x'; 16 << 10]);
    writer.write(Stream::Stderr, b"\n");
    let text = fs::read(dir.join("1")).unwrap();
    let tags: Vec<(Stream, bool, usize)> = text
        .split(|&byte| byte == b'\n')
        .filter_map(Record::parse)
        .map(|it| (it.stream, it.full, it.content.len()))
        .collect();
    let (out, err) = (Stream::Stdout, Stream::Stderr);
    assert_eq!(tags, [(out, true, 1), (out, false, 1), (err, false, 16 << 10), (err, true, 0)]);
}
