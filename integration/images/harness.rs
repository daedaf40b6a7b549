//! What the tests of `bundle` share: the binary, a store of one's own, small images.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

/// The binary that ships where the suite has built it, else the one of this build.
pub fn bundle() -> PathBuf {
    option_env!("RT_BINARY")
        .map(|rt| Path::new(rt).with_file_name("bundle"))
        .filter(|it| it.exists())
        .unwrap_or_else(|| env!("CARGO_BIN_EXE_bundle").into())
}

/// The runtime beside it.
pub fn rt() -> PathBuf {
    let beside = bundle().with_file_name("rt");
    assert!(beside.exists(), "{} is missing: contrib/build makes it", beside.display());
    beside
}

/// A directory of a test's own, removed at its end.
pub struct Place(pub PathBuf);

impl Place {
    /// A new one.
    pub fn new(name: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("rt-bundle-{name}-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    /// A path in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// A path in it as text.
    pub fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// `bundle` with a store in it, called `store`.
    pub fn bundle(&self, words: &[&str]) -> Done {
        self.bundle_in("store", words)
    }

    /// `bundle` with another store in it.
    pub fn bundle_in(&self, store: &str, words: &[&str]) -> Done {
        Done::of(self.command(store, words).stdin(Stdio::null()), words)
    }

    /// The command itself, for more.
    pub fn command(&self, store: &str, words: &[&str]) -> Command {
        let mut command = Command::new(bundle());
        // Nothing of who runs the tests: no passwords, no configuration.
        command.env("HOME", self.path("home"));
        for name in ["XDG_CONFIG_HOME", "XDG_RUNTIME_DIR", "DOCKER_CONFIG", "REGISTRY_AUTH_FILE"] {
            command.env_remove(name);
        }
        // The machine's own network stays as it is: who wants one says so.
        command.env("BUNDLE_NETWORK", "none");
        command.env("BUNDLE_ROOT", self.path(store)).env("BUNDLE_RUNTIME", rt()).args(words);
        command
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = Command::new("chmod").args(["-R", "u+rwX"]).arg(&self.0).stderr(Stdio::null()).status();
        // What a dying process still puts in keeps a directory from being removed the first time.
        for _ in 0..10 {
            if std::fs::remove_dir_all(&self.0).is_ok() || !self.0.exists() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }
}

/// A command that has ended.
pub struct Done {
    pub status: i32,
    pub out: String,
    pub err: String,
    what: String,
}

impl Done {
    /// Runs a command and waits.
    pub fn of(command: &mut Command, words: &[&str]) -> Self {
        let Output { status, stdout, stderr } = command.output().unwrap();
        let signal = std::os::unix::process::ExitStatusExt::signal(&status);
        Self {
            status: status.code().unwrap_or_else(|| -signal.unwrap_or(0)),
            out: String::from_utf8_lossy(&stdout).into_owned(),
            err: String::from_utf8_lossy(&stderr).into_owned(),
            what: words.join(" "),
        }
    }

    /// It has to have succeeded.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.status, 0, "{}: {}{}", self.what, self.out, self.err);
        self
    }

    /// It has to have failed with this status and one line of error that has these words.
    #[track_caller]
    pub fn fails(self, status: i32, words: &str) -> Self {
        assert_eq!(self.status, status, "{}: {}{}", self.what, self.out, self.err);
        let last = self.err.lines().last().unwrap_or_default();
        assert!(last.contains(words), "{}: wanted {words:?} in: {}", self.what, self.err);
        assert!(!self.err.contains("panicked"), "{}", self.err);
        self
    }

    /// The last line of its output.
    pub fn last(&self) -> &str {
        self.out.lines().last().unwrap_or_default()
    }

    /// Its output as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{}: {error}: {}", self.what, self.out))
    }
}

/// Runs another program, which has to succeed; its output.
#[track_caller]
pub fn sh(line: &str) -> String {
    let output = Command::new("bash").args(["-euo", "pipefail", "-c", line]).stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{line}\n{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// The entries of a small image's layer: (path, content, mode). A path that ends with `/` is a directory, a
/// content that begins with `->` a symbolic link.
pub type Files<'a> = &'a [(&'a str, &'a str, u32)];

/// A tar of files.
pub fn tar(files: Files<'_>) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, content, mode) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(*mode);
        header.set_mtime(1_600_000_000);
        if path.ends_with('/') {
            header.set_entry_type(tar::EntryType::Directory);
        } else if let Some(target) = content.strip_prefix("->") {
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            builder.append_link(&mut header, path, target).unwrap();
            continue;
        } else {
            header.set_size(content.len() as u64);
        }
        let bytes: &[u8] = if path.ends_with('/') { b"" } else { content.as_bytes() };
        builder.append_data(&mut header, path, bytes).unwrap();
    }
    builder.into_inner().unwrap()
}

/// Bytes compressed with gzip.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// `sha256:...` of bytes.
pub fn digest(bytes: &[u8]) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(bytes).iter().fold("sha256:".to_owned(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// An OCI layout in a directory with one image of these layers (tars), under a name.
pub fn layout(dir: &Path, name: &str, layers: &[Vec<u8>], config: Value) {
    let blobs = dir.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    let put = |media_type: &str, bytes: &[u8]| {
        let digest = digest(bytes);
        std::fs::write(blobs.join(&digest[7..]), bytes).unwrap();
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    };
    let diff_ids: Vec<String> = layers.iter().map(|it| digest(it)).collect();
    let layers: Vec<Value> =
        layers.iter().map(|it| put("application/vnd.oci.image.layer.v1.tar+gzip", &gzip(it))).collect();
    let config = json!({"architecture": arch(), "os": "linux", "config": config, "rootfs": {"type": "layers", "diff_ids": diff_ids}});
    let config = put("application/vnd.oci.image.config.v1+json", config.to_string().as_bytes());
    let manifest = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config, "layers": layers});
    let mut manifest = put("application/vnd.oci.image.manifest.v1+json", manifest.to_string().as_bytes());
    manifest["annotations"] =
        json!({"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name.rsplit(':').next()});
    let index = json!({"schemaVersion": 2, "manifests": [manifest]});
    std::fs::write(dir.join("index.json"), index.to_string()).unwrap();
    std::fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
}

/// Go's name of this machine.
pub fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
