//! docker-registry: plain, with TLS, with passwords.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use super::super::{Credential, Credentials};
use super::faults::{Request, Response, Upstream, start};
use super::*;

#[test]
fn what_was_pushed_is_pulled_listed_mounted_and_deleted() {
    let registry = Registry::start();
    let client = plain();
    let tagged = name(&registry.host, "a/b:v1");
    let bytes = noise(300_000);
    let (digest, layer) = push(&client, &tagged, &bytes);

    let fetched = client.manifest(&tagged).unwrap();
    assert_eq!((fetched.digest.clone(), fetched.media_type.as_deref()), (digest.clone(), Some(oci::MANIFEST)));
    let by_digest = name(&registry.host, &format!("a/b@{digest}"));
    assert_eq!(client.manifest(&by_digest).unwrap().bytes, fetched.bytes);
    assert_eq!(fetch(&client, &tagged, &layer, 0).unwrap(), bytes);
    assert_eq!(fetch(&client, &tagged, &layer, 299_990).unwrap(), bytes[299_990..]);
    assert_eq!(fetch(&client, &tagged, &layer, 300_000).unwrap(), b"");
    assert_eq!(failure(fetch(&client, &tagged, &layer, 300_001)).0, Kind::Garbage);

    let other = name(&registry.host, "c:latest");
    assert!(!client.has_blob(&other, &layer).unwrap());
    assert!(client.mount_blob(&other, &layer, "a/b").unwrap());
    assert!(client.has_blob(&other, &layer).unwrap());
    assert!(!client.has_blob(&other, &Descriptor { size: 1, ..layer.clone() }).unwrap());
    let unknown = Descriptor::of(oci::LAYER, b"unknown");
    assert!(!client.mount_blob(&other, &unknown, "a/b").unwrap());
    let uploads = registry.scratch.0.join("data/docker/registry/v2/repositories/c/_uploads");
    let begun: Vec<_> = std::fs::read_dir(uploads).unwrap().map(|it| it.unwrap().path()).collect();
    assert!(!begun.is_empty(), "the registry began an upload in place of the mount");
    assert!(begun.iter().all(|it| !it.join("startedat").exists()), "it was cancelled");

    for tag in ["v2", "v3"] {
        client.put_manifest(&name(&registry.host, &format!("a/b:{tag}")), oci::MANIFEST, &fetched.bytes).unwrap();
    }
    assert_eq!(client.tags(&tagged).unwrap(), ["v1", "v2", "v3"]);
    let found = client.search(&registry.host, "A/", 10).unwrap();
    assert_eq!(found.iter().map(|it| it.name.as_str()).collect::<Vec<_>>(), ["a/b"]);

    let (kind, told) = failure(client.manifest(&name(&registry.host, "a/b:v4")));
    assert_eq!(kind, Kind::NotFound);
    assert!(told.contains("a/b:v4") && told.contains("MANIFEST_UNKNOWN") && told.contains("check the name"), "{told}");
    assert_eq!(failure(client.tags(&name(&registry.host, "none"))).0, Kind::NotFound);
}

#[test]
fn blobs_go_up_in_one_piece_or_in_many() {
    let registry = Registry::start();
    let reference = name(&registry.host, "a");
    for (chunk, size) in
        [(None, 0), (None, 1), (None, 3_000_000), (Some(100_000), 1_050_000), (Some(1), 3), (Some(500_000), 500_000)]
    {
        let settings = Settings { verify: Some(false), limits: Limits { chunk, ..limits() }, ..Settings::default() };
        let client = Client::new(settings);
        let bytes = noise(size);
        let descriptor = Descriptor::of(oci::LAYER, &bytes);
        let told = std::cell::RefCell::new(Vec::new());
        client.upload_blob(&reference, &descriptor, source(&bytes), &|at| told.borrow_mut().push(at)).unwrap();
        let told = told.into_inner();
        assert_eq!(told.last(), Some(&(size as u64)));
        assert!(told.is_sorted() && told.len() > size / 200_000, "{told:?}");
        assert!(fetch(&client, &reference, &descriptor, 0).unwrap() == bytes, "{chunk:?} {size}");
    }
}

