//! An image in Docker's archive, as its files and its configuration.

use std::collections::BTreeMap;
use std::io::Read;

use serde_json::Value;
use sha2::Digest;

/// What is compared of an image.
#[derive(Debug, Default)]
pub struct Image {
    /// By path: type, mode, owner, content.
    pub files: BTreeMap<String, String>,
    /// By Docker's names, as JSON.
    pub config: BTreeMap<String, String>,
}

const KEYS: [&str; 12] = [
    "Env",
    "Cmd",
    "Entrypoint",
    "User",
    "WorkingDir",
    "Labels",
    "ExposedPorts",
    "Volumes",
    "Healthcheck",
    "Shell",
    "StopSignal",
    "OnBuild",
];

/// Content as it is compared: short text itself, else its digest.
pub fn shown(content: &[u8]) -> String {
    match std::str::from_utf8(content) {
        Ok(text) if content.len() < 200 => format!("{text:?}"),
        _ => sha2::Sha256::digest(content).iter().take(8).map(|it| format!("{it:02x}")).collect(),
    }
}

/// Reads the only image of an archive.
pub fn read(path: &str) -> Image {
    let mut members: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut links: Vec<(String, String)> = Vec::new();
    let mut archive = tar::Archive::new(std::fs::File::open(path).unwrap());
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().to_str().unwrap().to_owned();
        if let Some(target) = entry.link_name().unwrap() {
            links.push((name, target.to_str().unwrap().to_owned()));
            continue;
        }
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        members.insert(name, bytes);
    }
    // Docker names a layer that it has twice by a link.
    for (name, target) in links {
        let target = target.trim_start_matches("../").to_owned();
        let found = members.iter().find(|it| it.0.ends_with(&target)).map(|it| it.1.clone());
        members.insert(name, found.unwrap());
    }
    std::fs::remove_file(path).unwrap();
    let manifest: Value = serde_json::from_slice(&members["manifest.json"]).unwrap();
    let config: Value = serde_json::from_slice(&members[manifest[0]["Config"].as_str().unwrap()]).unwrap();
    let mut image = Image::default();
    for layer in manifest[0]["Layers"].as_array().unwrap() {
        apply(&mut image.files, &members[layer.as_str().unwrap()]);
    }
    for key in KEYS {
        image.config.insert(key.to_owned(), plain(&config["config"][key]));
    }
    image.config.insert("author".to_owned(), plain(&config["author"]));
    image
}

/// What is empty is the same as what is not there.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(list) if list.is_empty() => String::new(),
        Value::Object(fields) if fields.is_empty() => String::new(),
        other => other.to_string(),
    }
}

fn apply(files: &mut BTreeMap<String, String>, layer: &[u8]) {
    let mut plain = Vec::new();
    let layer = if layer.starts_with(&[0x1f, 0x8b]) {
        flate2::read::GzDecoder::new(layer).read_to_end(&mut plain).unwrap();
        &plain[..]
    } else {
        layer
    };
    let mut new: BTreeMap<String, String> = BTreeMap::new();
    let mut archive = tar::Archive::new(layer);
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = {
            let bytes = entry.path_bytes();
            let text = String::from_utf8_lossy(&bytes);
            format!("/{}", text.strip_prefix("./").unwrap_or(&text).trim_matches('/'))
        };
        if path == "/" || path == "/." {
            continue;
        }
        let (above, name) = path.rsplit_once('/').unwrap();
        if name == ".wh..wh..opq" {
            let below = format!("{above}/");
            files.retain(|it, _| !it.starts_with(&below));
            continue;
        }
        if let Some(gone) = name.strip_prefix(".wh.") {
            let gone = format!("{above}/{gone}");
            files.retain(|it, _| *it != gone && !it.starts_with(&format!("{gone}/")));
            continue;
        }
        let header = entry.header().clone();
        let owner = format!("{}:{}", header.uid().unwrap(), header.gid().unwrap());
        let mode = header.mode().unwrap() & 0o7777;
        let link = entry.link_name_bytes().map(|it| String::from_utf8_lossy(&it).into_owned()).unwrap_or_default();
        let text = match header.entry_type() {
            tar::EntryType::Directory => format!("directory {mode:o} {owner}"),
            tar::EntryType::Symlink => format!("link {owner} {link}"),
            tar::EntryType::Link => {
                let target = format!("/{}", link.trim_start_matches("./").trim_matches('/'));
                new.get(&target).or_else(|| files.get(&target)).unwrap_or_else(|| panic!("{path} to {target}")).clone()
            }
            tar::EntryType::Fifo => format!("fifo {mode:o} {owner}"),
            tar::EntryType::Char | tar::EntryType::Block => format!(
                "device {mode:o} {owner} {}:{}",
                header.device_major().unwrap().unwrap(),
                header.device_minor().unwrap().unwrap()
            ),
            _ => {
                let mut content = Vec::new();
                entry.read_to_end(&mut content).unwrap();
                format!("file {mode:o} {owner} {}", shown(&content))
            }
        };
        if !text.starts_with("directory") {
            files.retain(|it, _| !it.starts_with(&format!("{path}/")));
        }
        new.insert(path, text);
    }
    files.extend(new);
}

/// What is not the same: paths and names of fields, with what both have.
pub fn differences(ours: &Image, theirs: &Image) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (ours, theirs) in [(&ours.files, &theirs.files), (&ours.config, &theirs.config)] {
        let names: std::collections::BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
        for name in names {
            let of = |it: &BTreeMap<String, String>| it.get(name).cloned().unwrap_or_else(|| "nothing".to_owned());
            let (ours, theirs) = (of(ours), of(theirs));
            if ours != theirs {
                found.push((name.clone(), format!("ours is {ours}, theirs {theirs}")));
            }
        }
    }
    found
}
