//! What flags and options do.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::process::Stdio;

use crate::bed::Bed;
use crate::harness::{Done, sh};

#[test]
fn secrets_are_nowhere_but_in_their_command() {
    let bed = Bed::new("build-secrets");
    let value = "Zq7-hidden-value-91";
    let file = bed.0.text("secret");
    std::fs::write(&file, value).unwrap();
    let dockerfile = "FROM base:1\n\
        RUN --mount=type=secret,id=one wc -c < /run/secrets/one > /count; stat -c %a /run/secrets/one >> /count\n\
        RUN --mount=type=secret,id=two,target=/s/two,mode=0440,gid=34 stat -c '%a %g' /s/two > /two\n\
        RUN --mount=type=secret,id=two,env=TWO test -n \"$TWO\" && echo set > /env\n\
        RUN --mount=type=secret,id=none ls /run > /none\n";
    let flags = ["--secret", &format!("id=one,src={file}"), "--secret", "id=two,env=TWO_SECRET"];
    let context = bed.context("context", &[("Dockerfile", dockerfile)]);
    let words = [&["build", "-t", "t"], &flags[..], &[&context]].concat();
    let done = Done::of(bed.command(&words).env("TWO_SECRET", value).stdin(Stdio::null()), &words).ok();
    let said = bed.in_image("t", "cat /count /two /env; ls -A /run; ls -d /s 2>&1; true");
    assert_eq!(said, format!("{}\n400\n440 34\nset\nls: /s: No such file or directory\n", value.len()));
    assert!(!done.err.contains(value));
    // Neither in blobs, which are compressed, nor in layers, nor in the database.
    let store = bed.0.text("store");
    let unpacked = sh(&format!(
        "grep -raq {value} {store} && echo plain; for blob in {store}/blobs/sha256/*; do \
         zcat -f $blob | grep -aq {value} && echo $blob; done; true"
    ));
    assert_eq!(unpacked, "");
    assert!(!bed.run(&["history", "--no-trunc", "t"]).ok().out.contains(value));
    bed.build("FROM base:1\nRUN --mount=type=secret,id=x,required true", &[], &[])
        .fails(1, "the secret x is not there");
    bed.build("FROM base:1", &[], &["--secret", "id=x,src=/none"]).fails(1, "--secret id=x,src=/none");
    bed.is_clean();
}

const CLIENT: &str = r#"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
int main(void) {
    struct sockaddr_un at = {AF_UNIX, ""};
    char text[100];
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    strncpy(at.sun_path, getenv("SSH_AUTH_SOCK"), sizeof at.sun_path - 1);
    if (connect(fd, (struct sockaddr *)&at, sizeof at) || write(fd, "hello\n", 6) != 6) return 1;
    return write(1, text, read(fd, text, sizeof text)) < 0;
}
"#;

#[test]
fn an_agent_is_there_for_its_command() {
    let bed = Bed::new("build-ssh");
    let socket = bed.0.path("agent");
    let listener = UnixListener::bind(&socket).unwrap();
    let agent = std::thread::spawn(move || {
        let mut line = String::new();
        let (stream, _) = listener.accept().unwrap();
        BufReader::new(&stream).read_line(&mut line).unwrap();
        (&stream).write_all(format!("heard {line}").as_bytes()).unwrap();
    });
    // Busybox knows no such sockets: a client that needs nothing of the image.
    let tree = bed.context("context", &[("ask.c", CLIENT)]);
    sh(&format!("cd {tree} && cc -static -o ask ask.c"));
    let dockerfile = "FROM base:1\nCOPY ask /bin/\n\
        RUN --mount=type=ssh,required ask > /out; stat -c %a $SSH_AUTH_SOCK >> /out\n";
    let ssh = format!("default={}", socket.display());
    bed.build(dockerfile, &[], &["--ssh", &ssh]).ok();
    agent.join().unwrap();
    assert_eq!(bed.in_image("t", "cat /out"), "heard hello\n600\n");
    bed.build("FROM base:1\nRUN --mount=type=ssh,required true\n", &[], &[]).fails(1, "the agent default is not there");
    bed.build("FROM base:1\n", &[], &["--ssh", "x=/none"]).fails(1, "--ssh x=/none");
}

