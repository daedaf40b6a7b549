//! Files and helpers as Docker and Podman leave them.

use std::os::unix::fs::PermissionsExt;

use super::*;

/// A directory that is removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("rt-bundle-credentials-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

fn basic(user: &str, password: &str) -> Credential {
    Credential::Basic { user: user.into(), password: password.into() }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn what_login_keeps_is_found_and_forgotten() {
    let scratch = Scratch::new("login");
    let file = scratch.0.join("new/config.json");
    let all = Credentials::in_file(file.clone());
    assert_eq!(all.of("h.x:5000", None).unwrap(), None);
    assert!(!all.logout("h.x:5000").unwrap());
    assert_eq!(all.login("h.x:5000", &basic("u", "p:q")).unwrap(), Kept::File(file.clone()));
    all.login("docker.io", &Credential::IdentityToken("t".into())).unwrap();
    assert_eq!(mode(&file), 0o600);
    assert_eq!(all.of("h.x:5000", Some("a/b")).unwrap(), Some(basic("u", "p:q")));
    assert_eq!(all.of("index.docker.io", None).unwrap(), Some(Credential::IdentityToken("t".into())));
    assert!(fs::read_to_string(&file).unwrap().contains("\"https://index.docker.io/v1/\""));
    assert!(all.logout("docker.io").unwrap());
    assert_eq!(all.of("docker.io", None).unwrap(), None);
    assert!(all.of("h.x:5000", None).unwrap().is_some());
    assert_eq!(fs::read_dir(file.parent().unwrap()).unwrap().count(), 1, "a temporary file stayed");
}

#[test]
fn other_fields_stay_and_the_mode_gets_no_wider() {
    let scratch = Scratch::new("fields");
    let file = scratch
        .file("config.json", r#"{"HttpHeaders":{"X":"y"},"auths":{"https://h.x/v2/":{},"i.x":{"auth":"dTpw"}}}"#);
    for (before, after) in [(0o644, 0o600), (0o400, 0o400)] {
        fs::set_permissions(&file, fs::Permissions::from_mode(before)).unwrap();
        Credentials::in_file(file.clone()).login("h.x", &basic("a", "b")).unwrap();
        assert_eq!(mode(&file), after);
    }
    let whole: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    assert_eq!(whole["HttpHeaders"]["X"], "y");
    assert_eq!(whole["auths"]["i.x"]["auth"], "dTpw");
    assert_eq!(whole["auths"].as_object().unwrap().len(), 2, "the old key of the same host is replaced");
    let link = scratch.0.join("link.json");
    std::os::unix::fs::symlink(&file, &link).unwrap();
    Credentials::in_file(link.clone()).login("j.x", &basic("a", "b")).unwrap();
    assert!(link.is_symlink() && Credentials::in_file(file).of("j.x", None).unwrap().is_some());
}

#[test]
fn entries_of_every_age_are_understood() {
    let scratch = Scratch::new("entries");
    let file = scratch.file(
        "auth.json",
        r#"{"auths":{
            "https://index.docker.io/v1/":{"auth":"dTpw"},
            "a.x":{"username":"u","password":"p"},
            "b.x":{"identitytoken":"i","auth":"dTo="},
            "c.x":{"registrytoken":"r"},
            "d.x":{},
            "e.x":{"auth":"dTpw"},
            "e.x/one":{"auth":"dTpvbmU="},
            "e.x/one/two":{"auth":"dTp0d28="}
        }}"#,
    );
    let all = Credentials::in_file(file);
    let of = |registry: &str, repository: &str| all.of(registry, Some(repository)).unwrap();
    assert_eq!(of("docker.io", "library/x"), Some(basic("u", "p")));
    assert_eq!(of("a.x", "y"), Some(basic("u", "p")));
    assert_eq!(of("b.x", "y"), Some(Credential::IdentityToken("i".into())));
    assert_eq!(of("c.x", "y"), Some(Credential::RegistryToken("r".into())));
    assert_eq!(of("d.x", "y"), None);
    assert_eq!(of("e.x", "y"), Some(basic("u", "p")));
    assert_eq!(of("e.x", "one"), Some(basic("u", "one")));
    assert_eq!(of("e.x", "one/two/three"), Some(basic("u", "two")));
    assert_eq!(of("e.x", "onemore"), Some(basic("u", "p")));
    assert_eq!(of("unknown.x", "y"), None);
}

#[test]
fn broken_files_are_told_without_their_secrets() {
    let scratch = Scratch::new("broken");
    for (at, text) in [
        r#"{"auths":{"h.x":{"auth":"c2VjcmV0"}}}"#,
        r#"{"auths":{"h.x":{"auth":"secret!"}}}"#,
        r#"{"auths":{"h.x":{"auth":["secret"]}}}"#,
        r#"{"auths":{"h.x":"secret"}}"#,
        r#"{"auths":"secret"}"#,
        r#"{"auths":{"h.x":{"password":"secret"}"#,
        r#"["secret"]"#,
        "secret",
    ]
    .iter()
    .enumerate()
    {
        let file = scratch.file(&format!("{at}.json"), text);
        let error = format!("{:#}", Credentials::in_file(file.clone()).of("h.x", None).unwrap_err());
        assert!(error.contains(file.to_str().unwrap()) && !error.contains("secret"), "{text}: {error}");
    }
    assert_eq!(Credentials::in_file(scratch.file("empty.json", " \n")).of("h.x", None).unwrap(), None);
    assert!(!format!("{:?} {:?}", basic("u", "secret"), Credential::RegistryToken("secret".into())).contains("secret"));
}

