//! CRIU's messages (its images/rpc.proto), as far as they are used. Field numbers are the protocol.

use prost::Message;

/// What a request, an answer or a notification is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub enum Kind {
    /// Nothing.
    Empty = 0,
    /// Write the processes to files.
    Dump = 1,
    /// Make them again.
    Restore = 2,
    /// Write their memory, and let them run on.
    PreDump = 4,
    /// CRIU has come to a point that we may want to know of.
    Notify = 6,
    /// What this CRIU and this kernel can do.
    FeatureCheck = 9,
}

/// How cgroups are restored (criu(8), `--manage-cgroups`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub enum CgroupMode {
    /// Not at all, and none is written down.
    Ignore = 0,
    /// Processes go to the cgroups, whose settings stay.
    None = 1,
    /// Settings are restored where the cgroup is there.
    Props = 2,
    /// Settings are restored in cgroups that CRIU makes.
    Soft = 3,
    /// Cgroups and settings are restored.
    Full = 4,
    /// The same, and none may be there before.
    Strict = 5,
    /// What CRIU takes for best.
    Default = 6,
}

/// A server that memory is sent to.
#[derive(Clone, PartialEq, Message)]
pub struct PageServer {
    /// Host name or address.
    #[prost(string, optional, tag = "1")]
    pub address: Option<String>,
    /// Port.
    #[prost(int32, optional, tag = "2")]
    pub port: Option<i32>,
}

/// A mount that is not in the images: at dump from mount point to name, at restore from name to path.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ExternalMount {
    #[allow(missing_docs)]
    #[prost(string, required, tag = "1")]
    pub key: String,
    #[allow(missing_docs)]
    #[prost(string, required, tag = "2")]
    pub val: String,
}

/// A namespace to enter.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct JoinNamespace {
    /// `ipc`, `mnt`, …
    #[prost(string, required, tag = "1")]
    pub ns: String,
    /// Namespace file.
    #[prost(string, required, tag = "2")]
    pub ns_file: String,
}

/// A descriptor of the worker's that takes the place of something named in the images.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct InheritFd {
    /// What: `pipe:[…]`, or the name of something external.
    #[prost(string, required, tag = "1")]
    pub key: String,
    /// The number in the worker.
    #[prost(int32, required, tag = "2")]
    pub fd: i32,
}

/// Where the root of a hierarchy's cgroups is to be.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct CgroupRoot {
    /// Controllers, as in /proc/PID/cgroup.
    #[prost(string, optional, tag = "1")]
    pub ctrl: Option<String>,
    /// Path below the hierarchy's root.
    #[prost(string, required, tag = "2")]
    pub path: String,
}

/// Everything that can be asked for. Descriptors are those of the process that made the socket.
#[derive(Clone, PartialEq, Message)]
#[allow(missing_docs)]
pub struct Options {
    #[prost(int32, required, tag = "1")]
    pub images_dir_fd: i32,
    #[prost(int32, optional, tag = "2")]
    pub pid: Option<i32>,
    #[prost(bool, optional, tag = "3")]
    pub leave_running: Option<bool>,
    #[prost(bool, optional, tag = "4")]
    pub ext_unix_sk: Option<bool>,
    #[prost(bool, optional, tag = "5")]
    pub tcp_established: Option<bool>,
    #[prost(bool, optional, tag = "6")]
    pub evasive_devices: Option<bool>,
    #[prost(bool, optional, tag = "7")]
    pub shell_job: Option<bool>,
    #[prost(bool, optional, tag = "8")]
    pub file_locks: Option<bool>,
    #[prost(int32, optional, tag = "9")]
    pub log_level: Option<i32>,
    #[prost(string, optional, tag = "10")]
    pub log_file: Option<String>,
    #[prost(message, optional, tag = "11")]
    pub ps: Option<PageServer>,
    #[prost(bool, optional, tag = "12")]
    pub notify_scripts: Option<bool>,
    #[prost(string, optional, tag = "13")]
    pub root: Option<String>,
    #[prost(string, optional, tag = "14")]
    pub parent_img: Option<String>,
    #[prost(bool, optional, tag = "15")]
    pub track_mem: Option<bool>,
    #[prost(bool, optional, tag = "16")]
    pub auto_dedup: Option<bool>,
    #[prost(int32, optional, tag = "17")]
    pub work_dir_fd: Option<i32>,
    #[prost(bool, optional, tag = "18")]
    pub link_remap: Option<bool>,
    #[prost(message, repeated, tag = "23")]
    pub ext_mnt: Vec<ExternalMount>,
    #[prost(bool, optional, tag = "24")]
    pub manage_cgroups: Option<bool>,
    #[prost(message, repeated, tag = "25")]
    pub cg_root: Vec<CgroupRoot>,
    #[prost(bool, optional, tag = "26")]
    pub rst_sibling: Option<bool>,
    #[prost(message, repeated, tag = "27")]
    pub inherit_fd: Vec<InheritFd>,
    #[prost(enumeration = "CgroupMode", optional, tag = "34")]
    pub manage_cgroups_mode: Option<i32>,
    #[prost(string, repeated, tag = "37")]
    pub external: Vec<String>,
    #[prost(uint32, optional, tag = "38")]
    pub empty_ns: Option<u32>,
    #[prost(message, repeated, tag = "39")]
    pub join_ns: Vec<JoinNamespace>,
    #[prost(string, optional, tag = "44")]
    pub freeze_cgroup: Option<String>,
    #[prost(bool, optional, tag = "46")]
    pub tcp_skip_in_flight: Option<bool>,
    #[prost(bool, optional, tag = "48")]
    pub lazy_pages: Option<bool>,
    #[prost(bool, optional, tag = "50")]
    pub orphan_pts_master: Option<bool>,
    #[prost(string, optional, tag = "51")]
    pub config_file: Option<String>,
    #[prost(string, optional, tag = "53")]
    pub lsm_profile: Option<String>,
    #[prost(string, optional, tag = "63")]
    pub lsm_mount_context: Option<String>,
}

