//! TLS as libpq's `sslmode` means it: `prefer` and `require` encrypt without verifying, `verify-ca`
//! and `verify-full` verify against sslrootcert.

use crate::{Credentials, Error, Result};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use std::path::Path;
use std::sync::Arc;
use tokio_postgres::config::SslMode;
use tokio_postgres_rustls::MakeRustlsConnect;

/// How much of the server's certificate is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trust {
    Any,
    Chain,
    ChainAndName,
}

/// `sslmode` for tokio-postgres. `allow` becomes `prefer`: encrypted where possible.
pub fn mode(role: &Credentials) -> SslMode {
    match role.settings.get("sslmode").map(String::as_str) {
        Some("disable") => SslMode::Disable,
        Some("require" | "verify-ca" | "verify-full") => SslMode::Require,
        _ => SslMode::Prefer,
    }
}

/// Builds the connector for a role's settings. Reads the certificate files.
///
/// # Errors
/// Names the setting that can not be used.
pub fn connector(role: &Credentials) -> Result<MakeRustlsConnect> {
    let provider = Arc::new(ring::default_provider());
    let setting = |key: &str| role.settings.get(key).filter(|value| !value.is_empty());
    let roots = setting("sslrootcert");
    let trust = match setting("sslmode").map(String::as_str) {
        Some("verify-full") => Trust::ChainAndName,
        Some("verify-ca") => Trust::Chain,
        // As libpq: a root certificate makes `require` verify the chain.
        Some("require") if roots.is_some() => Trust::Chain,
        _ => Trust::Any,
    };
    let inner = match (trust, roots) {
        (Trust::Any, _) => None,
        (_, None) => {
            return Err(wrong("sslrootcert", "is needed for this sslmode"));
        }
        (_, Some(file)) => Some(verifier(Path::new(file), &provider)?),
    };
    let pinned = match roots.filter(|_| trust != Trust::Any) {
        Some(file) => certificates(Path::new(file), "sslrootcert")?,
        None => Vec::new(),
    };
    let verifier = Arc::new(Verifier {
        inner,
        pinned,
        trust,
        provider: provider.clone(),
    });
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| wrong("sslmode", &e.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let config = match (setting("sslcert"), setting("sslkey")) {
        (Some(cert), Some(key)) => {
            let chain = certificates(Path::new(cert), "sslcert")?;
            let key = PrivateKeyDer::from_pem_file(key)
                .map_err(|e| wrong("sslkey", &format!("{key}: {e}")))?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|e| wrong("sslcert", &e.to_string()))?
        }
        _ => builder.with_no_client_auth(),
    };
    Ok(MakeRustlsConnect::new(config))
}

fn wrong(key: &str, reason: &str) -> Error {
    Error::Config {
        key: format!("postgresql.authentication: {key}"),
        reason: reason.to_owned(),
    }
}

fn certificates(file: &Path, key: &str) -> Result<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_file_iter(file)
        .and_then(|certs| certs.collect::<std::result::Result<Vec<_>, _>>())
        .map_err(|e| wrong(key, &format!("{}: {e}", file.display())))
}

fn verifier(file: &Path, provider: &Arc<CryptoProvider>) -> Result<Arc<WebPkiServerVerifier>> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(file, "sslrootcert")? {
        store
            .add(certificate)
            .map_err(|e| wrong("sslrootcert", &e.to_string()))?;
    }
    WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider.clone())
        .build()
        .map_err(|e| wrong("sslrootcert", &e.to_string()))
}

/// Verifies as far as `trust` goes; signatures always.
#[derive(Debug)]
struct Verifier {
    inner: Option<Arc<WebPkiServerVerifier>>,
    /// A certificate that is itself a root is accepted, as by libpq (one self-signed certificate as
    /// CA and server certificate is common).
    pinned: Vec<CertificateDer<'static>>,
    trust: Trust,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        let Some(inner) = &self.inner else {
            return Ok(ServerCertVerified::assertion());
        };
        match inner.verify_server_cert(end_entity, intermediates, server_name, ocsp, now) {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if self.trust == Trust::Chain => Ok(ServerCertVerified::assertion()),
            // webpki refuses every CA as a server (CaUsedAsEndEntity), after it looked at the time
            // and before it looks at the name.
            Err(rustls::Error::InvalidCertificate(CertificateError::Other(_)))
                if self.pinned.iter().any(|known| known == end_entity) =>
            {
                if self.trust == Trust::ChainAndName {
                    let parsed = ParsedCertificate::try_from(end_entity)?;
                    verify_server_name(&parsed, server_name)?;
                }
                Ok(ServerCertVerified::assertion())
            }
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