/// A helper that keeps what it is told in files beside itself.
const HELPER: &str = r#"#!/bin/sh
PATH=/usr/bin:/bin
here=$(dirname "$0")
case $1 in
store) cat > "$here/kept" ;;
get) read -r url
    echo "$url" > "$here/asked"
    [ -f "$here/kept" ] || { echo "credentials not found in native keychain"; exit 1; }
    cat "$here/kept" ;;
erase) rm "$here/kept" ;;
esac
"#;

fn helper(scratch: &Scratch, name: &str, text: &str) {
    let path = scratch.file(&format!("docker-credential-{name}"), text);
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn helpers_keep_give_and_forget() {
    let scratch = Scratch::new("helpers");
    helper(&scratch, "ours", HELPER);
    let file =
        scratch.file("config.json", r#"{"credsStore":"none","credHelpers":{"https://index.docker.io/v1/":"ours"}}"#);
    let all = Credentials::in_file(file.clone()).with_helpers(scratch.0.clone().into(), Duration::from_secs(10));
    assert_eq!(all.of("docker.io", None).unwrap(), None);
    assert_eq!(all.login("docker.io", &basic("u", "p")).unwrap(), Kept::Helper("ours".into()));
    assert_eq!(all.of("docker.io", None).unwrap(), Some(basic("u", "p")));
    assert_eq!(fs::read_to_string(scratch.0.join("asked")).unwrap(), format!("{HUB_KEY}\n"));
    assert!(!fs::read_to_string(&file).unwrap().contains("auths"));
    assert!(all.logout("docker.io").unwrap());
    assert!(!all.logout("docker.io").unwrap());
    let error = format!("{:#}", all.of("h.x", None).unwrap_err());
    assert!(error.contains("docker-credential-none") && error.contains("install it"), "{error}");
}

#[test]
fn helpers_that_fail_are_told_and_ended() {
    let scratch = Scratch::new("failing");
    let of = |text: &str, script: &str| {
        helper(&scratch, "bad", script);
        let file = scratch.file("config.json", text);
        let all = Credentials::in_file(file).with_helpers(scratch.0.clone().into(), Duration::from_millis(500));
        let begun = Instant::now();
        let error = format!("{:#}", all.of("h.x", None).unwrap_err());
        assert!(begun.elapsed() < Duration::from_secs(5), "{script}");
        error
    };
    let store = r#"{"credsStore":"bad"}"#;
    assert!(of(store, "#!/bin/sh\nexec /bin/sleep 60\n").contains("no answer within"));
    assert!(of(store, "#!/bin/sh\n/bin/sleep 3 &\n").contains("no answer within"), "a child keeps its output open");
    assert!(of(store, "#!/bin/sh\necho 'keyring \u{1b}[2J locked'; exit 2\n").contains("keyring \\u{1b}[2J locked"));
    let error = of(store, "#!/bin/sh\necho '{\"Secret\":\"hidden\"}'\n");
    assert!(error.contains("not understood") && !error.contains("hidden"), "{error}");
    assert!(of(store, "#!/bin/sh\nexec /usr/bin/head -c 2000000 /dev/zero\n").contains("too long"));
    assert!(of(r#"{"credsStore":"../../bin/sh"}"#, "").contains("no name of a helper"));
    assert!(of(r#"{"credHelpers":{"h.x":"a b"}}"#, "").contains("no name of a helper"));
}

#[test]
fn files_are_found_by_the_environment() {
    let with = |set: &[(&str, &str)]| {
        let set: std::collections::HashMap<String, OsString> =
            set.iter().map(|(k, v)| ((*k).into(), v.into())).collect();
        Credentials::usual(|name| set.get(name).cloned())
    };
    let found = with(&[("HOME", "/h"), ("XDG_RUNTIME_DIR", "/run/u")]).unwrap();
    assert_eq!(found.file, Path::new("/h/.docker/config.json"));
    assert_eq!(found.others, [Path::new("/run/u/containers/auth.json"), Path::new("/h/.config/containers/auth.json")]);
    assert_eq!(with(&[("HOME", "/h"), ("DOCKER_CONFIG", "/d")]).unwrap().file, Path::new("/d/config.json"));
    let alone = with(&[("HOME", "/h"), ("DOCKER_CONFIG", "/d"), ("REGISTRY_AUTH_FILE", "/a.json")]).unwrap();
    assert_eq!((alone.file.as_path(), alone.others.len()), (Path::new("/a.json"), 0));
    assert!(with(&[("HOME", "")]).is_none());
}
