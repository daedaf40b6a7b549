//! Words to mounts.

use anyhow::{Result, bail};

use super::{Mount, Source, parse, resolve};
use crate::cli::flags::Flags;

fn words(list: &[&str]) -> Vec<String> {
    list.iter().map(|it| (*it).to_owned()).collect()
}

fn bind(path: &str) -> Source {
    Source::Bind { path: path.to_owned(), recursive: true, writable_below: false }
}

fn volume_name(mount: &Mount) -> &str {
    match &mount.source {
        Source::Volume { name, .. } => name,
        other => panic!("{other:?} is no volume"),
    }
}

#[test]
fn forms_of_volume() {
    let read = |text: &str| parse::volume(text).unwrap();
    let it = read("/host//a/../b:/in/./x/");
    assert_eq!((it.source, it.destination.as_str(), it.read_only), (bind("/host/b"), "/in/x", false));
    let it = read("/h:/in:ro,rslave,nosuid,nodev,U,Z");
    assert!(it.read_only && it.chown);
    assert_eq!((it.propagation.as_deref(), &it.options[..]), (Some("rslave"), &words(&["nosuid", "nodev"])[..]));
    let it = read("/h:/in:bind");
    assert!(matches!(it.source, Source::Bind { recursive: false, .. }));
    let it = read("data.1:/in:nocopy,ro");
    assert_eq!(volume_name(&it), "data.1");
    assert!(matches!(it.source, Source::Volume { copy: false, anonymous: false, .. }) && it.read_only);
    let it = read("/in");
    assert!(matches!(&it.source, Source::Volume { name, anonymous: true, copy: true, .. } if name.is_empty()));
    for (bad, why) in [
        ("", "absolute path"),
        ("in", "absolute path"),
        ("a:b", "absolute path"),
        ("/a:/b:/c:/d", "--mount"),
        ("./a:/b", "relative path"),
        ("a/b:/c", "relative path"),
        ("../a:/c", "relative path"),
        (":/a", "no source"),
        ("/a:", "absolute path"),
        ("/a:/b:", "no options"),
        ("/a:/", "over /"),
        ("/a:/b/..", "over /"),
        ("/:ro", "absolute path"),
        ("-x:/b", "no name of a volume"),
        ("a:/b", "no name of a volume"),
        ("a b:/b", "no name of a volume"),
        ("/a:/b:what", "not known"),
        ("/a:/b:ro,rw", "against"),
        ("/a:/b:z,Z", "against"),
        ("/a:/b:ro,ro", "twice"),
        ("/a:/b:nocopy", "only a volume"),
        ("name:/b:rshared", "only for a directory"),
        ("/a:/b:slave,shared", "against"),
    ] {
        let error = format!("{:#}", parse::volume(bad).unwrap_err());
        assert!(error.contains(why), "{bad}: {why}: {error}");
    }
}

