//! ADD: archives are unpacked, addresses fetched.

use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::os::fd::AsFd;

use anyhow::{Context, Result, bail};

use super::copy::{Copier, Target};
use super::workdir::ensure;
use crate::build::source::{Source, open_file};
use crate::image::Digest;
use crate::layer::extract::{self, extract};
use crate::layer::{compress, fs, split};

/// The largest file that is fetched, in bytes.
const LARGEST: u64 = 16 << 30;

/// Whether a source is an address.
pub fn is_address(text: &str) -> bool {
    text.starts_with("http://") || text.starts_with("https://")
}

/// Whether a source is a repository of git, which is not fetched.
pub fn is_git(text: &str) -> bool {
    text.starts_with("git@")
        || text.starts_with("git://")
        || text.starts_with("ssh://")
        || is_address(text) && text.split(['#', '?']).next().is_some_and(|it| it.to_ascii_lowercase().ends_with(".git"))
}

/// Whether bytes are the beginning of a tar, compressed or not.
pub fn is_archive(start: &[u8]) -> bool {
    is_tar(start) || is_compressed(start)
}

fn is_tar(start: &[u8]) -> bool {
    start.len() >= 262 && &start[257..262] == b"ustar" || old_tar(start)
}

/// A header of before POSIX has no word in it, but its sum.
fn old_tar(start: &[u8]) -> bool {
    let Some(header) = start.get(..512) else { return false };
    let field = &header[148..156];
    let text = String::from_utf8_lossy(field);
    let text = text.trim_matches(['\0', ' ']);
    let Ok(sum) = u64::from_str_radix(text, 8) else { return false };
    let byte = |at: usize| if (148..156).contains(&at) { 32 } else { u64::from(header[at]) };
    header[0] != 0 && (0..512).map(byte).sum::<u64>() == sum
}

fn is_compressed(start: &[u8]) -> bool {
    matches!(start, [0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd, ..] | [b'B', b'Z', b'h', b'1'..=b'9', ..])
        || start.starts_with(b"\xfd7zXZ\0")
}

/// The plain bytes of an archive: gzip, bzip2, xz, zstd or none of them.
pub fn decoder<'a>(mut stream: Box<dyn Read + 'a>) -> Result<Box<dyn Read + 'a>> {
    let mut start = Vec::new();
    stream.by_ref().take(6).read_to_end(&mut start).context("reading the archive")?;
    let is_bzip2 = matches!(start[..], [b'B', b'Z', b'h', b'1'..=b'9', ..]);
    let is_xz = start == b"\xfd7zXZ\0";
    let whole = std::io::Cursor::new(start).chain(stream);
    if is_bzip2 {
        return Ok(Box::new(bzip2::read::MultiBzDecoder::new(whole)));
    }
    if is_xz {
        return Ok(Box::new(lzma_rust2::XzReader::new(BufReader::new(whole), true)));
    }
    Ok(compress::decoder(whole)?.1)
}

/// Whether a file of a source is an archive: a tar, or something compressed with a tar in it.
pub fn holds_archive(source: &Source, path: &[u8]) -> Result<bool> {
    let (above, name) = split(path);
    let dir = fs::base(source.root(), above)?;
    let file = File::from(open_file(dir.as_fd(), name)?);
    let mut start = Vec::new();
    file.try_clone()?.take(512).read_to_end(&mut start)?;
    if is_tar(&start) {
        return Ok(true);
    }
    if !is_compressed(&start) {
        return Ok(false);
    }
    let mut plain = Vec::new();
    let file = File::from(open_file(dir.as_fd(), name)?);
    // What cannot be unpacked is a file like any other.
    let read = decoder(Box::new(file)).and_then(|it| Ok(it.take(512).read_to_end(&mut plain)?));
    Ok(read.is_ok() && is_tar(&plain))
}

