//! The suites that are programs of their own, as tests: each must end well on the release binary.

use std::path::{Path, PathBuf};
use std::process::Command;

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn rt() -> String {
    std::env::var("RT_BINARY").unwrap_or_else(|_| env!("CARGO_BIN_EXE_rt").to_owned())
}

/// Runs a program below the top directory and gives out what it printed.
#[track_caller]
fn suite(program: &str, args: &[&str]) -> String {
    let output = Command::new(top().join(program)).args(args).env("RT_BINARY", rt()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} ended with {}\n{text}\n{errors}", output.status);
    text
}

/// The runtime-tools programs: all pass but those whose fault is proven in spec-tests/README.md.
#[test]
fn oci_validation_programs() {
    let expected = top().join("spec-tests/validation/expected");
    let text = suite("spec-tests/validation/run", &[&rt(), "--expect", expected.to_str().unwrap()]);
    let known = std::fs::read_to_string(expected).unwrap();
    let known = known.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).count();
    let passed: usize = text
        .lines()
        .find_map(|line| line.strip_prefix("validation: ")?.split(' ').next()?.parse().ok())
        .expect("a last line with the count");
    assert!(passed >= 58 - known, "{text}");
}

/// All attacks, in their short form.
#[test]
fn attacks() {
    let text = suite("integration/attacks/run", &[&rt()]);
    let held = text.lines().filter(|line| line.contains(" held (")).count();
    assert!(held >= 55, "{text}");
}

/// Containers under an engine, all its cases.
#[track_caller]
fn engine(name: &str) {
    let text = suite(&format!("integration/engines/{name}"), &[&rt()]);
    let last = text.lines().last().unwrap_or_default();
    assert!(last.starts_with(&format!("{name}: ")) && last.ends_with(" 0 failed"), "{text}");
}

#[test]
fn containerd() {
    engine("containerd");
}

#[test]
fn docker() {
    engine("docker");
}

#[test]
fn podman() {
    engine("podman");
}

#[test]
fn podman_rootless() {
    engine("podman-rootless");
}

#[test]
fn cri() {
    engine("cri");
}

#[test]
fn buildah() {
    engine("buildah");
}

/// The times of one container through each engine; what they are never fails a test.
#[test]
fn times_through_engines() {
    let text = suite("integration/engines/times", &[&rt(), "--rounds", "2"]);
    for engine in ["| `ctr run --rm` |", "| `docker run --rm` |", "| `podman run --rm` |"] {
        assert!(text.contains(engine), "{engine} is missing in:\n{text}");
    }
}

/// `bundle` pulls and runs beside other tools; what the times are never fails a test.
#[test]
fn images_beside_others() {
    let text = suite("integration/engines/images", &[&rt(), "--rounds", "1"]);
    for line in
        ["| `bundle pull` |", "| `ctr images pull` |", "| `bundle run --rm --network none demo` |", "| `docker run"]
    {
        assert!(text.contains(line), "{line} is missing in:\n{text}");
    }
}

/// `bundle`'s containers beside Docker's and Podman's; what the times are never fails a test.
#[test]
fn containers_beside_others() {
    let text = suite("integration/engines/containers", &[&rt(), "--rounds", "2", "--count", "20"]);
    for name in ["bundle", "podman", "docker"] {
        for row in ["run --rm --network none", "run -d --network none", "exec", "ps -a, 20 made"] {
            let line = format!("| `{name} {row}` |");
            assert!(text.contains(&line), "{line} is missing in:\n{text}");
        }
    }
    for line in ["| floor |", "| `bundle ps`, 20 alive |", "| `bundle monitor` |", "| `conmon` |", "| `containerd-shim"]
    {
        assert!(text.contains(line), "{line} is missing in:\n{text}");
    }
}

/// `bundle build` beside Docker's two builders and Buildah; what the times are never fails a test.
#[test]
fn builds_beside_others() {
    let text = suite("integration/engines/build", &[&rt(), "--rounds", "1"]);
    for row in [
        "| `bundle build` |",
        "| `docker build` (BuildKit) |",
        "| `docker build` (classic) |",
        "| `buildah bud --layers` |",
        "| the commands alone |",
    ] {
        assert!(text.contains(row), "{row} is missing in:\n{text}");
    }
}

/// `bundle`'s networks beside Docker's, Podman's and one made by hand; what the times are never fails a test.
#[test]
fn networks_beside_others() {
    let few = ["--rounds", "1", "--count", "20", "--seconds", "1", "--trips", "200", "--leases", "500"];
    let text = suite("integration/engines/networks", &[&[rt().as_str()][..], &few].concat());
    for name in ["bundle", "podman", "docker"] {
        for row in ["run --rm --network none", "run --rm --network bridge -p 8080:80"] {
            let line = format!("| `{name} {row}` |");
            assert!(text.contains(&line), "{line} is missing in:\n{text}");
        }
        assert_eq!(text.matches(&format!("| `{name}` |")).count(), 2 - usize::from(name == "podman"), "{text}");
    }
    for line in [
        "| floor |",
        "| by hand: devices, DNAT |",
        "| by hand: bridge, devices, DNAT |",
        "The name server has ",
        "| `bundle run -d --network many -p PORT:80` |",
        "All of them and their network removed: ",
        "| `bundle create --network large` |",
    ] {
        assert!(text.contains(line), "{line} is missing in:\n{text}");
    }
}

