//! The Dockerfiles of `dockerfiles/`, each built by `bundle`, by Docker (BuildKit, and the builder before it) and by
//! Buildah: the same files, modes, owners and configuration, but for what `differences.md` lists.
//!
//! Lines of a Dockerfile that begin with `#:` are for us:
//!
//! ```text
//! #: flags --target a         flags of the build
//! #: not classic: REASON      a builder that does not know what is in it
//! #: only bundle: REASON      no other one here does; then what has to come of it:
//! #: file PATH MODE UID:GID CONTENT     (\n for a new line)
//! #: there PATH, #: none PATH, #: config KEY WORDS...
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::bed::Bed;
use crate::image::{self, Image};
use crate::others::{Buildah, Docker};

/// A Dockerfile with what it says to us.
struct Case {
    name: String,
    text: String,
    ignore: Option<String>,
}

impl Case {
    fn all() -> Vec<Self> {
        let dir = directory().join("dockerfiles");
        let names: BTreeSet<String> =
            std::fs::read_dir(&dir).unwrap().map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
        let read = |name: &str| std::fs::read_to_string(dir.join(name)).ok();
        let cases = names.iter().filter(|it| !it.ends_with(".dockerignore")).map(|name| Self {
            name: name.clone(),
            text: read(name).unwrap(),
            ignore: read(&format!("{name}.dockerignore")),
        });
        cases.collect()
    }

    fn said(&self, word: &str) -> impl Iterator<Item = &str> {
        let prefix = format!("#: {word} ");
        self.text.lines().filter_map(move |it| it.strip_prefix(&prefix))
    }

    fn flags(&self) -> Vec<&str> {
        self.said("flags").flat_map(str::split_whitespace).collect()
    }

    fn is_for(&self, builder: &str) -> bool {
        self.said("only").next().is_none() && !self.said("not").any(|it| it.split(':').next() == Some(builder))
    }

    /// A context of its own.
    fn context(&self, bed: &Bed) -> PathBuf {
        let dir = bed.0.path("contexts").join(&self.name);
        std::fs::create_dir_all(dir.parent().unwrap()).unwrap();
        let copied = Command::new("cp").arg("-a").arg(bed.0.path("model")).arg(&dir).status().unwrap();
        assert!(copied.success());
        std::fs::write(dir.join("Dockerfile"), &self.text).unwrap();
        // Few builders keep its mode: only where it is asked for.
        if self.text.contains("setuid") {
            crate::harness::sh(&format!("cd {} && echo s > setuid && chmod 4755 setuid", dir.display()));
        }
        if let Some(text) = &self.ignore {
            std::fs::write(dir.join(".dockerignore"), text).unwrap();
        }
        dir
    }
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../integration/build")
}

/// What all contexts have.
fn model(bed: &Bed) {
    let files = [
        ("a.txt", "a\n"),
        ("b.txt", "b\n"),
        ("run.sh", "#!/bin/sh\necho run\n"),
        ("with space.txt", "space\n"),
        ("dir/one.txt", "one\n"),
        ("dir/two.md", "two\n"),
        ("dir/.hidden", "hidden\n"),
        ("dir/sub/three.txt", "three\n"),
        ("dir/sub/four.md", "four\n"),
        ("dir/uplink", "->../a.txt"),
        ("empty/", ""),
        ("mode/file", "mode\n"),
        ("link", "->a.txt"),
        ("dirlink", "->dir"),
        ("links/broken", "->nowhere"),
        ("links/absolute", "->/a.txt"),
        ("links/directory", "->../dir"),
        ("odd/[x].txt", "brackets\n"),
        ("odd/q?.txt", "question\n"),
        ("$name", "dollar\n"),
        ("package.json", "{}\n"),
        ("package-lock.json", "{}\n"),
        ("src/main.c", "main\n"),
        ("src/lib/x.c", "x\n"),
        ("src/lib/y.h", "y\n"),
        ("x/y", "backslash's\n"),
    ];
    let dir = bed.context("model", &files);
    crate::harness::sh(&format!(
        "cd {dir} && chmod -R u=rwX,go=rX . && chmod 600 b.txt && chmod 755 run.sh && chmod 700 mode && \
         chmod 640 mode/file && mkdir pack pack/arch && echo packed > pack/arch/x && chmod 640 pack/arch/x && \
         chown 5:6 pack/arch/x && ln -s x pack/arch/l && for kind in '' .gz .bz2 .xz; do \
         tar --auto-compress -C pack -cf archive.tar$kind arch; done && rm -r pack && gzip -c a.txt > plain.gz && \
         find . -exec touch -h -d @1600000000 {{}} +"
    ));
}

/// What was seen of one case through one builder.
type Seen = Result<Image, String>;

fn of_bundle(bed: &Bed, case: &Case, context: &Path) -> Seen {
    let name = format!("bundle-{}", case.name);
    let words = [&["build", "-t", &name], &case.flags()[..], &[context.to_str().unwrap()]].concat();
    let done = crate::harness::Done::of(
        bed.command(&words).env("SSH_AUTH_SOCK", "").current_dir(context).stdin(Stdio::null()),
        &words,
    );
    if done.status != 0 {
        return Err(done.err);
    }
    let file = bed.0.text(&name);
    bed.run(&["save", "--format", "docker-archive", "-o", &file, &name]).ok();
    Ok(image::read(&file))
}

