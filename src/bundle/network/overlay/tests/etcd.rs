//! The client, with a real etcd.

use std::path::Path;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use serde_json::json;

use super::super::Settings;
use super::super::etcd::{Client, If, Op};
use super::super::watch::{Change, Said, Watch};
use super::world::{Etcd, own_namespace, ready, settings, temporary};

const HERE: &str = "http://127.0.0.1:2379";

fn changes(watch: &mut Watch) -> (Vec<Change>, i64) {
    loop {
        match watch.next().unwrap() {
            Said::Begun(_) => {}
            Said::Changes(changes, revision) => return (changes, revision),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn keys_and_transactions() {
    own_namespace();
    let _etcd = Etcd::start(temporary("keys"), "http", &[]);
    // The first endpoint is never there.
    let endpoints = vec!["http://127.0.0.1:9".into(), format!("{HERE}/")];
    let client = Client::new(&Settings { endpoints, ..Settings::default() }).unwrap();
    ready(&client);
    let binary: Vec<u8> = (0..=255).collect();
    client.apply(&[Op::Put("/a/1", b"one", 0), Op::Put("/a/2", &binary, 0), Op::Put("/b", b"", 0)]).unwrap();
    assert_eq!(client.get("/a/2").unwrap().unwrap().value, binary);
    assert_eq!(client.get("/b").unwrap().unwrap().value, b"");
    assert_eq!(client.get("/c").unwrap(), None);
    let (pairs, revision) = client.range("/a/", false).unwrap();
    assert_eq!(pairs.iter().map(|it| it.key.as_str()).collect::<Vec<_>>(), ["/a/1", "/a/2"]);
    assert!(client.range("/a/", true).unwrap().0.iter().all(|it| it.value.is_empty()));
    // Only if it is missing, only if it is unchanged.
    let one = client.get("/a/1").unwrap().unwrap();
    let put = |hold: &[If]| client.transact(hold, &[Op::Put("/a/1", b"new", 0)], &[Op::Get("/a/1")]).unwrap();
    let outcome = put(&[If::Missing("/a/1")]);
    assert!(!outcome.held && outcome.pairs == [one.clone()]);
    assert!(put(&[If::Unchanged("/a/1", one.modified)]).held);
    assert!(!put(&[If::Unchanged("/a/1", one.modified)]).held);
    // More than one page.
    let keys: Vec<String> = (0..2500).map(|it| format!("/many/{it:05}")).collect();
    for some in keys.chunks(100) {
        client.apply(&some.iter().map(|it| Op::Put(it, b"x", 0)).collect::<Vec<_>>()).unwrap();
    }
    let (pairs, _) = client.range("/many/", true).unwrap();
    assert_eq!(pairs.into_iter().map(|it| it.key).collect::<Vec<_>>(), keys);
    // All of it from a point on.
    let mut watch = client.watch("/a/", revision + 1).unwrap();
    let (seen, at) = changes(&mut watch);
    assert!(matches!(&seen[..], [Change::Put(it)] if it.key == "/a/1" && it.value == b"new"), "{seen:?}");
    assert!(at > revision);
    client.apply(&[Op::DeleteAll("/a/"), Op::Delete("/b")]).unwrap();
    let (seen, _) = changes(&mut watch);
    let mut gone: Vec<_> = seen.iter().map(|it| matches!(it, Change::Deleted(_))).collect();
    gone.dedup();
    assert_eq!((seen.len(), gone), (2, vec![true]));
    assert_eq!(client.range("/b", true).unwrap().0, []);
    // A lease, kept and ended.
    let lease = client.grant(60).unwrap();
    client.apply(&[Op::Put("/l", b"x", lease)]).unwrap();
    assert!(client.keep(lease).unwrap());
    client.revoke(lease).unwrap();
    assert!(!client.keep(lease).unwrap());
    assert_eq!(client.get("/l").unwrap(), None);
    let short = client.grant(1).unwrap();
    client.apply(&[Op::Put("/l", b"x", short)]).unwrap();
    super::world::until("it lapses", || client.get("/l").unwrap().is_none());
    // What etcd refuses.
    let error = format!("{:#}", client.apply(&[Op::Put("", b"x", 0)]).unwrap_err());
    assert!(error.contains("etcd") && error.contains("key is not provided"), "{error}");
}

#[test]
fn a_watch_ends_with_etcd() {
    own_namespace();
    let mut etcd = Etcd::start(temporary("watch"), "http", &[]);
    let client = Client::new(&settings(HERE)).unwrap();
    ready(&client);
    let mut watch = client.watch("/a/", 1).unwrap();
    assert!(matches!(watch.next().unwrap(), Said::Begun(_)));
    let killer = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        etcd.kill();
        etcd
    });
    assert!(watch.next().is_err());
    drop(killer.join().unwrap());
}

/// An authority, and a certificate and key of it for etcd and for us.
fn certificates(dir: &Path) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    std::fs::write(dir.join("ca.pem"), authority.pem()).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["localhost".into(), "127.0.0.1".into()]).unwrap();
    // Where users are enabled etcd refuses certificates with a common name, at its JSON gateway.
    params.distinguished_name = DistinguishedName::new();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let certificate = params.signed_by(&key, &authority).unwrap();
    std::fs::write(dir.join("cert.pem"), certificate.pem()).unwrap();
    std::fs::write(dir.join("key.pem"), key.serialize_pem()).unwrap();
}

