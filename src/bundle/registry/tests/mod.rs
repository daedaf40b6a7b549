//! The client against registries: a real one (Debian's docker-registry), and ones that misbehave.

#[path = "../../../../integration/images/faults.rs"]
mod faults;

mod fetching;
mod proving;
mod real;
mod sending;

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::{Client, Failure, Kind, Limits, Registries, Settings};
use crate::image::manifest::{Descriptor, Manifest, oci};
use crate::image::{Digest, Reference};

/// A directory that is removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("rt-bundle-registry-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

/// A running docker-registry with nothing in it.
struct Registry {
    child: Child,
    host: String,
    scratch: Scratch,
}

impl Registry {
    fn start() -> Self {
        Self::with("", "")
    }

    /// With more lines under `http:`, and more sections.
    fn with(http: &str, sections: &str) -> Self {
        let scratch = Scratch::new();
        let (root, file) = (scratch.0.join("data"), scratch.0.join("config.yml"));
        let config = format!(
            "version: 0.1\nlog:\n  accesslog:\n    disabled: true\nstorage:\n  filesystem:\n    rootdirectory: {}\n  delete:\n    enabled: true\nhttp:\n  addr: 127.0.0.1:0\n  secret: s\n{http}\n{sections}\n",
            root.display()
        );
        std::fs::write(&file, config).unwrap();
        let (child, host) = run(&file);
        Self { child, host, scratch }
    }

    /// Runs it again, with the configuration that there is now.
    fn run(&mut self) {
        (self.child, self.host) = run(&self.scratch.0.join("config.yml"));
    }

    fn address(&self) -> std::net::SocketAddr {
        self.host.parse().unwrap()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// Starts docker-registry; the process, and where it listens.
fn run(config: &std::path::Path) -> (Child, String) {
    let mut child = Command::new("docker-registry")
        .arg("serve")
        .arg(config)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("docker-registry runs (Debian package docker-registry)");
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let line = lines.find(|it| it.contains("listening on")).expect("docker-registry listens");
    let host = line.split("listening on ").nth(1).unwrap();
    let host = host.split(['"', ',']).next().unwrap().to_owned();
    // What it says must go somewhere, lest it wait.
    std::thread::spawn(move || lines.for_each(drop));
    (child, host)
}

/// Impatient, so that tests end.
fn limits() -> Limits {
    Limits {
        connect: Duration::from_secs(5),
        idle: Duration::from_millis(500),
        document: Duration::from_secs(3),
        tries: 4,
        pause: Duration::from_millis(5),
        longest_pause: Duration::from_millis(300),
        chunk: None,
    }
}

/// A client for registries without TLS.
fn plain() -> Client {
    Client::new(Settings { verify: Some(false), limits: limits(), ..Settings::default() })
}

/// A client with lines of registries.toml.
fn configured(toml: &str) -> Client {
    let scratch = Scratch::new();
    let file = scratch.0.join("registries.toml");
    std::fs::write(&file, toml).unwrap();
    let registries = Registries::load(&[file], Vec::new()).unwrap();
    Client::new(Settings { registries, limits: limits(), ..Settings::default() })
}

/// Threads share a client, and each can have its blob.
const _: () = {
    const fn shared<T: Send + Sync>() {}
    const fn moved<T: Send>() {}
    shared::<Client>();
    moved::<super::blob::Blob>();
};

fn name(host: &str, rest: &str) -> Reference {
    format!("{host}/{rest}").parse().unwrap()
}

/// Bytes that repeat nowhere.
fn noise(size: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}

/// Sends bytes as a blob.
fn upload(client: &Client, reference: &Reference, bytes: &[u8]) -> anyhow::Result<Descriptor> {
    let descriptor = Descriptor::of(oci::LAYER, bytes);
    client.upload_blob(reference, &descriptor, source(bytes), &|_| ())?;
    Ok(descriptor)
}

fn source(bytes: &[u8]) -> impl Fn(u64) -> anyhow::Result<Box<dyn Read>> {
    let bytes = bytes.to_vec();
    move |at| Ok(Box::new(std::io::Cursor::new(bytes[usize::try_from(at)?..].to_vec())))
}

/// Reads a blob to its end.
fn fetch(client: &Client, reference: &Reference, descriptor: &Descriptor, at: u64) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    client.blob(reference, descriptor, at)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A manifest of one layer.
fn manifest(config: &Descriptor, layer: &Descriptor) -> Vec<u8> {
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(oci::MANIFEST.into()),
        artifact_type: None,
        config: config.clone(),
        layers: vec![layer.clone()],
        annotations: None,
    };
    serde_json::to_vec(&manifest).unwrap()
}

/// Pushes an image of one layer of these bytes; its manifest's digest, and the layer.
fn push(client: &Client, reference: &Reference, layer: &[u8]) -> (Digest, Descriptor) {
    let config = upload(client, reference, b"{}").unwrap();
    let layer = upload(client, reference, layer).unwrap();
    (client.put_manifest(reference, oci::MANIFEST, &manifest(&config, &layer)).unwrap(), layer)
}

/// The kind and the words of a failure, which is one line without secrets.
#[track_caller]
fn failure<T>(result: anyhow::Result<T>) -> (Kind, String) {
    let Err(error) = result else { panic!("it worked") };
    let told = format!("{error:#}");
    assert!(!told.chars().any(char::is_control) && !told.contains("secret"), "{told:?}");
    let found = error.downcast_ref::<Failure>().or_else(|| {
        error.downcast_ref::<std::io::Error>().and_then(|it| it.get_ref()).and_then(|it| it.downcast_ref())
    });
    (found.unwrap_or_else(|| panic!("no Failure: {told}")).kind, told)
}