/// What CRIU can do here.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Features {
    /// Tell which pages have changed (the kernel's soft-dirty bit): for `--pre-dump`.
    #[prost(bool, optional, tag = "1")]
    pub mem_track: Option<bool>,
    /// Fetch pages when they are needed (userfaultfd(2)).
    #[prost(bool, optional, tag = "2")]
    pub lazy_pages: Option<bool>,
}

/// What we say.
#[derive(Clone, PartialEq, Message)]
pub struct Request {
    #[allow(missing_docs)]
    #[prost(enumeration = "Kind", required, tag = "1")]
    pub kind: i32,
    #[allow(missing_docs)]
    #[prost(message, optional, tag = "2")]
    pub opts: Option<Options>,
    /// The answer to a notification.
    #[prost(bool, optional, tag = "3")]
    pub notify_success: Option<bool>,
    /// Those asked about.
    #[prost(message, optional, tag = "5")]
    pub features: Option<Features>,
}

/// Who was restored.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Restored {
    #[allow(missing_docs)]
    #[prost(int32, required, tag = "1")]
    pub pid: i32,
}

/// Where CRIU is.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Notification {
    /// The name of the point (criu.org/Action_scripts).
    #[prost(string, optional, tag = "1")]
    pub script: Option<String>,
    /// The container's init, where there is one.
    #[prost(int32, optional, tag = "2")]
    pub pid: Option<i32>,
}

/// What CRIU says.
#[derive(Clone, PartialEq, Message)]
pub struct Response {
    #[allow(missing_docs)]
    #[prost(enumeration = "Kind", required, tag = "1")]
    pub kind: i32,
    #[allow(missing_docs)]
    #[prost(bool, required, tag = "2")]
    pub success: bool,
    #[allow(missing_docs)]
    #[prost(message, optional, tag = "4")]
    pub restore: Option<Restored>,
    #[allow(missing_docs)]
    #[prost(message, optional, tag = "5")]
    pub notify: Option<Notification>,
    /// errno(3) of a failure.
    #[prost(int32, optional, tag = "7")]
    pub errno: Option<i32>,
    #[allow(missing_docs)]
    #[prost(message, optional, tag = "8")]
    pub features: Option<Features>,
    /// A failure in words.
    #[prost(string, optional, tag = "9")]
    pub message: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes as Google's own encoder writes them (proto2: a field that is set is sent, zero or not).
    #[test]
    fn requests_are_encoded_as_the_protocol_has_it() {
        let opts = Options {
            images_dir_fd: 5,
            leave_running: Some(false),
            ext_mnt: vec![ExternalMount { key: "/a".into(), val: "b".into() }],
            manage_cgroups_mode: Some(CgroupMode::Ignore as i32),
            ..Options::default()
        };
        let request = Request { kind: Kind::Dump as i32, opts: Some(opts), ..Request::default() };
        let bytes =
            [0x08, 1, 0x12, 17, 0x08, 5, 0x18, 0, 0xba, 0x01, 7, 0x0a, 2, b'/', b'a', 0x12, 1, b'b', 0x90, 0x02, 0];
        assert_eq!(request.encode_to_vec(), bytes);
    }

    #[test]
    fn answers_with_unknown_fields_are_understood() {
        // type 6, success, notify {script "x", pid 300}, and a field of number 100.
        let bytes = [0x08, 6, 0x10, 1, 0x2a, 6, 0x0a, 1, b'x', 0x10, 0xac, 0x02, 0xa0, 0x06, 7];
        let response = Response::decode(&bytes[..]).unwrap();
        assert_eq!(response.kind, Kind::Notify as i32);
        assert_eq!(response.notify.unwrap(), Notification { script: Some("x".into()), pid: Some(300) });
        assert!(Response::decode(&[0x08][..]).is_err());
    }
}