/// The same compose files through `bundle compose` and docker-compose; what the times are never fails a test.
#[test]
fn compose_beside_docker_compose() {
    let text = suite("integration/engines/compose", &[&rt(), "--rounds", "1"]);
    let last = text.lines().last().unwrap_or_default();
    assert!(last.starts_with("compose: ") && last.ends_with(" 0 failed"), "{text}");
}

/// 300 containers one after another and 50 at once leave nothing behind.
#[test]
fn many_containers() {
    for name in ["containerd", "docker"] {
        let text = suite("integration/engines/many", &[name, &rt()]);
        assert!(text.ends_with("many: 3 passed, 0 failed\n"), "{text}");
    }
}

/// The configurations that ship are what engines load.
#[test]
fn engine_configurations() {
    let text = suite("contrib/engines/check", &[]);
    assert!(text.ends_with("engines: all configurations are good\n"), "{text}");
}

/// The Debian package installs, runs a container and goes without a trace, in the guest.
#[test]
fn debian_package() {
    let text = suite("integration/package", &[]);
    assert!(text.contains("ran in a container") && text.contains("Hello from a container"), "{text}");
    assert!(text.contains("package: the profile forbids what it should"), "{text}");
    assert!(text.contains("package: installed, ran and removed"), "{text}");
}

/// The guest keeps what its README says: statuses, arguments, users, time limits, nothing left.
#[test]
fn guest() {
    let text = suite("integration/guest/selftest", &[]);
    assert!(text.contains("ok 1 ") && !text.contains("not ok"), "{text}");
}

/// What ships is one static file, small, with what the usual commands execute side by side (`src/rt/order.ld`).
#[test]
fn the_binary() {
    let path = std::env::var("RT_BINARY").unwrap_or_else(|_| suite("contrib/build", &[]).trim().to_owned());
    let size = std::fs::metadata(&path).unwrap().len();
    assert!(size <= 2_500_000, "{size} bytes");
    let output = Command::new("readelf").args(["-lSW", &path]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains(".text") && !text.contains("INTERP") && !text.contains("DYNAMIC"), "{text}");
    let sysroot = Command::new("rustc").args(["--print", "sysroot"]).output().unwrap().stdout;
    let targets = format!("{}/lib/rustlib", String::from_utf8_lossy(&sysroot).trim());
    let is_musl =
        std::fs::read_dir(targets).unwrap().flatten().any(|it| it.file_name().to_string_lossy().ends_with("-musl"));
    // Names that have gone with another compiler would leave it empty: then integration/bench/order is to be run.
    let used = text
        .lines()
        .find_map(|line| line.split_once(" .text.used "))
        .map_or(0, |(_, rest)| usize::from_str_radix(rest.split_whitespace().nth(3).unwrap(), 16).unwrap());
    assert_eq!(used > 300 << 10, is_musl, "{used} bytes of functions in their order");
}

/// The benchmark works and shows all contenders; what it measures never fails a test.
#[test]
fn benchmark() {
    let out = std::env::temp_dir().join(format!("rt-bench-{}", std::process::id()));
    let out_dir = out.to_str().unwrap();
    let text = suite(
        "integration/bench/bench",
        &["--rt", &rt(), "--rounds", "5", "--containers", "10", "--others", "10", "--in-all", "16", "--out", out_dir],
    );
    for contender in [
        "| floor |",
        "| rt |",
        "| crun |",
        "| runc |",
        "**exec**",
        "**state**",
        "**kill**",
        "**delete**",
        "**list of 10**",
        "**run as Docker has it**",
        "**containers a second**",
        "| with 10 others alive |",
        "| smallest `memory.limit` |",
        "| system calls of a run |",
        "| 64 ranges of ids |",
    ] {
        assert!(text.contains(contender), "{contender} is missing in:\n{text}");
    }
    for file in ["table.md", "results.json", "bench.svg"] {
        assert!(out.join(file).exists(), "{file}");
    }
    std::fs::remove_dir_all(out).unwrap();
}

/// The README's first command ends with a container that ran.
#[test]
fn try_out() {
    let text = suite("contrib/try", &[]);
    assert!(text.contains("hello from rt"), "{text}");
    assert!(text.contains("\"status\": \"running\""), "{text}");
    assert!(text.contains("Hello from a container"), "{text}");
}