#[test]
fn a_source_that_fails_or_lies_is_told() {
    let registry = Registry::start();
    let reference = name(&registry.host, "a");
    let descriptor = Descriptor::of(oci::LAYER, &noise(1000));
    let client = plain();
    let try_with = |source: &dyn Fn(u64) -> anyhow::Result<Box<dyn Read>>| {
        failure(client.upload_blob(&reference, &descriptor, source, &|_| ()))
    };
    let (kind, told) = try_with(&|_| anyhow::bail!("the file is gone"));
    assert!(kind == Kind::Source && told.contains("the file is gone"), "{told}");
    let (kind, told) = try_with(&|_| Ok(Box::new(&[0; 10][..])));
    assert!(kind == Kind::Source && told.contains("990 bytes too early"), "{told}");
    let (_, told) = try_with(&|_| Ok(Box::new(&[0; 2000][..])));
    assert!(told.contains("DIGEST_INVALID"), "other bytes than the descriptor's: {told}");
    assert!(!client.has_blob(&reference, &descriptor).unwrap());
}

/// An authority and a certificate of it for 127.0.0.1, in PEM: authority, certificate, key.
fn certificates() -> (String, String, String) {
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &authority).unwrap();
    (authority.pem(), certificate.pem(), key.serialize_pem())
}

#[test]
fn tls_is_believed_by_the_configured_authority_only() {
    let files = Scratch::new();
    let (authority, certificate, key) = certificates();
    for (name, text) in [("ca.crt", &authority), ("server.crt", &certificate), ("server.key", &key)] {
        std::fs::write(files.0.join(name), text).unwrap();
    }
    let at = files.0.display();
    let registry = Registry::with(&format!("  tls:\n    certificate: {at}/server.crt\n    key: {at}/server.key\n"), "");
    let host = &registry.host;
    let reference = name(host, "a:b");

    let (kind, told) = failure(configured("").check(host, None));
    assert_eq!(kind, Kind::Tls);
    assert!(told.contains(&format!("certs.d/{host}/ca.crt")) && told.contains("registries.toml"), "{told}");
    let client = configured(&format!("[registry.{host:?}]\nca = \"{at}/ca.crt\""));
    push(&client, &reference, b"layer");
    configured(&format!("[registry.{host:?}]\ninsecure = true")).manifest(&reference).unwrap();
    plain().manifest(&reference).unwrap();

    let by_name = format!("localhost:{}", registry.address().port());
    let client = configured(&format!("[registry.{by_name:?}]\nca = \"{at}/ca.crt\""));
    let (kind, told) = failure(client.check(&by_name, None));
    assert!(kind == Kind::Tls && told.contains("for another name"), "{told}");

    let directory = files.0.join("certs.d").join(host);
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::copy(files.0.join("ca.crt"), directory.join("own.crt")).unwrap();
    let registries = Registries::load(&[], vec![files.0.join("certs.d")]).unwrap();
    let client = Client::new(Settings { registries, limits: limits(), ..Settings::default() });
    client.manifest(&reference).unwrap();
}

#[test]
fn a_client_certificate_is_shown_where_it_is_asked_for() {
    let files = Scratch::new();
    let (authority, certificate, key) = certificates();
    for (name, text) in [("ca.crt", &authority), ("server.crt", &certificate), ("server.key", &key)] {
        std::fs::write(files.0.join(name), text).unwrap();
    }
    let at = files.0.display();
    let registry = Registry::with(
        &format!(
            "  tls:\n    certificate: {at}/server.crt\n    key: {at}/server.key\n    clientcas:\n      - {at}/ca.crt\n"
        ),
        "",
    );
    let directory = files.0.join("certs.d").join(&registry.host);
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("ca.crt"), &authority).unwrap();
    let ask = || {
        let registries = Registries::load(&[], vec![files.0.join("certs.d")]).unwrap();
        Client::new(Settings { registries, limits: limits(), ..Settings::default() }).check(&registry.host, None)
    };
    let (kind, told) = failure(ask());
    assert!(kind == Kind::Tls && told.contains("client.cert"), "{told}");
    std::fs::write(directory.join("client.cert"), &certificate).unwrap();
    assert!(failure(ask()).1.contains("client.key is missing"));
    std::fs::write(directory.join("client.key"), KeyPair::generate().unwrap().serialize_pem()).unwrap();
    let (_, told) = failure(ask());
    assert!(told.contains("client.cert with key"), "a key of another certificate: {told}");
    std::fs::write(directory.join("client.key"), &key).unwrap();
    ask().unwrap();
}

