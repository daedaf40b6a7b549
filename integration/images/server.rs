//! A registry of a test's own (Debian's docker-registry, on loopback), and images to fill it with.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::{Value, json};

use crate::harness::{Place, digest, layout, sh, tar};
use crate::tree::{Node, manifest};

/// Media types.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// A running docker-registry with nothing in it. It ends with the test.
pub struct Registry {
    child: Child,
    pub address: SocketAddr,
    _place: Place,
}

impl Registry {
    /// Plain http, open to all.
    pub fn start() -> Self {
        Self::with("", "")
    }

    /// With more lines under `http:`, and more sections.
    pub fn with(http: &str, sections: &str) -> Self {
        let place = Place::new("docker-registry");
        let config = format!(
            "version: 0.1\nlog:\n  accesslog:\n    disabled: true\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: 127.0.0.1:0\n  secret: s\n{http}\n{sections}\n",
            place.text("data")
        );
        std::fs::write(place.path("config.yml"), config).unwrap();
        // Should the test be killed, no one else would end it.
        let mut child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "docker-registry", "serve", &place.text("config.yml")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let line = lines.find(|it| it.contains("listening on")).expect("docker-registry (of Debian) listens");
        let address = line.split("listening on ").nth(1).unwrap().split(['"', ',']).next().unwrap().parse().unwrap();
        // What it says must go somewhere, lest it wait.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address, _place: place }
    }

    /// With TLS, by a certificate for 127.0.0.1 of the authority whose certificate is `ca.crt` in `place`.
    pub fn secure(place: &Place) -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
        std::fs::write(place.path("ca.crt"), authority.pem()).unwrap();
        std::fs::write(place.path("server.crt"), certificate.pem()).unwrap();
        std::fs::write(place.path("server.key"), key.serialize_pem()).unwrap();
        let at = place.0.display();
        Self::with(&format!("  tls:\n    certificate: {at}/server.crt\n    key: {at}/server.key\n"), "")
    }

    /// An image's name here.
    pub fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.address)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Writes the user's `registries.toml`.
pub fn configure(place: &Place, text: &str) {
    let dir = place.path("home/.config/bundle");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("registries.toml"), text).unwrap();
}

/// Text that is as good as random, so that a layer of it stays large.
pub fn noise(size: usize, seed: u64) -> String {
    let mut state = seed.wrapping_mul(2).wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut text = String::with_capacity(size);
    while text.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        text.push(char::from(b' ' + (state >> 33) as u8 % 95));
    }
    text
}

/// A tar of one file, named `name`, of `size` bytes, with a directory, a link and a mode.
pub fn layer(name: &str, size: usize, seed: u64) -> Vec<u8> {
    let (dir, file, link) = (format!("{name}/"), format!("{name}/file"), format!("{name}/link"));
    tar(&[(&dir, "", 0o750), (&file, &noise(size, seed), 0o4755), (&link, "->file", 0o777)])
}

/// Loads an image of these layers into a store, under a name.
pub fn load(place: &Place, store: &str, name: &str, layers: &[Vec<u8>], config: Value) {
    let dir = place.path(&format!("layout-{}", name.replace(['/', ':'], "-")));
    layout(&dir, name, layers, config);
    place.bundle_in(store, &["load", "-q", "-i", dir.to_str().unwrap()]).ok();
}

/// All files of an image.
#[track_caller]
pub fn files(place: &Place, store: &str, name: &str) -> BTreeMap<String, Node> {
    let dir = Place::new("files");
    place.bundle_in(store, &["export-bundle", "--entrypoint", "x", name, &dir.text("b")]).ok();
    let mut files = manifest(&dir.path("b/rootfs"), &[]);
    // No layer speaks of the top: it is as old as its copy.
    if let Some(top) = files.get_mut("") {
        top.mtime = (0, 0);
    }
    files
}

/// What an image is known by: the digest that its registry has it by, and its id.
#[track_caller]
pub fn identity(place: &Place, store: &str, name: &str) -> (String, String) {
    let about = place.bundle_in(store, &["inspect", name]).ok().json();
    let digest = about[0]["RepoDigests"][0].as_str().unwrap_or_default().split('@').nth(1).unwrap_or_default();
    (digest.to_owned(), about[0]["Id"].as_str().unwrap().to_owned())
}

/// How many there are in one of a store's directories.
pub fn count(place: &Place, store: &str, dir: &str) -> usize {
    std::fs::read_dir(Path::new(&place.text(store)).join(dir)).unwrap().count()
}

impl Registry {
    /// Sends a blob by hand; its descriptor.
    pub fn put_blob(&self, repository: &str, media_type: &str, bytes: &[u8]) -> Value {
        let digest = digest(bytes);
        let place = Place::new("blob");
        std::fs::write(place.path("blob"), bytes).unwrap();
        let begin = format!("http://{}/v2/{repository}/blobs/uploads/", self.address);
        let location = sh(&format!("curl -sSf -X POST -o /dev/null -D - {begin} | grep -i ^location: | cut -d' ' -f2"));
        sh(&format!(
            "curl -sSf -T {} -H 'Content-Type: application/octet-stream' '{}&digest={digest}'",
            place.text("blob"),
            location.trim()
        ));
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    }

    /// Sends a manifest by hand; its descriptor.
    pub fn put_manifest(&self, name: &str, manifest: &Value) -> Value {
        let media_type = manifest["mediaType"].as_str().unwrap();
        let bytes = manifest.to_string();
        let place = Place::new("manifest");
        std::fs::write(place.path("manifest"), &bytes).unwrap();
        let (repository, tag) = name.split_once(':').unwrap();
        sh(&format!(
            "curl -sSf -T {} -H 'Content-Type: {media_type}' http://{}/v2/{repository}/manifests/{tag}",
            place.text("manifest"),
            self.address
        ));
        json!({"mediaType": media_type, "digest": digest(bytes.as_bytes()), "size": bytes.len()})
    }

    /// Sends an image by hand: its layers as (media type, bytes as they are sent, tar). Its manifest's descriptor.
    pub fn put_image(&self, name: &str, platform: (&str, &str), layers: &[(&str, Vec<u8>, &[u8])]) -> Value {
        let (repository, _) = name.split_once(':').unwrap();
        let diff_ids: Vec<String> = layers.iter().map(|it| digest(it.2)).collect();
        let config = json!({
            "os": platform.0, "architecture": platform.1, "config": {"Cmd": [name]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let config =
            self.put_blob(repository, "application/vnd.oci.image.config.v1+json", config.to_string().as_bytes());
        let layers: Vec<Value> = layers.iter().map(|it| self.put_blob(repository, it.0, &it.1)).collect();
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
        self.put_manifest(name, &manifest)
    }
}