#[test]
fn forms_of_mount() {
    let read = |text: &str| parse::mount(text).unwrap();
    let it = read("type=bind,src=/a,dst=/b,readonly,bind-propagation=rshared");
    assert_eq!((it.source, it.destination.as_str(), it.read_only), (bind("/a"), "/b", true));
    assert_eq!(it.propagation.as_deref(), Some("rshared"));
    let it = read("type=bind,source=/a,target=/b,bind-nonrecursive,ro=false");
    assert!(matches!(it.source, Source::Bind { recursive: false, .. }) && !it.read_only);
    let it = read("type=bind,source=/a,target=/b,ro,bind-recursive=writable");
    assert!(matches!(it.source, Source::Bind { recursive: true, writable_below: true, .. }));
    // A field with a comma in it.
    let it = read("type=bind,\"source=/a,b\",\"dst=/c\"\"d\"");
    assert_eq!((it.source, it.destination.as_str()), (bind("/a,b"), "/c\"d"));
    let it = read("src=data,dst=/b,volume-nocopy,volume-subpath=x/./y,volume-label=l=1,volume-opt=type=tmpfs");
    let Source::Volume { name, subpath, copy, new, anonymous } = it.source else { panic!("no volume") };
    assert_eq!((name.as_str(), subpath.as_deref(), copy, anonymous), ("data", Some("x/y"), false, false));
    assert_eq!((new.labels["l"].as_str(), new.options["type"].as_str()), ("1", "tmpfs"));
    assert!(matches!(read("dst=/b").source, Source::Volume { anonymous: true, .. }));
    let it = read("type=tmpfs,destination=/t,tmpfs-size=1m,tmpfs-mode=1770");
    assert_eq!(it.source, Source::Tmpfs { options: words(&["size=1048576", "mode=1770"]) });
    for (bad, why) in [
        ("", "empty"),
        ("type=bind,,dst=/b", "empty"),
        ("type=what,dst=/b", "type=what"),
        ("type=bind,dst=/b", "source is missing"),
        ("type=bind,src=/a", "destination is missing"),
        ("type=bind,src=a,dst=/b", "relative"),
        ("type=bind,src=/a,dst=b", "absolute"),
        ("type=bind,src=/a,dst=/", "over /"),
        ("type=bind,src=/a,dst=/b,volume-nocopy", "not for type=bind"),
        ("type=volume,dst=/b,tmpfs-size=1", "not for type=volume"),
        ("type=tmpfs,dst=/b,bind-propagation=shared", "not for type=tmpfs"),
        ("type=tmpfs,src=x,dst=/b", "has none"),
        ("type=bind,src=/a,dst=/b,bind-propagation=x", "bind-propagation=x"),
        ("type=bind,src=/a,dst=/b,bind-recursive=readonly", "readonly"),
        ("type=bind,src=/a,dst=/b,readonly=maybe", "true or false"),
        ("type=tmpfs,dst=/b,tmpfs-size=x", "tmpfs-size"),
        ("type=tmpfs,dst=/b,tmpfs-mode=999", "mode=999"),
        ("src=data,dst=/b,volume-subpath=../x", "volume-subpath"),
        ("src=data,dst=/b,volume-driver=nfs", "driver local"),
        ("src=data,dst=/b,volume-opt=size=1", "volume option"),
        ("dst=/b,volume-subpath=x", "with a name"),
        ("src=/a,dst=/b", "no name of a volume"),
        ("dst=/b,what=1", "not known"),
        ("dst", "needs a value"),
        ("\"dst=/b", "without its second"),
        ("\"dst=/b\"x", "else than a comma"),
        ("dst=/b\"", "in the middle"),
    ] {
        let error = format!("{:#}", parse::mount(bad).unwrap_err());
        assert!(error.contains(why), "{bad}: {why}: {error}");
    }
}

fn nobody(name: &str) -> Result<Vec<Mount>> {
    bail!("no such container: {name}")
}

#[test]
fn the_flags_count_before_others_and_those_before_the_image() {
    let flags = Flags {
        volume: words(&["/etc:/a", "/new/deep/er", "data:/d"]),
        mount: words(&["type=bind,src=/usr,dst=/m"]),
        tmpfs: words(&["/t:size=1m"]),
        volumes_from: words(&["one:ro", "two"]),
        ..Flags::default()
    };
    let mut others = |name: &str| {
        let of = |text: &str| parse::volume(text).unwrap();
        Ok(match name {
            "one" => vec![of("one-a:/a"), of("one-x:/x"), of("one-y:/y"), parse::tmpfs("/tt").unwrap()],
            _ => vec![of("two-x:/x")],
        })
    };
    let mounts = resolve(&flags, ["/x", "/y", "/image", "d", "/new/deep"].into_iter(), &mut others).unwrap();
    let list: Vec<(&str, bool)> = mounts.iter().map(|it| (it.destination.as_str(), it.read_only)).collect();
    let expected = [
        ("/a", false),
        ("/d", false),
        ("/image", false),
        ("/m", false),
        ("/t", false),
        ("/x", false),
        ("/y", true),
        ("/new/deep", false),
        ("/new/deep/er", false),
    ];
    assert_eq!(list, expected);
    let at = |path: &str| mounts.iter().find(|it| it.destination == path).unwrap();
    assert_eq!(at("/a").source, bind("/etc"));
    assert_eq!((volume_name(at("/d")), volume_name(at("/x")), volume_name(at("/y"))), ("data", "two-x", "one-y"));
    // A nameless one has got a name of its own, which is good for one.
    assert_eq!(volume_name(at("/image")).len(), 64);
    assert_ne!(volume_name(at("/image")), volume_name(at("/new/deep")));
    assert!(parse::name(volume_name(at("/image"))).is_ok());
    // They are kept as they are.
    let stored: Vec<Mount> = serde_json::from_value(serde_json::to_value(&mounts).unwrap()).unwrap();
    assert_eq!(stored, mounts);
}