#[test]
fn nothing_goes_from_https_to_plain_http() {
    let files = Scratch::new();
    let (authority, certificate, key) = certificates();
    for (name, text) in [("ca.crt", &authority), ("server.crt", &certificate), ("server.key", &key)] {
        std::fs::write(files.0.join(name), text).unwrap();
    }
    let at = files.0.display();
    let tls = format!("  tls:\n    certificate: {at}/server.crt\n    key: {at}/server.key\n");
    let answer = |_: &Request| Response::new(200, &[], r#"{"token":"x"}"#);
    let listener = start("127.0.0.1:0", Upstream::Made(std::sync::Arc::new(answer)), vec![]).unwrap();
    let open = listener.host();
    let client = |host: &str| {
        let credentials = Credentials::in_file(files.0.join("config.json"));
        credentials.login(host, &Credential::Basic { user: "user".into(), password: "secret".into() }).unwrap();
        let file = files.0.join("registries.toml");
        std::fs::write(&file, format!("[registry.{host:?}]\nca = \"{at}/ca.crt\"")).unwrap();
        let registries = Registries::load(&[file], Vec::new()).unwrap();
        let credentials = Some(credentials);
        Client::new(Settings { registries, limits: limits(), credentials, ..Settings::default() })
    };

    // A token server without TLS for a registry with it.
    let token = format!(
        "auth:\n  token:\n    realm: http://{open}/token\n    service: s\n    issuer: i\n    rootcertbundle: {at}/ca.crt"
    );
    let registry = Registry::with(&tls, &token);
    let (kind, told) = failure(client(&registry.host).check(&registry.host, None));
    assert!(kind == Kind::Garbage && told.contains("plain http") && told.contains("token server"), "{told}");

    // Blobs that are elsewhere, without TLS.
    let redirect =
        format!("middleware:\n  storage:\n    - name: redirect\n      options:\n        baseurl: http://{open}/blobs/");
    let registry = Registry::with(&tls, &redirect);
    let client = client(&registry.host);
    let reference = name(&registry.host, "a:b");
    let descriptor = upload(&client, &reference, b"layer").unwrap();
    let (kind, told) = failure(fetch(&client, &reference, &descriptor, 0));
    assert!(kind == Kind::Garbage && told.contains("from https to plain http"), "{told}");

    assert!(listener.seen().is_empty(), "{:?}", listener.seen());
}

#[test]
fn an_index_is_asked_for_and_comes_as_one() {
    let registry = Registry::start();
    let client = plain();
    let reference = name(&registry.host, "a:all");
    let (one, _) = push(&client, &name(&registry.host, "a:one"), b"layer");
    let size = client.manifest(&name(&registry.host, "a:one")).unwrap().bytes.len();
    for media_type in [oci::INDEX, crate::image::manifest::docker::INDEX] {
        let manifests = [serde_json::json!({
            "mediaType": oci::MANIFEST, "digest": one, "size": size, "platform": {"os": "linux", "architecture": "amd64"}
        })];
        let index = serde_json::json!({"schemaVersion": 2, "mediaType": media_type, "manifests": manifests});
        let bytes = serde_json::to_vec(&index).unwrap();
        client.put_manifest(&reference, media_type, &bytes).unwrap();
        let fetched = client.manifest(&reference).unwrap();
        assert_eq!((fetched.media_type.as_deref(), fetched.bytes), (Some(media_type), bytes));
    }
}

#[test]
fn plain_http_is_spoken_only_when_asked_for() {
    let registry = Registry::start();
    let host = &registry.host;
    let (kind, told) = failure(configured("").check(host, None));
    assert_eq!(kind, Kind::NoTls);
    assert!(
        told.contains("--tls-verify=false") && told.contains(&format!("insecure = true under [registry.{host:?}]")),
        "{told}"
    );
    configured(&format!("[registry.{host:?}]\ninsecure = true")).check(host, None).unwrap();
    configured(&format!("[registry.\"r.example\"]\nlocation = \"http://{host}\"")).check("r.example", None).unwrap();
}

#[test]
fn passwords_open_what_they_are_for() {
    let files = Scratch::new();
    // bcrypt of "secret": docker-registry takes nothing else.
    let line = "user:$2b$04$TymRGrkq/QyZihzgJqX0UehymAWlO5KoLNYCmXAPGxTGMvktPAe16\n";
    std::fs::write(files.0.join("htpasswd"), line).unwrap();
    let at = files.0.display();
    let registry = Registry::with("", &format!("auth:\n  htpasswd:\n    realm: here\n    path: {at}/htpasswd"));
    let host = &registry.host;
    let reference = name(host, "a:b");
    let credentials = Credentials::in_file(files.0.join("config.json"));
    let client = || {
        let credentials = Some(credentials.clone());
        Client::new(Settings { verify: Some(false), limits: limits(), credentials, ..Settings::default() })
    };
    let (kind, told) = failure(client().manifest(&reference));
    assert!(kind == Kind::Unauthorized && told.contains(&format!("bundle login {host}")), "{told}");
    let with = |password: &str| Credential::Basic { user: "user".into(), password: password.into() };
    let (kind, told) = failure(client().check(host, Some(&with("wrong"))));
    assert!(
        kind == Kind::Unauthorized
            && told.ends_with("check the user name and the password (some registries want a token)"),
        "{told}"
    );
    client().check(host, Some(&with("secret"))).unwrap();
    credentials.login(host, &with("wrong secret")).unwrap();
    assert_eq!(failure(client().check(host, None)).0, Kind::Unauthorized);
    credentials.login(host, &with("secret")).unwrap();
    let client = client();
    let (digest, layer) = push(&client, &reference, b"layer");
    assert_eq!(client.manifest(&reference).unwrap().digest, digest);
    assert_eq!(fetch(&client, &reference, &layer, 0).unwrap(), b"layer");
    assert_eq!(failure(client.check(host, Some(&with("wrong")))).0, Kind::Unauthorized, "what is known does not help");
}

#[test]
fn a_registry_that_is_not_there_is_told_at_once() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for client in [plain(), configured("")] {
        let begun = std::time::Instant::now();
        let (kind, told) = failure(client.manifest(&name(&free.to_string(), "a")));
        assert!(kind == Kind::Unreachable && told.contains("connection refused"), "{told}");
        assert!(begun.elapsed() < Duration::from_secs(1));
    }
}

