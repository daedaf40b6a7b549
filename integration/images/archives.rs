//! Archives of images: what other tools write is read, what is written is read by them; bad ones; imports; all of it
//! by a plain user.

mod bad;
mod engines;
mod import;
mod interop;
mod plain_user;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::harness::{Done, Place, arch, digest, gzip, sh};
use crate::tree::{Node, differences, manifest};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// An OCI layout that is made blob by blob.
struct Layout {
    dir: PathBuf,
    manifests: Vec<Value>,
}

impl Layout {
    fn new(dir: PathBuf) -> Self {
        std::fs::create_dir_all(dir.join("blobs/sha256")).unwrap();
        Self { dir, manifests: Vec::new() }
    }

    /// The descriptor of a new blob.
    fn blob(&self, media_type: &str, bytes: &[u8]) -> Value {
        let digest = digest(bytes);
        std::fs::write(self.dir.join("blobs/sha256").join(&digest[7..]), bytes).unwrap();
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    }

    /// The descriptor of an image of these tars; `compression` is what stands behind the layers' media type.
    fn image(&self, layers: &[Vec<u8>], compression: &str, architecture: &str) -> Value {
        let diff_ids: Vec<String> = layers.iter().map(|it| digest(it)).collect();
        let layers: Vec<Value> = layers
            .iter()
            .map(|tar| {
                let bytes = match compression {
                    "+gzip" => gzip(tar),
                    "+zstd" => zstd::encode_all(&tar[..], 3).unwrap(),
                    _ => tar.clone(),
                };
                self.blob(&format!("{LAYER}{compression}"), &bytes)
            })
            .collect();
        let config = json!({
            "architecture": architecture, "os": "linux", "created": "2020-02-02T02:02:02Z",
            "config": {"Cmd": ["sh"], "Env": ["PATH=/bin"], "Labels": {"l": "v"}},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            "history": diff_ids.iter().map(|_| json!({"created_by": "a test"})).collect::<Vec<_>>(),
        });
        let config = self.blob(CONFIG, config.to_string().as_bytes());
        let document = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
        let mut descriptor = self.blob(MANIFEST, document.to_string().as_bytes());
        descriptor["platform"] = json!({"architecture": architecture, "os": "linux"});
        descriptor
    }

    /// Puts a descriptor into the layout's index: without a name, or once for each.
    fn add(&mut self, descriptor: &Value, names: &[&str]) {
        if names.is_empty() {
            self.manifests.push(descriptor.clone());
        }
        for name in names {
            let mut named = descriptor.clone();
            named["annotations"] = json!({
                "io.containerd.image.name": name,
                "org.opencontainers.image.ref.name": name.rsplit(':').next(),
            });
            self.manifests.push(named);
        }
        let index = json!({"schemaVersion": 2, "manifests": self.manifests});
        std::fs::write(self.dir.join("index.json"), index.to_string()).unwrap();
        std::fs::write(self.dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    }
}

/// What images are made of here: layers with all that a file can be, and removals of it.
fn tars(place: &Place) -> Vec<Vec<u8>> {
    let dir = place.path("tars");
    std::fs::create_dir_all(&dir).unwrap();
    sh(&format!("cd {}\n{TARS}", dir.display()));
    (1..=4).map(|number| std::fs::read(dir.join(format!("{number}.tar"))).unwrap()).collect()
}

const TARS: &str = r#"
    export TZ=UTC LC_ALL=C
    pack() { tar --format=pax --xattrs --xattrs-include='*' --no-recursion -C $1 -cf $1.tar "${@:2}"; }
    mkdir -p 1/bin 1/etc/conf 1/opaque/in 1/gone/in 1/turns 1/a/b/c; mkdir -m 1777 1/tmp; mkdir -m 2750 1/group; chown 7:8 1/group
    echo 1 | tee 1/etc/conf/{a,b} 1/opaque/{a,b} 1/opaque/in/c 1/gone/{a,b} 1/turns/file 1/bin/{tool,ping,owned} >/dev/null
    chown 3000000:4000000000 1/bin/owned; chmod 6711 1/bin/tool; chmod 4755 1/bin/owned; chown 33:33 1/etc/conf/b
    setfattr -n security.capability -v 0x0100000200040000000000000000000000000000 1/bin/ping
    setfattr -n user.binary -v 0x000a3dff 1/bin/ping; setfattr -n user.directory -v x 1/a
    echo linked > 1/one; ln 1/one 1/two; ln 1/one 1/a/b/c/three; ln -s one 1/symlink; ln -s nowhere 1/dangling
    mkfifo -m 640 1/pipe; : > 1/empty; printf 'x%.0s' {1..513} > 1/513; printf x > 1/ümläut; printf x > '1/ space '
    name=$(printf 'n%.0s' {1..200}); mkdir -p 1/$name/$name; echo deep > 1/$name/$name/$name; ln -s $name/$name 1/to-long
    seq 200000 > 1/numbers
    touch -d '2001-02-03 04:05:06.123456789Z' 1/one; touch -d '1960-01-02 03:04:05Z' 1/513; touch -d '2200-01-01Z' 1/empty
    touch -d '2010-10-10 10:10:10Z' 1/a/b 1/a 1/etc 1
    (cd 1; find . | sort) > list; tar --format=pax --xattrs --xattrs-include='*' --no-recursion -C 1 -T list -cf 1.tar

