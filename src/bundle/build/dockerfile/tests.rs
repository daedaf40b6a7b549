use super::instruction::{Command, Kind};
use super::*;

fn read(text: &str) -> Dockerfile {
    parse("Dockerfile", text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error:#}"))
}

fn kinds(text: &str) -> Vec<Kind> {
    read(text).instructions.into_iter().map(|it| it.kind).collect()
}

fn last(text: &str) -> Kind {
    kinds(&format!("FROM x\n{text}")).pop().unwrap()
}

fn wrong(text: &str) -> String {
    format!("{:#}", parse("Dockerfile", text.as_bytes()).expect_err(text))
}

fn shell(text: &str) -> Command {
    Command::Shell(text.to_owned())
}

#[test]
fn lines_are_joined() {
    let file =
        read("# a comment\n\nFROM x\n\nRUN a \\\n  # in between\n\n  b \\  \n  c\n  # end\nCMD d \\\\\nUSER y\n");
    let lines: Vec<_> = file.instructions.iter().map(|it| (it.line, it.text.as_str())).collect();
    assert_eq!(lines, [(3, "FROM x"), (5, "RUN a   b   c"), (11, "CMD d \\\\"), (12, "USER y")]);
    assert_eq!(read("FROM x\r\nRUN a \\\r\n b\r\n").instructions[1].text, "RUN a  b");
    assert_eq!(read("\u{feff}FROM x\nRUN a \\").instructions[1].text, "RUN a");
}

#[test]
fn directives_stand_at_the_top() {
    assert_eq!(read("# syntax=docker/dockerfile:1\n# escape=`\nFROM x\nRUN a `\nb").escape, '`');
    assert_eq!(read("# unknown=1\n# escape=`\nFROM x").escape, '\\');
    assert_eq!(read("#comment\n# escape=`\nFROM x").escape, '\\');
    assert_eq!(read("# Escape = `\nFROM x").escape, '`');
    assert!(wrong("# escape=x\nFROM y").contains("Dockerfile:1"));
    assert!(wrong("# escape=`\n# escape=`\nFROM y").contains("twice"));
}

#[test]
fn heredocs_are_read() {
    let Kind::Run(run) = last("RUN <<EOF cat && 3<<-'B' x\none\nEOF\n\ttwo\n\tB\n") else { panic!() };
    let names: Vec<_> = run.documents.iter().map(|it| (it.name.as_str(), it.text.as_str(), it.expand)).collect();
    assert_eq!(names, [("EOF", "one\n", true), ("B", "two\n", false)]);
    let Kind::Copy(copy) = last("COPY <<a.txt <<\"b\" /x/\n$a\na.txt\n# no comment\nb\n") else { panic!() };
    assert_eq!(copy.sources, ["<<a.txt", "<<\"b\""]);
    assert_eq!(copy.documents[1].text, "# no comment\n");
    assert!(!copy.documents[1].expand && copy.documents[0].expand);
    assert_eq!(last("CMD cat <<EOF"), Kind::Cmd(shell("cat <<EOF")));
    assert!(wrong("FROM x\nRUN <<EOF\na\n").contains("Dockerfile:2: the here-document EOF has no end"));
}

#[test]
fn instructions_are_typed() {
    assert_eq!(last("RUN [\"a\", \"b c\"]"), last("run   [\"a\",\"b c\"]"));
    let Kind::Run(run) = last("RUN ['a']") else { panic!() };
    assert_eq!(run.command, shell("['a']"));
    assert_eq!(
        last("ENV A=1 B='x y' C=a\\ b"),
        Kind::Env(vec![("A".into(), "1".into()), ("B".into(), "'x y'".into()), ("C".into(), "a\\ b".into())])
    );
    assert_eq!(last("ENV A some words"), Kind::Env(vec![("A".into(), "some words".into())]));
    assert_eq!(last("ARG A B=2"), Kind::Arg(vec![("A".into(), None), ("B".into(), Some("2".into()))]));
    assert_eq!(last("VOLUME [\"/a b\"]"), Kind::Volume(vec!["/a b".into()]));
    assert_eq!(last("EXPOSE 80 53/udp"), Kind::Expose(vec!["80".into(), "53/udp".into()]));
    assert_eq!(last("ENTRYPOINT []"), Kind::Entrypoint(Command::Exec(Vec::new())));
    assert_eq!(last("CMD"), Kind::Cmd(shell("")));
    let Kind::Healthcheck(health) = last("HEALTHCHECK --interval=5m --retries=2 CMD curl -f x || exit 1") else {
        panic!()
    };
    assert_eq!((health.interval, health.retries), (Some(300_000_000_000), Some(2)));
    assert_eq!(health.command, Some(shell("curl -f x || exit 1")));
    assert_eq!(last("HEALTHCHECK NONE"), Kind::Healthcheck(Health::default()));
    let Kind::Copy(copy) =
        last("COPY --from=b --chown=1:2 --chmod=755 --link --parents --exclude=a --exclude=b x y/ z/")
    else {
        panic!()
    };
    assert_eq!(
        (copy.from.as_deref(), copy.chown.as_deref(), copy.chmod.as_deref()),
        (Some("b"), Some("1:2"), Some("755"))
    );
    assert!(copy.link && copy.parents && copy.exclude == ["a", "b"] && copy.sources == ["x", "y/"]);
    let from = kinds("ARG v=1\nFROM --platform=$X image:$v AS Name");
    assert_eq!(
        from[1],
        Kind::From { image: "image:$v".into(), name: Some("name".into()), platform: Some("$X".into()) }
    );
    assert_eq!(last("ONBUILD RUN <<E\nx\nE"), Kind::Onbuild("RUN <<E\nx\nE".into()));
}

#[test]
fn mounts_are_read() {
    use mount::{MountKind, Sharing};
    let cache = mount::parse("type=cache,id=x,target=/c,sharing=locked,mode=0700,uid=5").unwrap();
    let MountKind::Cache { id, sharing, mode, uid, gid, .. } = cache.kind else { panic!() };
    assert_eq!((id.as_deref(), sharing, mode, uid, gid), (Some("x"), Sharing::Locked, 0o700, 5, 0));
    assert!(mount::parse("target=/x,from=b,source=a").unwrap().read_only);
    assert!(!mount::parse("target=/x,rw").unwrap().read_only);
    let MountKind::Secret { id, required, .. } = mount::parse("type=secret,target=/a/key,required").unwrap().kind
    else {
        panic!()
    };
    assert!(id == "key" && required);
    assert_eq!(mount::from("type=bind,\"from=a,b\",target=/x").as_deref(), Some("a,b"));
    for bad in [
        "type=bind",
        "type=x,target=/a",
        "type=tmpfs,target=/a,id=b",
        "type=cache,target=/a,sharing=x",
        "target=",
        "type=secret",
        "type=cache,target=/a,mode=9",
        "type=cache,target=/a,uid=-1",
        "target=/a,\"x",
        "target=/a,ro=x",
    ] {
        assert!(mount::parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn what_is_wrong_is_told_with_its_line() {
    for (text, words) in [
        ("", "Dockerfile: no FROM"),
        ("ARG x\n", "no FROM"),
        ("RUN x\nFROM y", "Dockerfile:1: RUN stands before the first FROM"),
        ("FROM x\nRUM y", "Dockerfile:2: unknown instruction \"RUM\"; is RUN meant?"),
        ("FROM x y", "FROM"),
        ("FROM x AS 1", "cannot be a stage's name"),
        ("FROM x AS scratch", "cannot be a stage's name"),
        ("FROM --x=1 y", "unknown flag --x"),
        ("FROM x\nCOPY a", "at least one source"),
        ("FROM x\nCOPY --from=a --from=b c d", "twice"),
        ("FROM x\nCOPY --checksum=a c d", "unknown flag --checksum"),
        ("FROM x\nADD --parents a b", "unknown flag --parents"),
        ("FROM x\nENV", "nothing stands behind"),
        ("FROM x\nENV A", "neither NAME=VALUE nor NAME VALUE"),
        ("FROM x\nENV A=1 B", "\"B\" is not of the form"),
        ("FROM x\nENV =1", "has no name"),
        ("FROM x\nARG", "nothing stands behind"),
        ("FROM x\nRUN", "no command"),
        ("FROM x\nRUN []", "empty"),
        ("FROM x\nRUN --network=x y", "--network=x"),
        ("FROM x\nRUN --security=x y", "--security=x"),
        ("FROM x\nRUN --mount=type=x,target=/a y", "type=x"),
        ("FROM x\nSHELL bash", "JSON list"),
        ("FROM x\nSHELL []", "nothing stands behind"),
        ("FROM x\nONBUILD ONBUILD RUN y", "cannot be triggered"),
        ("FROM x\nONBUILD FROM y", "cannot be triggered"),
        ("FROM x\nONBUILD RUM y", "is RUN meant?"),
        ("FROM x\nHEALTHCHECK x", "neither CMD nor NONE"),
        ("FROM x\nHEALTHCHECK CMD", "no command"),
        ("FROM x\nHEALTHCHECK --interval=1us CMD x", "millisecond"),
        ("FROM x\nHEALTHCHECK --interval=x CMD x", "--interval=x"),
        ("FROM x\nHEALTHCHECK --retries=-1 CMD x", "--retries=-1"),
        ("FROM x\nHEALTHCHECK NONE x", "neither flags nor a command"),
        ("FROM x\nVOLUME", "nothing stands behind"),
        ("FROM x\nVOLUME [\"\"]", "empty"),
        ("FROM x\nEXPOSE", "nothing stands behind"),
        ("FROM x\nCOPY a <<E\nE\n", "cannot be the destination"),
        ("FROM x\nCOPY --from=y <<E /z\nE\n", "do not go with --from"),
    ] {
        assert!(wrong(text).contains(words), "{text:?}: {}", wrong(text));
    }
    assert!(format!("{:#}", parse("D", b"FROM x\nRUN \xff").unwrap_err()).contains("D:2: the file is no UTF-8"));
}

#[test]
fn triggers_are_read() {
    let list = parse_trigger("Dockerfile", 3, "COPY . /x").unwrap();
    assert!(list[0].line == 3 && matches!(list[0].kind, Kind::Copy(_)));
    assert!(format!("{:#}", parse_trigger("Dockerfile", 3, "FROM x").unwrap_err()).contains("Dockerfile:3"));
}

/// Whatever the bytes are, the answer is a file or an error.
#[test]
fn random_text_never_panics() {
    let words = [
        "FROM ",
        "x",
        "\n",
        "RUN ",
        "<<",
        "EOF",
        "\\",
        "`",
        "\"",
        "'",
        "$",
        "{",
        "}",
        "--mount=",
        "type=bind",
        ",",
        "COPY ",
        "[",
        "]",
        "ENV ",
        "=",
        " ",
        "\t",
        "#",
        "escape=`",
        "ONBUILD ",
        "é",
        "\r",
    ];
    let mut seed = 7_u64;
    for _ in 0..20_000 {
        let mut text = "FROM x\n".to_owned();
        for _ in 0..20 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            text += words[(seed >> 33) as usize % words.len()];
        }
        let _ = parse("Dockerfile", text.as_bytes());
        let _ = crate::build::expand::word(&text, '\\', &|_: &str| Some("v".to_owned()));
    }
}