#[test]
fn a_registry_that_started_anew_is_found_again() {
    let mut registry = Registry::start();
    let client = plain();
    let reference = name(&registry.host, "a:b");
    let (digest, layer) = push(&client, &reference, &noise(1000));
    // The connections that are kept for later end with it.
    let file = registry.scratch.0.join("config.yml");
    let config = std::fs::read_to_string(&file).unwrap().replace("127.0.0.1:0", &registry.host);
    std::fs::write(&file, config).unwrap();
    registry.child.kill().unwrap();
    registry.child.wait().unwrap();
    assert_eq!(failure(client.manifest(&reference)).0, Kind::Unreachable);
    registry.run();
    assert_eq!(client.manifest(&reference).unwrap().digest, digest);
    assert_eq!(fetch(&client, &reference, &layer, 0).unwrap(), noise(1000));
}

#[test]
fn the_users_directory_is_read() {
    let directory = Scratch::new();
    let file = directory.0.join("registries.toml");
    std::fs::write(&file, "[registry.\"h.x\"]\ninsecure = true").unwrap();
    assert!(Settings::usual(Some(&directory.0), None).unwrap().registries.insecure("h.x"));
    std::fs::write(&file, "[registry.\"h.x\"]\nmirors = []").unwrap();
    let told = format!("{:#}", Settings::usual(Some(&directory.0), None).unwrap_err());
    assert!(told.contains("registries.toml:2: unknown field `mirors`"), "{told}");
}

#[test]
fn many_threads_share_one_client() {
    let registry = Registry::start();
    let client = plain();
    let reference = name(&registry.host, "a:b");
    let blobs: Vec<Vec<u8>> = (0..8).map(|it| noise(200_000 + it)).collect();
    std::thread::scope(|scope| {
        for bytes in &blobs {
            let (client, reference) = (client.clone(), &reference);
            scope.spawn(move || {
                let descriptor = upload(&client, reference, bytes).unwrap();
                assert!(fetch(&client, reference, &descriptor, 0).unwrap() == *bytes);
            });
        }
    });
}
