//! What goes wrong: kills, full disks, builds at the same time, contexts that mean harm.

use std::os::unix::fs::FileTypeExt;
use std::process::{Child, Stdio};
use std::time::Duration;

use crate::bed::{Bed, until};
use crate::harness::{Done, sh};

fn spawn(bed: &Bed, words: &[&str]) -> Child {
    bed.command(words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Processes whose command line has a word.
fn processes(word: &str) -> Vec<String> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|it| std::fs::read(it.path().join("cmdline")).ok());
    lines.map(|it| String::from_utf8_lossy(&it).replace('\0', " ")).filter(|it| it.contains(word)).collect()
}

#[test]
fn a_killed_build_leaves_nothing() {
    let bed = Bed::new("build-killed");
    let mark = format!("31{}", std::process::id());
    let dockerfile = format!(
        "FROM base:1 AS one\nRUN echo first > /first\nRUN echo begun && sleep {mark}\nFROM base:1\nCOPY --from=one /first /\n"
    );
    let context = bed.context("context", &[("Dockerfile", &dockerfile)]);
    for moment in [0, 20, 60, 150, 400] {
        let mut child = spawn(&bed, &["build", "-t", "t", &context]);
        std::thread::sleep(Duration::from_millis(moment));
        child.kill().unwrap();
        child.wait().unwrap();
        bed.is_clean();
        let name = format!("sleep {mark}");
        until("the command has ended", || processes(&name).is_empty());
    }
    // What was done by then is not done again.
    let short = dockerfile.replace(&format!("sleep {mark}"), "true");
    assert!(bed.build(&short, &[], &[]).ok().err.contains("CACHED"));
    assert_eq!(bed.in_image("t", "cat /first"), "first\n");
    bed.is_clean();
}

#[test]
fn a_signal_ends_a_build() {
    let bed = Bed::new("build-signal");
    let mark = format!("32{}", std::process::id());
    let dockerfile = format!("FROM base:1\nRUN echo begun; trap '' TERM INT; sleep {mark}\n");
    let context = bed.context("context", &[("Dockerfile", &dockerfile)]);
    for (signal, status) in [("INT", 130), ("TERM", 143)] {
        let child = spawn(&bed, &["build", "-t", "t", &context]);
        until("the command runs", || !processes(&format!("sleep {mark}")).is_empty());
        sh(&format!("kill -{signal} {}", child.id()));
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{text}");
        assert!(text.lines().last().unwrap().contains(&format!("the build was ended by SIG{signal}")), "{text}");
        assert!(processes(&format!("sleep {mark}")).is_empty());
    }
    bed.is_clean();
}

