//! A real one: a Flask application of Debian's packages and PyPI's wheels, in four stages, with cache mounts.

use std::path::Path;
use std::time::Instant;

use crate::bed::Bed;
use crate::harness::sh;

/// How pip is set on this machine, as a file for the build; its authorities are a secret beside.
fn pip_settings() -> String {
    let set = sh("pip config list");
    let mut text = "[global]\ncert = /run/secrets/authorities\n".to_owned();
    for line in set.lines() {
        let Some((name, value)) = line.split_once('=') else { continue };
        let key = name.rsplit('.').next().unwrap_or_default();
        // Paths of this machine are none there.
        if !matches!(key, "cert" | "find-links") {
            text += &format!("{key} = {}\n", value.trim_matches('\''));
        }
    }
    text
}

#[test]
fn a_flask_application() {
    let bed = Bed::new("build-flask");
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../integration");
    let debian = sh(&format!("{}/images/debian", top.display()));
    bed.run(&["import", "--change", "CMD [\"bash\"]", debian.trim(), "debian:12"]).ok();
    let settings = bed.0.text("pip.conf");
    std::fs::write(&settings, pip_settings()).unwrap();
    let context = top.join("build/flask");
    let (pip, authorities) =
        (format!("id=pip,src={settings}"), "id=authorities,src=/etc/ssl/certs/ca-certificates.crt");
    // The host's network: where packages come from is this machine's business.
    let words = ["build", "--network", "host", "--secret", &pip, "--secret", authorities, "-t", "flask"];
    let build = || bed.run(&[&words[..], &[context.to_str().unwrap()]].concat()).ok();
    let first = build();
    let ask = "import app; print(app.app.test_client().get('/').data.decode(), end='')";
    let said = bed.run(&["run", "--rm", "flask", "python3", "-c", ask]).ok();
    assert_eq!(said.out, "hello from Flask\n");
    assert_eq!(bed.run(&["run", "--rm", "flask", "id", "-un"]).ok().out, "nobody\n");
    let left = "ls /wheels /usr/bin/pip /var/cache/apt/archives/*pip*.deb /etc/pip.conf /run/secrets 2>/dev/null; true";
    assert_eq!(bed.run(&["run", "--rm", "flask", "sh", "-c", left]).ok().out, "");
    let begin = Instant::now();
    let again = build();
    assert_eq!((again.last(), again.err.matches("CACHED").count()), (first.last(), 9), "{}", again.err);
    println!("nothing to do: {} ms", begin.elapsed().as_millis());
    bed.is_clean();
}