#[test]
fn caches_are_shared_or_not() {
    let bed = Bed::new("build-caches");
    let step = |options: &str, script: &str| format!("RUN --mount=type=cache,target=/c,{options} {script}\n");
    let both = format!(
        "FROM base:1 AS one\n{}FROM base:1 AS two\n{}FROM base:1\nCOPY --from=one /out /one\nCOPY --from=two /out /two\n",
        step(
            "id=locked,sharing=locked",
            "test ! -e /c/busy && touch /c/busy && sleep 0.3 && rm /c/busy; echo $? > /out; # 1"
        ),
        step(
            "id=locked,sharing=locked",
            "test ! -e /c/busy && touch /c/busy && sleep 0.3 && rm /c/busy; echo $? > /out; # 2"
        ),
    );
    bed.build(&both, &[], &[]).ok();
    assert_eq!(bed.in_image("t", "cat /one /two"), "0\n0\n");
    let private = both.replace("locked,sharing=locked", "own,sharing=private").replace("rm /c/busy", "ls /c | wc -l");
    bed.build(&private, &[], &[]).ok();
    assert_eq!(bed.in_image("t", "cat /one /two"), "0\n0\n");
    assert_eq!(bed.rows("SELECT count(*) FROM build_mounts WHERE id LIKE 'own%'"), "2");
    // First content, and mode and owner.
    let first = "FROM base:1 AS a\nRUN mkdir /x && echo y > /x/y\nFROM base:1\n\
        RUN --mount=type=cache,id=first,target=/c,from=a,source=/x,mode=0700,uid=7 cat /c/y > /out; stat -c '%a %u' /c >> /out\n";
    bed.build(first, &[], &[]).ok();
    assert_eq!(bed.in_image("t", "cat /out"), "y\n700 7\n");
    let rows = bed.run(&["builder", "du", "--format", "{{.Type}}"]).ok().out;
    assert!(rows.matches("cachemount").count() == 4, "{rows}");
    // What no image has goes; what images have stays.
    let plain = "FROM base:1\nRUN echo plain > /plain\n";
    bed.build(plain, &[], &["-t", "plain"]).ok();
    bed.run(&["builder", "prune", "-f"]).ok();
    assert!(bed.build(plain, &[], &["-t", "plain"]).ok().err.contains("CACHED"));
    bed.build(first, &[], &[]).ok();
    bed.run(&["builder", "prune", "-f", "--filter", "until=1h"]).ok();
    assert_eq!(bed.rows("SELECT count(*) > 0 FROM build_cache"), "1");
    bed.run(&["builder", "prune", "-a", "-f"]).ok();
    assert_eq!(bed.rows("SELECT (SELECT count(*) FROM build_cache), (SELECT count(*) FROM build_mounts)"), "0 0");
    assert_eq!(bed.in_image("t", "cat /out"), "y\n700 7\n");
    assert_eq!(std::fs::read_dir(bed.0.path("store/caches")).unwrap().count(), 0);
    bed.run(&["builder", "prune", "--filter", "x=y", "-f"]).fails(1, "--filter x=y");
    bed.is_clean();
}

#[test]
fn commands_are_confined_as_containers_are() {
    let bed = Bed::new("build-confined");
    let dockerfile = "FROM base:1\n\
        RUN grep -e CapEff -e Seccomp: -e NoNewPrivs /proc/self/status > /status; ls /proc/kcore /sys/firmware > /dev/null; \
        mount -t tmpfs x /tmp 2>> /status; hostname >> /status; df /dev/shm | tail -1 | awk '{print $2}' >> /status; \
        ulimit -n >> /status; grep myhost /etc/hosts >> /status; env | grep HOSTNAME; true\n";
    let flags = ["--shm-size", "8m", "--ulimit", "nofile=512", "--add-host", "myhost:192.0.2.7"];
    bed.build(dockerfile, &[], &flags).ok();
    let said = bed.in_image("t", "cat /status");
    // Docker's fourteen capabilities.
    assert!(said.contains("CapEff:\t00000000a80425fb\n") && said.contains("Seccomp:\t2\n"), "{said}");
    assert!(said.contains("permission denied") || said.contains("Operation not permitted"), "{said}");
    assert!(said.ends_with("build\n8192\n512\n192.0.2.7\tmyhost\n"), "{said}");
    let host = "FROM base:1\nRUN --network=host ls /sys/class/net > /net\n";
    bed.build(host, &[], &[])
        .fails(1, "Dockerfile:2: RUN --network=host: the host's network is given only with --allow");
    bed.build(host, &[], &["--allow", "network.host"]).ok();
    let names = sh("ls /sys/class/net");
    assert_eq!(bed.in_image("t", "cat /net"), names);
    let insecure =
        "FROM base:1\nRUN --security=insecure mount -t tmpfs x /tmp && grep CapEff /proc/self/status > /caps\n";
    bed.build(insecure, &[], &[]).fails(1, "--allow security.insecure");
    bed.build(insecure, &[], &["--allow", "security.insecure"]).ok();
    assert!(!bed.in_image("t", "cat /caps").contains("a80425fb"));
    bed.is_clean();
}

