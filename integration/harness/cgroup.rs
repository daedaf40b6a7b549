//! Where a container's cgroup is, on whatever layout the tests run.

use std::fs;
use std::path::{Path, PathBuf};

/// Whether this machine has its controllers on cgroup v2.
pub fn is_v2() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

/// Whether containers' limits can use a controller here (v1's name of it).
pub fn has(controller: &str) -> bool {
    let v2_name = if controller == "blkio" { "io" } else { controller };
    let v2 = ["/sys/fs/cgroup/cgroup.controllers", "/sys/fs/cgroup/unified/cgroup.controllers"];
    let v2 = v2
        .iter()
        .any(|path| fs::read_to_string(path).is_ok_and(|text| text.split_whitespace().any(|known| known == v2_name)));
    v2 || mount_of(controller).is_some()
}

/// Where v1 has a controller mounted.
pub fn mount_of(controller: &str) -> Option<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    table.lines().filter(|line| line.contains(" - cgroup ")).find_map(|line| {
        let options = line.rsplit(' ').next()?;
        let is_it = options.split(',').any(|option| option == controller);
        is_it.then(|| PathBuf::from(line.split(' ').nth(4).unwrap()))
    })
}

/// The cgroup directory of a process for a controller.
pub fn dir_of(pid: i64, controller: &str) -> PathBuf {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let path = |wanted: &str| {
        text.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let (controllers, path) = (fields.next()?, fields.next()?);
            controllers.split(',').any(|known| known == wanted).then(|| path.trim_start_matches('/').to_owned())
        })
    };
    if let (Some(mount), Some(path)) = (mount_of(controller), path(controller)) {
        return mount.join(path);
    }
    let mount = if is_v2() { "/sys/fs/cgroup" } else { "/sys/fs/cgroup/unified" };
    Path::new(mount).join(path("").unwrap())
}

/// The contents of a control file of a process's cgroup: `(controller, v1's name, v2's name)`.
pub fn read(pid: i64, (controller, v1, v2): (&str, &str, &str)) -> String {
    let file = if mount_of(controller).is_some() { v1 } else { v2 };
    let path = dir_of(pid, controller).join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).trim().to_owned()
}