#[test]
fn encrypted_and_with_a_password() {
    own_namespace();
    let dir = temporary("tls");
    certificates(&dir);
    let path = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    let flags: Vec<String> = [
        ["--cert-file".into(), path("cert.pem")],
        ["--key-file".into(), path("key.pem")],
        ["--trusted-ca-file".into(), path("ca.pem")],
    ]
    .concat()
    .into_iter()
    .chain(["--client-cert-auth".into()])
    .collect();
    let mut etcd = Etcd::start(dir.join("etcd"), "https", &flags);
    let secure = Settings {
        endpoints: vec!["https://127.0.0.1:2379".into()],
        authorities: vec![dir.join("ca.pem")],
        client: Some((dir.join("cert.pem"), dir.join("key.pem"))),
        user: None,
    };
    let client = Client::new(&secure).unwrap();
    ready(&client);
    // Without our certificate, without the authority, without TLS.
    for settings in [
        Settings { client: None, ..secure.clone() },
        Settings { authorities: Vec::new(), ..secure.clone() },
        Settings { endpoints: vec![HERE.into()], ..secure.clone() },
    ] {
        let error = format!("{:#}", Client::new(&settings).unwrap().get("x").unwrap_err());
        assert!(error.contains("127.0.0.1:2379") && !error.contains('\n'), "{error}");
    }
    let error = format!(
        "{:#}",
        Client::new(&Settings { authorities: vec![dir.join("no.pem")], ..secure.clone() }).err().unwrap()
    );
    assert!(error.contains("no.pem"), "{error}");
    // With users.
    client.ask("/v3/auth/user/add", &json!({"name": "root", "password": "secret"})).unwrap();
    client.ask("/v3/auth/role/add", &json!({"name": "root"})).unwrap();
    client.ask("/v3/auth/user/grant", &json!({"user": "root", "role": "root"})).unwrap();
    client.ask("/v3/auth/user/add", &json!({"name": "guest", "password": "guest"})).unwrap();
    client.ask("/v3/auth/enable", &json!({})).unwrap();
    let user = |name: &str, password: &str| {
        Client::new(&Settings { user: Some((name.into(), password.into())), ..secure.clone() }).unwrap()
    };
    let root = user("root", "secret");
    root.apply(&[Op::Put("/a", b"x", 0)]).unwrap();
    assert_eq!(root.get("/a").unwrap().unwrap().value, b"x");
    let mut watch = root.watch("/", 1).unwrap();
    assert_eq!(changes(&mut watch).0.len(), 1);
    for (client, wanted) in
        [(&client, "user name"), (&user("root", "wrong"), "password"), (&user("guest", "guest"), "denied")]
    {
        let error = format!("{:#}", client.get("/a").unwrap_err());
        assert!(error.contains("etcd") && error.contains(wanted) && !error.contains("secret"), "{error}");
    }
    // A token that etcd has forgotten: it asks anew.
    etcd.kill();
    etcd.restart();
    super::world::until("we are known again", || root.get("/a").is_ok_and(|it| it.is_some()));
    drop(etcd);
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn endpoints_that_are_none() {
    for text in
        ["", "127.0.0.1:2379", "ftp://127.0.0.1", "http://", "http://h/x", "http://h?x", "http://u@h", "http://h#x"]
    {
        let error = format!("{:#}", Client::new(&settings(text)).err().unwrap());
        assert!(error.contains("http://HOST:2379"), "{error}");
    }
    for text in ["http://h", "https://h:1", "http://[::1]:2379/", "http://192.0.2.1"] {
        assert!(Client::new(&settings(text)).is_ok(), "{text}");
    }
    assert!(Client::new(&Settings::default()).is_err());
}
