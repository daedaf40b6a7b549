//! Layers as one tree.

use std::fs;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::super::overlay::{Mount, Overlay, classic, mount, supported, with_directory};
use super::super::unpack::{Options, unpack};
use super::build::Tar;
use super::{OPTIONS, Scratch, in_own_mounts, listing, open};

/// As many layers as images have at most.
#[test]
fn a_hundred_and_twenty_eight_layers() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    in_own_mounts(|| {
        let scratch = Scratch::new();
        let store = open(&scratch.0);
        for directory in ["layers", "up", "up/diff", "up/work", "merged"] {
            fs::create_dir(scratch.0.join(directory)).unwrap();
        }
        let layers: Vec<PathBuf> = (0..128).map(|number| format!("layers/{number:016x}").into()).collect();
        for (number, layer) in layers.iter().enumerate() {
            fs::create_dir(scratch.0.join(layer)).unwrap();
            fs::write(scratch.0.join(layer).join(format!("file-{number}")), "").unwrap();
            fs::write(scratch.0.join(layer).join("last"), number.to_string()).unwrap();
        }
        let target = open(&scratch.0.join("merged"));
        let upper = Some((Path::new("up/diff"), Path::new("up/work")));
        mount(
            store.as_fd(),
            &Mount { layers: &layers, upper, overlay: Overlay::Trusted, volatile: false },
            target.as_fd(),
        )
        .unwrap();
        let merged = scratch.0.join("merged");
        assert_eq!(fs::read_dir(&merged).unwrap().count(), 129);
        assert_eq!(fs::read_to_string(merged.join("last")).unwrap(), "127");
        fs::write(merged.join("new"), "").unwrap();
        assert!(scratch.0.join("up/diff/new").exists());
        rustix::mount::unmount(&merged, rustix::mount::UnmountFlags::DETACH).unwrap();
        // As older kernels do it.
        let old = |layers: &[PathBuf]| {
            let what = Mount { layers, upper, overlay: Overlay::Trusted, volatile: false };
            with_directory(store.as_fd(), || classic(&what, target.as_fd()))
        };
        let few: Vec<PathBuf> =
            layers.iter().map(|it| format!("layers/{}", &it.to_str().unwrap()[21..]).into()).collect();
        for (long, short) in layers.iter().zip(&few) {
            fs::rename(scratch.0.join(long), scratch.0.join(short)).unwrap();
        }
        old(&few).unwrap();
        assert_eq!(fs::read_dir(&merged).unwrap().count(), 130);
        rustix::mount::unmount(&merged, rustix::mount::UnmountFlags::DETACH).unwrap();
        let error = format!("{:#}", old(&vec!["layers/0123456789abcdef".into(); 200]).unwrap_err());
        assert!(error.contains("200 layers are more than this kernel mounts"), "{error}");
        let layers = few;
        // Without an upper directory nothing can be written.
        mount(
            store.as_fd(),
            &Mount { layers: &layers, upper: None, overlay: Overlay::Trusted, volatile: false },
            target.as_fd(),
        )
        .unwrap();
        assert!(fs::write(merged.join("new"), "").is_err());
        rustix::mount::unmount(&merged, rustix::mount::UnmountFlags::DETACH).unwrap();
    });
}

#[test]
fn where_an_overlay_can_be() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    in_own_mounts(|| {
        let scratch = Scratch::new();
        supported(open(&scratch.0).as_fd(), Overlay::Trusted).unwrap();
        assert_eq!(fs::read_dir(&scratch.0).unwrap().count(), 0, "nothing of the trial is left");
        // On overlayfs itself there can be none.
        for directory in ["lower", "upper", "work", "merged"] {
            fs::create_dir(scratch.0.join(directory)).unwrap();
        }
        let store = open(&scratch.0);
        let upper = Some((Path::new("upper"), Path::new("work")));
        let what = Mount { layers: &["lower".into()], upper, overlay: Overlay::Trusted, volatile: false };
        mount(store.as_fd(), &what, open(&scratch.0.join("merged")).as_fd()).unwrap();
        let merged = open(&scratch.0.join("merged"));
        let error = format!("{:#}", supported(merged.as_fd(), Overlay::Trusted).unwrap_err());
        assert!(error.contains("--storage-driver vfs"), "{error}");
        drop(merged);
        rustix::mount::unmount(scratch.0.join("merged"), rustix::mount::UnmountFlags::DETACH).unwrap();
    });
}

/// What a plain user has: a user namespace with ids of its own.
#[test]
fn within_a_user_namespace() {
    const INSIDE: &str = "RT_BUNDLE_TEST_INSIDE";
    if std::env::var_os(INSIDE).is_none() {
        let test = std::env::current_exe().unwrap();
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount"]).arg(test);
        command.args(["--exact", "layer::tests::overlay::within_a_user_namespace", "--nocapture"]);
        let output = command.env(INSIDE, "1").output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        if text.contains("unshare failed") {
            println!("left out: {text}");
            return;
        }
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
        return;
    }
    let scratch = Scratch::new();
    let options = Options { overlay: Overlay::User, devices: false, ..OPTIONS };
    let store = open(&scratch.0);
    for directory in ["layers", "up", "up/diff", "up/work", "merged"] {
        fs::create_dir(scratch.0.join(directory)).unwrap();
    }
    let low = Tar::default().file("d/low", "1").file("gone", "1").file("e/low", "1").file("null", "1").end();
    let high = Tar::default()
        .file("d/.wh..wh..opq", "")
        .file("d/high", "2")
        .file(".wh.gone", "")
        .device(b'3', "null", 1, 3)
        .pax(&[("SCHILY.xattr.trusted.any", b"x"), ("SCHILY.xattr.user.kept", b"x")])
        .file("e/high", "2")
        .end();
    for (name, archive) in [("layers/low", low), ("layers/high", high)] {
        let into = scratch.directory(name);
        let done = unpack(&mut &archive[..], into.as_fd(), &options).unwrap();
        assert_eq!(done.skipped, u64::from(name == "layers/high"));
    }
    supported(store.as_fd(), Overlay::User).unwrap();
    let layers = ["layers/low".into(), "layers/high".into()];
    let upper = Some((Path::new("up/diff"), Path::new("up/work")));
    let target = open(&scratch.0.join("merged"));
    mount(store.as_fd(), &Mount { layers: &layers, upper, overlay: Overlay::User, volatile: false }, target.as_fd())
        .unwrap();
    let kept = "e/high=2 user.kept=x";
    assert_eq!(listing(&scratch.0.join("merged")), ["d/", "d/high=2", "e/", kept, "e/low=1"]);
    rustix::mount::unmount(scratch.0.join("merged"), rustix::mount::UnmountFlags::DETACH).unwrap();
    // What has no id here.
    let foreign = Tar::default().pax(&[("uid", b"12345")]).file("x", "").end();
    let error = unpack(&mut &foreign[..], scratch.directory("foreign").as_fd(), &options).unwrap_err();
    let error = format!("{error:#}");
    assert!(error.contains("\"x\"") && error.contains("12345:0") && error.contains("/etc/subuid"), "{error}");
    assert!(target.as_raw_fd() > 0);
}
