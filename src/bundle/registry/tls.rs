//! Whom a connection believes: the system's authorities, a host's own, and what this machine shows of itself.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result, bail};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, TlsProvider, parse_pem};

use super::config::TlsFiles;

/// The TLS settings for a host with these files; unverified only where `verify` is false.
pub fn config(files: &TlsFiles, verify: bool) -> Result<TlsConfig> {
    let mut roots = system_roots().to_vec();
    for file in &files.authorities {
        roots.extend(certificates(file)?);
    }
    let client = files.client.as_ref().map(|(certificate, key)| client(certificate, key)).transpose()?;
    Ok(TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .root_certs(RootCerts::new_with_certs(&roots))
        .client_cert(client)
        .disable_verification(!verify)
        .build())
}

/// The system's authorities, read once (SSL_CERT_FILE and SSL_CERT_DIR count). A machine without any is no
/// error here: a host may have its own.
fn system_roots() -> &'static [Certificate<'static>] {
    static ROOTS: OnceLock<Vec<Certificate<'static>>> = OnceLock::new();
    ROOTS.get_or_init(|| {
        let found = rustls_native_certs::load_native_certs();
        found.certs.iter().map(|it| Certificate::from_der(it).to_owned()).collect()
    })
}

fn certificates(file: &Path) -> Result<Vec<Certificate<'static>>> {
    let told = || format!("certificates in {}", file.display());
    let bytes = std::fs::read(file).with_context(told)?;
    let mut found = Vec::new();
    for item in parse_pem(&bytes) {
        if let PemItem::Certificate(certificate) = item.with_context(told)? {
            found.push(certificate);
        }
    }
    if found.is_empty() {
        bail!("{}: there is none (PEM is expected)", told());
    }
    Ok(found)
}

fn client(certificate: &Path, key: &Path) -> Result<ClientCert> {
    let told = || format!("certificate {} with key {}", certificate.display(), key.display());
    let chain = certificates(certificate)?;
    let bytes = std::fs::read(key).with_context(told)?;
    // ureq takes it for granted that the two fit.
    rustls::sign::CertifiedKey::from_der(
        chain.iter().map(|it| it.der().to_vec().into()).collect(),
        PrivateKeyDer::from_pem_slice(&bytes).with_context(told)?,
        &rustls::crypto::ring::default_provider(),
    )
    .with_context(told)?;
    Ok(ClientCert::new_with_certs(&chain, PrivateKey::from_pem(&bytes).with_context(told)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_are_no_certificates_are_told_by_name() {
        let directory = std::env::temp_dir().join(format!("rt-bundle-tls-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let (text, broken) = (directory.join("text.crt"), directory.join("broken.crt"));
        std::fs::write(&text, "no certificate").unwrap();
        std::fs::write(&broken, "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n").unwrap();
        for file in [&text, &broken, &directory.join("missing.crt")] {
            let files = TlsFiles { authorities: vec![file.clone()], client: None };
            let error = format!("{:#}", config(&files, true).unwrap_err());
            assert!(error.contains(file.to_str().unwrap()), "{error}");
        }
        std::fs::remove_dir_all(&directory).unwrap();
        assert!(config(&TlsFiles::default(), true).is_ok());
    }
}