#[test]
fn commands_may_have_a_network() {
    let bed = Bed::new("build-network");
    // A network of the test's own, not the machine's usual one.
    let name = format!("build{}", std::process::id());
    bed.run(&["network", "create", "--subnet", "10.213.77.0/24", &name]).ok();
    let dockerfile = "FROM base:1\nRUN ip -o -4 addr show eth0 | awk '{print $4}' > /a; grep nameserver /etc/resolv.conf >> /a\n\
        RUN ip -o link | wc -l > /b\nRUN --network=none ip -o link | wc -l > /c\n";
    let done = bed.build(dockerfile, &[], &["--network", &name]);
    let said = if done.status == 0 { bed.in_image("t", "cat /a /b /c") } else { String::new() };
    bed.run(&["network", "rm", &name]).ok();
    done.ok();
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].starts_with("10.213.77.") && lines[0].ends_with("/24"), "{said}");
    assert_eq!(lines[1..], ["nameserver 10.213.77.1", "2", "1"]);
    bed.is_clean();
}

#[test]
fn addresses_are_fetched_and_checked() {
    let bed = Bed::new("build-add");
    let files = bed.context("served", &[("file.txt", "fetched\n"), ("pack/x", "packed\n")]);
    sh(&format!("cd {files} && tar -czf pack.tar.gz pack && touch -d @1500000000 file.txt"));
    let mut server = std::process::Command::new("python3")
        .args(["-u", "-m", "http.server", "--bind", "127.0.0.1", "--directory", &files, "0"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(server.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let port = line.split_whitespace().skip_while(|it| *it != "port").nth(1).unwrap().to_owned();
    let url = format!("http://127.0.0.1:{port}");
    let digest = crate::harness::digest(b"fetched\n");
    let good = format!(
        "FROM base:1\nADD --checksum={digest} {url}/file.txt /a/\nADD {url}/file.txt /b\nADD --chmod=644 --chown=7:8 {url}/file.txt /c\n\
         ADD {url}/pack.tar.gz /packed/\nADD --unpack {url}/pack.tar.gz /unpacked/\n"
    );
    let built = bed.build(&good, &[], &[]);
    let again = bed.build(&good, &[], &[]);
    let wrong = bed.build(&good.replace(&digest, &crate::harness::digest(b"other")), &[], &[]);
    let missing = bed.build(&format!("FROM base:1\nADD {url}/none /x\n"), &[], &[]);
    let nameless = bed.build(&format!("FROM base:1\nADD {url}/ /x/\n"), &[], &[]);
    server.kill().unwrap();
    server.wait().unwrap();
    built.ok();
    assert_eq!(again.ok().err.matches("CACHED").count(), 5);
    let script = "stat -c '%a %u:%g %Y' /a/file.txt /b /c; cat /b; ls /packed; cat /unpacked/pack/x";
    let said = bed.in_image("t", script);
    assert_eq!(said, "600 0:0 1500000000\n600 0:0 1500000000\n644 7:8 1500000000\nfetched\npack.tar.gz\npacked\n");
    wrong.fails(1, "and --checksum says");
    missing.fails(1, "404");
    nameless.fails(1, "has no file's name");
    for git in ["https://example.org/x.git", "git@example.org:x.git"] {
        bed.build(&format!("FROM base:1\nADD {git} /x/\n"), &[], &[]).fails(1, "are not fetched: clone it");
    }
    bed.build("FROM base:1\nADD --checksum=sha256:00 a /x\n", &[("a", "")], &[]).fails(1, "--checksum=sha256:00");
    bed.is_clean();
}

#[test]
fn contexts_come_from_everywhere() {
    let bed = Bed::new("build-contexts");
    let context = bed.context(
        "context",
        &[
            ("a", "a\n"),
            ("b", "b\n"),
            ("sub/Other", "FROM base:1\nCOPY . /all\n"),
            ("sub/Other.dockerignore", "b\nsub\n"),
            (".dockerignore", "a\n"),
        ],
    );
    let build = |words: &[&str], input: &[u8]| {
        let words = [&["build", "-q", "-t", "t"], words].concat();
        let mut command = bed.command(&words);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        let output = child.wait_with_output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let good = |words: &[&str], input: &[u8]| assert_eq!(build(words, input), (Some(0), String::new()), "{words:?}");
    good(&["-f", &format!("{context}/sub/Other"), &context], b"");
    assert_eq!(bed.in_image("t", "ls -A /all"), ".dockerignore\na\n");
    good(&["-f", "-", &context], b"FROM base:1\nCOPY . /all\n");
    assert_eq!(bed.in_image("t", "ls -A /all"), ".dockerignore\nb\nsub\n");
    good(&["-"], b"FROM base:1\nRUN echo alone > /alone\n");
    assert_eq!(bed.in_image("t", "cat /alone"), "alone\n");
    assert!(build(&["-"], b"FROM base:1\nCOPY a /\n").1.contains("there is no context"));
    for compress in ["", "z", "j", "J", "--zstd"] {
        let flag = if compress.starts_with("--") { compress.to_owned() } else { format!("-{compress}c") };
        let flag = if compress.starts_with("--") { format!("{flag} -c") } else { flag };
        sh(&format!("cd {context} && tar {flag} -f ../context.tar ."));
        let tar = std::fs::read(bed.0.path("context.tar")).unwrap();
        good(&["-f", "sub/Other", "-"], &tar);
        assert_eq!(bed.in_image("t", "ls -A /all"), ".dockerignore\na\n", "{compress}");
    }
    // Others by name: a directory, an image.
    let more = bed.context("more", &[("file", "more\n")]);
    let named = "FROM start\nCOPY --from=more file /file\nRUN --mount=from=more,target=/m cp /m/file /file2\n";
    let flags = ["--build-context", &format!("more={more}"), "--build-context", "start=docker-image://base:1"];
    bed.build(named, &[], &flags).ok();
    assert_eq!(bed.in_image("t", "cat /file /file2"), "more\nmore\n");
    for (words, what) in [
        (&["https://example.org/x.git"][..], "addresses are not fetched"),
        (&["-f", "none", "."], "--file none"),
        (&["/none"], "the context /none"),
        (&["--target", "x", &context, "-f", &format!("{context}/sub/Other")], "--target x"),
        (&["--build-context", "x", &context], "--build-context x"),
        (&["--platform", "x/y/z/w", &context], "--platform"),
        (&["--build-arg", "=x", &context], "--build-arg =x"),
        (&["-t", "UPPER/Case", &context], "--tag UPPER/Case"),
        (&["--allow", "x", &context], "--allow x"),
        (&["--output", "type=x", &context], "--output type=x"),
        (&["--no-cache-filter", "x", "-f", &format!("{context}/sub/Other"), &context], "--no-cache-filter x"),
    ] {
        let words = [&["build"], words].concat();
        bed.run(&words).fails(1, what);
    }
    bed.is_clean();
}

#[test]
fn flags_reach_the_image() {
    let bed = Bed::new("build-flags");
    let file = bed.0.text("id");
    let meta = bed.0.text("meta");
    let dockerfile =
        "FROM base:1 AS a\nRUN echo a > /a\nFROM base:1 AS b\nARG V\nRUN echo b$V > /b\nCOPY --from=a /a /a\n";
    let flags = [
        "-t",
        "other:2",
        "--iidfile",
        &file,
        "--metadata-file",
        &meta,
        "--label",
        "l=1",
        "--build-arg",
        "V=9",
        "--build-arg",
        "UNUSED=1",
    ];
    let done = bed.build(dockerfile, &[], &flags).ok();
    assert!(done.err.contains("--build-arg UNUSED: no ARG"), "{}", done.err);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), done.last());
    assert!(std::fs::read_to_string(&meta).unwrap().contains(done.last()));
    assert_eq!(bed.inspect("other:2")["Id"], done.last());
    assert_eq!(bed.inspect("t")["Config"]["Labels"]["l"], "1");
    assert_eq!(bed.in_image("t", "cat /b"), "b9\n");
    let some = bed.build(dockerfile, &[], &["--build-arg", "V=9", "--no-cache-filter", "b"]).ok();
    assert!(some.err.contains("CACHED"), "{}", some.err);
    let quiet = bed.build(dockerfile, &[], &["-q"]).ok();
    assert!(quiet.err.is_empty() && quiet.out.lines().count() == 1);
    let json = bed.build(dockerfile, &[], &["--progress", "json", "--no-cache"]).ok();
    let events: Vec<serde_json::Value> = json.err.lines().map(|it| serde_json::from_str(it).unwrap()).collect();
    assert!(events.iter().filter(|it| it["event"] == "done").count() == 4, "{}", json.err);
    // On a terminal the lines change.
    let program = crate::harness::bundle();
    let (store, context) = (bed.0.text("store"), bed.0.text("context"));
    let line = format!("BUNDLE_ROOT={store} {} build --no-cache {context}", program.display());
    let runtime = crate::harness::rt();
    let shown = sh(&format!("BUNDLE_NETWORK=none BUNDLE_RUNTIME={} script -qec '{line}' /dev/null", runtime.display()));
    assert!(shown.contains("\x1b[") && shown.contains("RUN echo a > /a"), "{shown:?}");
    // The history names each step.
    let history = bed.run(&["history", "--no-trunc", "--format", "{{.CreatedBy}}", "t"]).ok().out;
    assert!(history.contains("COPY --from=a /a /a") && !history.contains("RUN |1 V= /bin/sh"), "{history}");
    // What an image wants done by its heirs.
    bed.build("FROM base:1\nONBUILD COPY f /f\nONBUILD RUN cat /f > /g\n", &[], &["-t", "mother"]).ok();
    bed.build("FROM mother\nRUN cat /g > /h\n", &[("f", "inherited\n")], &[]).ok();
    assert_eq!(bed.in_image("t", "cat /h"), "inherited\n");
    assert!(bed.inspect("t")["Config"]["OnBuild"].is_null());
    // The parts of an image on a terminal, and the image that ships in the program.
    bed.build("FROM demo\nENV x=1\n", &[], &[]).ok();
    assert!(bed.run(&["run", "--rm", "t", "env"]).ok().out.contains("x=1"));
    bed.is_clean();
}

#[test]
fn the_same_from_two_stores() {
    let one = Bed::new("build-same-one");
    let two = Bed::new("build-same-two");
    let dockerfile = "FROM base:1 AS a\nRUN mkdir -p /x/y && date > /x/y/z && touch -d '1990-01-01 00:00:00' /x/old\nFROM base:1\nWORKDIR /w/v\n\
        COPY f sub /in/\nCOPY --from=a /x/old /old\nRUN echo x > /run; rm /etc/group\nADD p.tar /p\n";
    let mut digests = Vec::new();
    for bed in [&one, &two] {
        let context = bed.context("context", &[("Dockerfile", dockerfile), ("f", "f"), ("sub/g", "g")]);
        sh(&format!("cd {context} && tar --mtime=@1 --owner=0 --group=0 -cf p.tar f"));
        let words = ["build", "-q", "--build-arg", "SOURCE_DATE_EPOCH=1700000000", "-t", "t", &context];
        let done = bed.run(&words).ok();
        let image = bed.inspect("t");
        assert_eq!(image["Created"], "2023-11-14T22:13:20Z");
        digests.push((done.last().to_owned(), image["Digest"].clone(), image["RepoDigests"].clone()));
        assert_eq!(
            bed.in_image(
                "t",
                "find / -xdev -newermt @1700000001 ! -path '/proc*' ! -path '/dev*' ! -path '/etc*' | head -3"
            )
            .trim(),
            ""
        );
        std::thread::sleep(std::time::Duration::from_millis(1100));
    }
    assert_eq!(digests[0], digests[1]);
}
