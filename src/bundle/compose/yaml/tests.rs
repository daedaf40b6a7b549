use super::*;

fn read(text: &str) -> Node {
    parse("f", text).unwrap()
}

fn fails(text: &str, words: &str) {
    let error = format!("{:#}", parse("f", text).unwrap_err());
    assert!(error.contains(words), "{words}: {error}");
}

#[test]
fn everything_knows_its_place() {
    let root = read("a:\n  - x\n  - b: 'y'\n");
    let item = &root.get("a").unwrap().items()[1];
    assert_eq!(item.get("b").unwrap().at.to_string(), "f:3:8");
    assert_eq!(item.entries()[0].at.to_string(), "f:3:5");
    assert_eq!(item.get("b").unwrap().value, Value::Scalar { text: "y".into(), plain: false });
    assert_eq!(read("").value, Value::Null);
    assert_eq!(read("a: ~").get("a").unwrap().value, Value::Null);
    assert_eq!(read("a: '~'").get("a").unwrap().as_text(), Some("~"));
}

#[test]
fn anchors_and_merge_keys() {
    let root = read("x: &x {a: 1, b: 2}\ny:\n  <<: *x\n  b: 3\nz: {<<: [*x, {a: 9, c: 4}]}\nw: *x\n");
    let text = |of: &str, key: &str| root.get(of).unwrap().get(key).unwrap().as_text().unwrap().to_owned();
    assert_eq!((text("y", "a"), text("y", "b")), ("1".into(), "3".into()));
    assert_eq!((text("z", "a"), text("z", "c")), ("1".into(), "4".into()));
    assert_eq!(text("w", "b"), "2");
    fails("a: {<<: 1}", "<< takes a mapping");
}

#[test]
fn what_is_wrong_has_a_line() {
    fails("a: 1\nb: [", "f:3:1");
    fails("a: 1\nb: 2\na: 3\n", "f:3:4: the key \"a\" is given twice, first in line 1");
    fails("a: *x\n", "f:1");
    fails("a: 1\n---\nb: 2\n", "second document");
    fails("a: !what 1\n", "the tag !what");
    fails("? [a]\n: 1\n", "a key is a text");
}

#[test]
fn a_bomb_is_refused() {
    let mut text = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
    for it in 1..9 {
        let of = vec![format!("*a{}", it - 1); 10].join(",");
        text += &format!("a{it}: &a{it} [{of}]\n");
    }
    fails(&text, "more than 100000 values");
    fails(&format!("a: {}", "[".repeat(100)), "nested deeper");
    assert!(parse("f", &"[".repeat(100_000)).is_err());
    let deep: String = (1..100).map(|it| format!("a{it}: &a{it} [*a{}]\n", it - 1)).collect();
    fails(&format!("a0: &a0 []\n{deep}"), "aliases nest deeper");
}

#[test]
fn tags_of_merging() {
    let root = read("a: !reset null\nb: !override [1]\nc: !!str 5\n");
    assert_eq!(root.get("a").unwrap().special, Some(Special::Reset));
    assert_eq!(root.get("b").unwrap().special, Some(Special::Override));
    assert_eq!(root.get("c").unwrap().value, Value::Scalar { text: "5".into(), plain: false });
}

/// Whatever the text is, the answer is a tree that is not too large, or an error with a place.
#[test]
fn random_text_never_panics() {
    let words = [
        "a",
        "b: ",
        "- ",
        "\n",
        "\n  ",
        "\n    ",
        "&x ",
        "*x",
        "<<: ",
        "{",
        "}",
        "[",
        "]",
        ", ",
        "? ",
        ": ",
        "'",
        "\"",
        "\\",
        "|",
        ">-",
        "2",
        "!reset ",
        "!override ",
        "!!str ",
        "!<",
        "%YAML 1.2",
        "---",
        "...",
        "#",
        " ",
        "\t",
        "~",
        "é",
        "\r",
        "\u{feff}",
        "\0",
        "$",
        "@",
    ];
    let (mut seed, mut trees) = (7_u64, 0);
    for _ in 0..20_000 {
        let mut text = String::new();
        for _ in 0..25 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            text += words[(seed >> 33) as usize % words.len()];
        }
        match parse("f", &text) {
            Ok(root) => {
                trees += 1;
                let (count, deep) = root.size();
                assert!(count <= MOST_NODES && deep <= DEEPEST + 1, "{text:?}");
            }
            Err(error) => assert!(format!("{error:#}").starts_with("f:"), "{text:?}: {error:#}"),
        }
    }
    assert!(trees > 200, "only {trees} texts were good: the words are the wrong ones");
}

/// As much as a file may hold takes no time that a person would notice, whatever its shape is.
#[test]
fn the_largest_files_end_in_time() {
    let begin = std::time::Instant::now();
    let keys = |count: usize| (0..count).map(|it| format!("  k{it}: 1\n")).collect::<String>();
    for text in [
        format!("a:\n{}", keys(49_000)),
        format!("a: &a\n{}b:\n  <<: *a\n  x: 1\n", keys(33_000)),
        format!("a: &a {{x: 1}}\nb: {{<<: [{}]}}\n", "*a,".repeat(30_000)),
        format!("a: &a []\nb: [{}]\n", "*a,".repeat(90_000)),
    ] {
        let root = parse("f", &text);
        assert!(root.is_ok(), "{:#}", root.unwrap_err());
    }
    let took = begin.elapsed();
    assert!(took < std::time::Duration::from_secs(10), "{took:?}");
}