/// Unpacks an archive into a directory of the stage.
pub fn unpack(copier: &Copier<'_>, stream: Box<dyn Read + '_>, target: &Target) -> Result<()> {
    let (dir, _) = ensure(copier.root, &target.path, copier.owner.unwrap_or((0, 0)))?;
    let mut plain = decoder(stream)?;
    let to = extract::Target { dir: dir.as_fd(), root: Some((copier.root, &target.path)) };
    // --chown is for the directory: what is in an archive belongs to whom the archive says.
    let options = extract::Options { owner: None, ids: None, trusted: true };
    extract(&mut plain, &to, &options).map(drop)
}

/// What was fetched.
pub struct Fetched {
    /// Its bytes, in a file of the build's own.
    pub file: std::path::PathBuf,
    /// Their digest.
    pub digest: Digest,
    /// The last part of the address.
    pub name: String,
    /// When it changed, as the server says, in seconds since 1970.
    pub modified: Option<i64>,
}

/// Fetches an address into a file; `checksum` is what its digest has to be.
pub fn fetch(
    address: &str,
    checksum: Option<&str>,
    into: &std::path::Path,
    stop: &dyn Fn() -> Result<()>,
) -> Result<Fetched> {
    let told = || format!("fetching {address}");
    let wanted: Option<Digest> =
        checksum.map(|it| it.parse().with_context(|| format!("--checksum={it}"))).transpose()?;
    let name = address.split(['?', '#']).next().unwrap_or_default();
    let name = name.split_once("://").map_or("", |it| it.1).split_once('/').map_or("", |it| it.1);
    let name = name.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_owned();
    let tls = crate::registry::tls_of_host().with_context(told)?;
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .tls_config(tls)
        .timeout_connect(Some(std::time::Duration::from_secs(30)))
        .timeout_recv_response(Some(std::time::Duration::from_mins(1)))
        .build()
        .into();
    let response = agent.get(address).call().map_err(|error| anyhow::anyhow!("{}: {error}", told()))?;
    let modified = response
        .headers()
        .get("last-modified")
        .and_then(|it| it.to_str().ok())
        .and_then(|it| jiff::fmt::rfc2822::parse(it).ok().map(|it| it.timestamp().as_second()));
    let mut body = response.into_body().into_with_config().limit(LARGEST).reader();
    let mut file = File::create_new(into).with_context(told)?;
    let mut hasher = wanted.as_ref().map_or_else(crate::image::digest::Hasher::default, Digest::hasher);
    let mut buffer = vec![0; 128 << 10];
    loop {
        stop()?;
        let count = body.read(&mut buffer).with_context(told)?;
        if count == 0 {
            break;
        }
        hasher.update(&buffer[..count]);
        file.write_all(&buffer[..count]).with_context(told)?;
    }
    let digest = hasher.finish();
    if let Some(wanted) = wanted.filter(|it| *it != digest) {
        bail!("{}: what came has the digest {digest}, and --checksum says {wanted}", told());
    }
    Ok(Fetched { file: into.to_owned(), digest, name, modified })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_told_apart() {
        assert!(is_address("https://x/y") && is_address("http://x") && !is_address("x"));
        for it in ["git@github.com:a/b.git", "https://x/y.git", "https://x/y.git#main", "git://x", "ssh://git@x/y"] {
            assert!(is_git(it), "{it}");
        }
        assert!(!is_git("https://x/y.tar.gz") && !is_git("file.git"));
    }

    #[test]
    fn archives_are_known_by_their_beginning() {
        let mut header = tar::Header::new_ustar();
        header.set_path("x").unwrap();
        header.set_cksum();
        assert!(is_archive(header.as_bytes()));
        let mut old = tar::Header::new_old();
        old.set_path("x").unwrap();
        old.set_cksum();
        assert!(is_archive(old.as_bytes()));
        assert!(is_archive(b"BZh9") && is_archive(b"\x1f\x8b") && is_archive(b"\xfd7zXZ\0"));
        assert!(!is_archive(b"FROM scratch\n") && !is_archive(b"") && !is_archive(&[0; 512]));
    }
}