#[test]
fn builds_of_one_context_at_the_same_time() {
    let bed = Bed::new("build-parallel");
    let dockerfile = "FROM base:1 AS a\nCOPY . /src\nRUN echo did-a; sleep 0.2; date +%N > /a\nFROM base:1 AS b\n\
        RUN echo did-b; sleep 0.2; date +%N > /b\nFROM base:1\nCOPY --from=a /a /src /\nCOPY --from=b /b /\nRUN cat /a /b > /c\n";
    let context = bed.context("context", &[("Dockerfile", dockerfile), ("x/y", "z")]);
    let children: Vec<Child> =
        (0..4).map(|number| spawn(&bed, &["build", "-t", &format!("t{number}"), &context])).collect();
    let mut ids = Vec::new();
    let mut did = 0;
    for child in children {
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{text}");
        did += text.lines().filter(|it| it.ends_with(" did-a") || it.ends_with(" did-b")).count();
        ids.push(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    ids.dedup();
    assert_eq!((ids.len(), did), (1, 2), "each step is done once");
    bed.is_clean();
}

#[test]
fn a_full_disk_is_told() {
    let bed = Bed::new("build-full");
    let small = bed.0.text("small");
    sh(&format!("mkdir {small} && mount -t tmpfs -o size=24m small {small}"));
    let dockerfile = "FROM base:1\nRUN echo first > /first\nRUN dd if=/dev/urandom of=/big bs=1M count=40\n";
    let context = bed.context("context", &[("Dockerfile", dockerfile)]);
    let at = |words: &[&str]| {
        let mut command = bed.command(words);
        Done::of(command.env("BUNDLE_ROOT", format!("{small}/store")).stdin(Stdio::null()), words)
    };
    let result = std::panic::catch_unwind(|| {
        at(&["load", "-q", "-i", &bed.0.text("layout")]).ok();
        let failed = at(&["build", "-t", "t", &context]).fails(1, "Dockerfile:3");
        assert!(failed.err.contains("No space left on device"), "{}", failed.err);
        // The copy of a large file too; and when room is made, all is well.
        let copy = bed.context("copy", &[("Dockerfile", "FROM base:1\nCOPY big /\n")]);
        sh(&format!("head -c 40M /dev/urandom > {copy}/big"));
        at(&["build", "-t", "t", &copy]).fails(1, "Dockerfile:2");
        sh(&format!("head -c 1M /dev/urandom > {copy}/big"));
        at(&["build", "-t", "t", &copy]).ok();
        at(&["prune", "-f"]).ok();
        let left =
            sh(&format!("ls {small}/store/ingest {small}/store/containers {small}/store/trash | grep -v : ; true"));
        assert_eq!(left.trim(), "");
    });
    sh(&format!("umount {small}"));
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn a_context_reaches_nothing_outside() {
    let bed = Bed::new("build-hostile");
    let outside = bed.0.path("outside");
    std::fs::create_dir_all(&outside).unwrap();
    std::fs::write(outside.join("secret"), "outside\n").unwrap();
    let context = bed.context(
        "context",
        &[
            ("up", "->../outside"),
            ("file", &format!("->{}/secret", outside.display())),
            ("loop", "->loop"),
            ("deep/a", "->b"),
            ("deep/b", "->../../../../../../../../etc/passwd"),
            ("inside/x", "x\n"),
            ("to-inside", "->/inside"),
        ],
    );
    sh(&format!(
        "cd {context} && mkfifo fifo inside/fifo && mknod device c 1 3 && python3 -c \"\
        import socket; socket.socket(socket.AF_UNIX).bind('inside/socket')\""
    ));
    let build = |dockerfile: &str| {
        std::fs::write(format!("{context}/Dockerfile"), dockerfile).unwrap();
        bed.run(&["build", "-t", "t", &context])
    };
    // A link of the context leads within it, as if the context were the root.
    build("FROM base:1\nCOPY up/secret /x\n").fails(1, "up/secret is not there in the context");
    build("FROM base:1\nCOPY ../outside/secret /x\n").fails(1, "is not there in the context");
    build("FROM base:1\nCOPY file /x\n").fails(1, "file is not there in the context");
    build("FROM base:1\nCOPY deep/a /x\n").fails(1, "deep/a is not there in the context");
    build("FROM base:1\nCOPY loop /x\n").fails(1, "too many symbolic links");
    build("FROM base:1\nCOPY device /x\n").fails(1, "leave it out by .dockerignore");
    build("FROM base:1\nCOPY to-inside /x\nCOPY up deep /links/\n").fails(1, "up is not there");
    build("FROM base:1\nCOPY to-inside /x\nCOPY deep /links/\nRUN ls /x > /list\n").ok();
    assert_eq!(
        bed.in_image("t", "cat /list; test -p /x/fifo && echo fifo; readlink /links/b"),
        "fifo\nx\nfifo\n../../../../../../../../etc/passwd\n"
    );
    build("FROM base:1\nRUN --mount=target=/c,source=up cat /c/secret\n").fails(1, "is not in the context");
    // A stage's links stay in its own root, and so does what is put there.
    build(&format!("FROM base:1\nRUN ln -s / /top && ln -s {0} /out && ln -s ../../../../..{0} /up\nCOPY inside/x /top/y\nCOPY inside/x /up/z\n", outside.display()))
        .fails(1, "is a link that leads nowhere");
    build("FROM base:1\nRUN ln -s / /top\nCOPY inside/x /top/y\n").ok();
    assert_eq!(bed.in_image("t", "cat /y"), "x\n");
    build("FROM base:1 AS a\nRUN ln -s /etc /link && ln -s ../../../../../etc/shadow /s\nFROM base:1\nCOPY --from=a /s /s\n")
        .fails(1, "/s is not there");
    // What the Dockerfile itself may be.
    std::fs::remove_file(format!("{context}/Dockerfile")).unwrap();
    sh(&format!("mkfifo {context}/Dockerfile"));
    bed.run(&["build", &context]).fails(1, "it is no file");
    // An archive on the standard input, and one that is added.
    sh(&format!(
        "cd {0} && python3 -c \"\
        import tarfile,io\nt=tarfile.open('evil.tar','w')\n\
        def add(name,**k):\n i=tarfile.TarInfo(name)\n for a,b in k.items(): setattr(i,a,b)\n t.addfile(i,io.BytesIO(b'x'*i.size))\n\
        add('../escaped',size=1)\n\"",
        bed.0.0.display()
    ));
    let words = ["build", "-t", "t", "-"];
    let tar = std::fs::File::open(bed.0.path("evil.tar")).unwrap();
    Done::of(bed.command(&words).stdin(tar), &words).fails(1, "leads upwards");
    assert!(!bed.0.path("escaped").exists() && !bed.0.path("store/escaped").exists());
    assert!(std::fs::metadata(format!("{context}/fifo")).unwrap().file_type().is_fifo());
    bed.is_clean();
}

#[test]
fn many_files_take_a_moment() {
    let bed = Bed::new("build-many");
    let context = bed.context("context", &[("Dockerfile", "FROM base:1\nCOPY . /all\n"), (".dockerignore", "skip\n")]);
    sh(&format!("cd {context} && for d in $(seq 50); do mkdir -p d$d skip/d$d; (cd d$d; seq 200 | xargs touch); done"));
    bed.run(&["build", "-q", "-t", "t", &context]).ok();
    assert_eq!(bed.in_image("t", "find /all -type f | wc -l; ls -d /all/skip 2>/dev/null; true"), "10002\n");
    bed.is_clean();
}