    mkdir -p 2/etc/conf 2/opaque 2/a; touch 2/etc/conf/.wh.a 2/opaque/.wh..wh..opq 2/.wh.gone 2/.wh.turns
    echo 2 > 2/opaque/new; echo 2 > 2/turns; echo 2 > 2/a/second; chmod 700 2/opaque
    pack 2 etc/conf/.wh.a opaque opaque/.wh..wh..opq opaque/new .wh.gone .wh.turns turns a/second

    mkdir -p 3/gone 3/etc; echo 3 > 3/gone/new; ln -s /elsewhere 3/etc/conf; touch 3/.wh.one; echo 3 > 3/opaque
    pack 3 gone gone/new etc/conf .wh.one opaque

    mkdir -p 4/etc/conf 4/opaque; echo 4 | tee 4/etc/conf/back 4/opaque/back > /dev/null; chown 5:6 4/opaque
    pack 4 etc/conf etc/conf/back opaque opaque/back
"#;

type Tree = BTreeMap<String, Node>;

/// The files of an image of these tars as umoci unpacks them.
fn by_umoci(place: &Place, tars: &[Vec<u8>]) -> Tree {
    let mut twin = Layout::new(place.path("twin"));
    let image = twin.image(tars, "+gzip", arch());
    twin.add(&image, &["x:x"]);
    unpacked_by_umoci(place, &place.text("twin"), "x")
}

fn unpacked_by_umoci(place: &Place, layout: &str, tag: &str) -> Tree {
    let dir = place.text("umoci");
    sh(&format!("umoci unpack --image {layout}:{tag} {dir}"));
    let tree = manifest(Path::new(&format!("{dir}/rootfs")), &[]);
    std::fs::remove_dir_all(dir).unwrap();
    tree
}

/// The files of an image are these.
#[track_caller]
fn same_files(place: &Place, store: &str, image: &str, wanted: &Tree, what: &str) {
    let dir = place.path("exported");
    place.bundle_in(store, &["export-bundle", "--entrypoint", "sh", image, dir.to_str().unwrap()]).ok();
    let tree = manifest(&dir.join("rootfs"), &[]);
    std::fs::remove_dir_all(dir).unwrap();
    assert_eq!(differences(wanted, &tree), Vec::<String>::new(), "{what}");
}

/// What `bundle inspect` says of an image: id, digest of the manifest, names.
#[track_caller]
fn known(place: &Place, store: &str, image: &str) -> (String, String, Vec<String>) {
    let all = place.bundle_in(store, &["inspect", image]).ok().json();
    let text = |key: &str| all[0][key].as_str().unwrap().to_owned();
    let mut names: Vec<String> =
        all[0]["RepoTags"].as_array().unwrap().iter().map(|it| it.as_str().unwrap().to_owned()).collect();
    names.sort();
    (text("Id"), text("Digest"), names)
}

/// The ids of all images of a store.
#[track_caller]
fn ids(place: &Place, store: &str) -> Vec<String> {
    let out = place.bundle_in(store, &["images", "-a", "-q", "--no-trunc"]).ok().out;
    let mut ids: Vec<String> = out.lines().map(str::to_owned).collect();
    ids.sort();
    ids.dedup();
    ids
}

/// `bundle load` of a file's bytes on the standard input, which is a pipe.
fn load_from_pipe(place: &Place, store: &str, from: &str) -> Done {
    let mut cat = Command::new("bash").args(["-c", from]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let words = ["load", "-q"];
    let done = Done::of(place.command(store, &words).stdin(cat.stdout.take().unwrap()), &words);
    cat.wait().unwrap();
    done
}

/// Nothing is in a store: no image, no file, nothing half made.
#[track_caller]
fn nothing_in(place: &Place, store: &str, what: &str) {
    place.bundle_in(store, &["store", "check"]).ok();
    for dir in ["layers", "blobs/sha256", "ingest", "trash", "containers"] {
        if let Ok(entries) = std::fs::read_dir(place.path(store).join(dir)) {
            assert_eq!(entries.count(), 0, "{what}: {store}/{dir}");
        }
    }
    assert_eq!(place.bundle_in(store, &["images", "-a", "-q"]).ok().out, "", "{what}");
}