/// Rows of differences.md: (case, builder, what) and the reason.
fn listed() -> BTreeSet<(String, String, String)> {
    let text = std::fs::read_to_string(directory().join("differences.md")).unwrap();
    let rows = text.lines().filter(|it| it.starts_with("| ") && !it.starts_with("| case"));
    rows.map(|line| {
        let cells: Vec<&str> = line.trim_matches(['|', ' ']).split(" | ").map(str::trim).collect();
        assert!(cells.len() == 4 && !cells[3].is_empty(), "a row of differences.md has four cells: {line}");
        let plain = |it: &str| it.trim_matches('`').to_owned();
        (plain(cells[0]), plain(cells[1]), plain(cells[2]))
    })
    .collect()
}

#[test]
fn dockerfiles_beside_other_builders() {
    let bed = Bed::new("build-compare");
    model(&bed);
    let cases = Case::all();
    assert!(cases.len() >= 60, "{} Dockerfiles", cases.len());
    let whole = std::env::var_os("BUILD_WHOLE").is_some();
    // In the usual run others than BuildKit build every third one; the names are sorted by what they are about.
    let chosen = |index: usize, rest: usize| whole || index % 3 == rest;
    let base = bed.0.path("base.tar");
    std::fs::write(&base, crate::bed::base()).unwrap();
    let contexts: Vec<PathBuf> = cases.iter().map(|it| it.context(&bed)).collect();

    let docker = Docker::start(&bed.0.path("docker"), &base);
    let buildah = Buildah::new(&bed.0.path("buildah"), &base);
    let listed = listed();
    let mut faults = Vec::new();
    let mut found: BTreeSet<(String, String, String)> = BTreeSet::new();
    let mut tried: BTreeSet<(String, String)> = BTreeSet::new();
    let (ours, of_docker, of_buildah) = std::thread::scope(|scope| {
        let docker = scope.spawn(|| {
            let mut seen = BTreeMap::new();
            for (index, (case, context)) in cases.iter().zip(&contexts).enumerate() {
                if case.is_for("docker") {
                    seen.insert((index, "docker"), docker.build(&case.name, context, &case.flags(), true));
                }
                if case.is_for("classic") && chosen(index, 1) {
                    seen.insert((index, "classic"), docker.build(&case.name, context, &case.flags(), false));
                }
            }
            seen
        });
        let buildah = scope.spawn(|| {
            let mut seen = BTreeMap::new();
            for (index, (case, context)) in cases.iter().zip(&contexts).enumerate() {
                if case.is_for("buildah") && chosen(index, 0) {
                    seen.insert((index, "buildah"), buildah.build(&case.name, context, &case.flags()));
                }
            }
            seen
        });
        let ours: Vec<Seen> =
            cases.iter().zip(&contexts).map(|(case, context)| of_bundle(&bed, case, context)).collect();
        (ours, docker.join().unwrap(), buildah.join().unwrap())
    });
    for (index, (case, ours)) in cases.iter().zip(&ours).enumerate() {
        let ours = match ours {
            Ok(image) => image,
            Err(error) => {
                faults.push(format!("{}: bundle: {error}", case.name));
                continue;
            }
        };
        faults.extend(unmet(case, ours));
        for (builder, seen) in ["docker", "classic", "buildah"].into_iter().filter_map(|builder| {
            Some((builder, of_docker.get(&(index, builder)).or_else(|| of_buildah.get(&(index, builder)))?))
        }) {
            tried.insert((case.name.clone(), builder.to_owned()));
            match seen {
                Err(error) => faults.push(format!("{}: {builder}: {error}", case.name)),
                Ok(theirs) => {
                    for (what, text) in image::differences(ours, theirs) {
                        let row = (case.name.clone(), builder.to_owned(), what);
                        // What a builder does in most cases is one row.
                        let usual = ("*".to_owned(), row.1.clone(), row.2.clone());
                        if !listed.contains(&row) && !listed.contains(&usual) {
                            faults.push(format!("{}: {builder}: `{}`: {text}", row.0, row.2));
                        }
                        found.extend([row, usual]);
                    }
                }
            }
        }
    }
    let was_tried = |row: &&(String, String, String)| row.0 == "*" || tried.contains(&(row.0.clone(), row.1.clone()));
    for row in listed.difference(&found).filter(was_tried) {
        faults.push(format!(
            "{}: {}: `{}` is listed in differences.md, and there is no such difference",
            row.0, row.1, row.2
        ));
    }
    found.retain(|it| it.0 != "*");
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
    println!("{} Dockerfiles, {} comparisons, {} differences", cases.len(), tried.len(), found.len());
}

/// What a case wants of the image and does not get.
fn unmet(case: &Case, image: &Image) -> Vec<String> {
    let mut faults = Vec::new();
    for text in case.said("file") {
        let mut cells = text.splitn(4, ' ');
        let mut cell = || cells.next().unwrap();
        let (path, mode, owner, content) = (cell(), cell(), cell(), cell().replace("\\n", "\n"));
        let wanted = format!("file {mode} {owner} {}", image::shown(content.as_bytes()));
        let found = image.files.get(path).map_or("nothing", String::as_str);
        if found != wanted {
            faults.push(format!("{}: {path}: wanted {wanted}, found {found}", case.name));
        }
    }
    let there = case.said("there").filter(|it| !image.files.contains_key(*it));
    faults.extend(there.map(|it| format!("{}: {it} is not there", case.name)));
    let none = case.said("none").filter(|it| image.files.contains_key(*it));
    faults.extend(none.map(|it| format!("{}: {it} is there", case.name)));
    for text in case.said("config") {
        let (key, wanted) = text.split_once(' ').unwrap();
        let found = image.config.get(key).cloned().unwrap_or_default();
        let words: Vec<&str> = wanted.split(' ').collect();
        let as_json = serde_json::json!(words).to_string();
        if found != as_json {
            faults.push(format!("{}: {key}: wanted {wanted}, found {found}", case.name));
        }
    }
    faults
}