#[test]
fn what_cannot_be_is_an_error() {
    type Edit = fn(&mut Flags);
    let cases: [(Edit, &str); 8] = [
        (|it| it.volume = words(&["/etc:/a", "/usr:/a/"]), "already mounted at /a"),
        (
            |it| {
                it.volume = words(&["/etc:/a"]);
                it.tmpfs = words(&["/b/../a"]);
            },
            "--tmpfs",
        ),
        (
            |it| {
                it.volume = words(&["/etc:/a"]);
                it.mount = words(&["dst=/a"]);
            },
            "--mount",
        ),
        (|it| it.volume = words(&["/no/where:/a"]), "/no/where does not exist"),
        (|it| it.volumes_from = words(&["gone"]), "--volumes-from gone: no such container"),
        (|it| it.volumes_from = words(&["x:what"]), "known are ro and rw"),
        (|it| it.volumes_from = words(&[":ro"]), "CONTAINER"),
        (|it| it.tmpfs = words(&["/a:lowerdir=/"]), "no option of a tmpfs"),
    ];
    for (edit, why) in cases {
        let mut flags = Flags::default();
        edit(&mut flags);
        let error = format!("{:#}", resolve(&flags, std::iter::empty(), &mut nobody).unwrap_err());
        assert!(error.contains(why), "{why}: {error}");
    }
    let error = resolve(&Flags::default(), ["/a/.."].into_iter(), &mut nobody).unwrap_err();
    assert!(format!("{error:#}").contains("the image's volume"), "{error:#}");
}

/// Whatever the words are: what comes out can be mounted and kept, or it is an error.
#[test]
fn random_words_make_good_mounts_or_errors() {
    let pieces = [
        "/",
        "..",
        ".",
        "a",
        "data",
        ":",
        ",",
        "=",
        "ro",
        "rw",
        "type",
        "bind",
        "volume",
        "tmpfs",
        "src",
        "dst",
        "\"",
        "\"\"",
        "rshared",
        "size",
        "1m",
        "nocopy",
        "\0",
        " ",
        "é",
        "-",
        "U",
        "volume-subpath",
        "tmpfs-mode",
    ];
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut below = |most: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed % most as u64) as usize
    };
    let (mut good, rounds) = (0, 60_000);
    for _ in 0..rounds {
        let mut text: String = (0..below(14)).map(|_| pieces[below(pieces.len())]).collect();
        if below(2) == 0 {
            text = format!("type={},src=data,dst=/{text}", pieces[below(3) + 11]);
        }
        for read in [parse::volume, parse::mount, parse::tmpfs] {
            let Ok(mount) = read(&text) else { continue };
            good += 1;
            let at = &mount.destination;
            assert!(at.starts_with('/') && at.len() > 1 && !at.ends_with('/') && !at.contains("//"), "{text:?}: {at}");
            assert!(at.split('/').all(|it| it != ".." && it != ".") && !at.contains('\0'), "{text:?}: {at}");
            match &mount.source {
                Source::Bind { path, .. } => {
                    assert!(path.starts_with('/') && path.split('/').all(|it| it != ".."), "{text:?}: {path}");
                }
                Source::Volume { name, subpath, .. } => {
                    assert!(name.is_empty() || parse::name(name).is_ok(), "{text:?}: {name}");
                    let up = subpath.iter().any(|it| it.split('/').any(|it| it == ".."));
                    assert!(!up, "{text:?}: {subpath:?}");
                }
                Source::Tmpfs { options } => assert!(options.iter().all(|it| !it.contains(['\0', ','])), "{text:?}"),
            }
            let stored = serde_json::to_string(&mount).unwrap();
            assert_eq!(serde_json::from_str::<Mount>(&stored).unwrap(), mount);
        }
    }
    assert!(good > rounds / 100, "{good}");
}
