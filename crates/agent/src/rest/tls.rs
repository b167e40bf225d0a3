//! The server's side of TLS: `restapi.certfile`, `keyfile`, `cafile`, `verify_client`.

use super::access::ShownCertificate;
use super::listen::RestError;
use axum::Extension;
use axum::middleware::AddExtension;
use axum_server::accept::Accept;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use pgherd_wire::patroni::config::{RestApi, VerifyClient};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::server::TlsStream;
use tower::Layer;

/// TLS as configured; `None`: plain HTTP.
pub(crate) fn config(api: &RestApi) -> Result<Option<Arc<ServerConfig>>, RestError> {
    let Some(cert) = &api.certfile else {
        return Ok(None);
    };
    if api.keyfile_password.is_some() {
        return Err(RestError::Settings(
            "restapi.keyfile_password is set, but encrypted keys are not supported: store the key unencrypted, readable by its owner only".to_owned(),
        ));
    }
    let chain = certificates(cert, "restapi.certfile")?;
    let key_file = api.keyfile.as_ref().unwrap_or(cert);
    let key = PrivateKeyDer::from_pem_file(key_file).map_err(|cause| {
        RestError::Settings(format!(
            "can not read a private key from {} (restapi.keyfile): {cause}; it must be PEM, not encrypted, and readable",
            key_file.display()
        ))
    })?;
    let bad = |cause: rustls::Error| {
        RestError::Settings(format!(
            "certificate {} and key {} (restapi.certfile, restapi.keyfile) can not be used together: {cause}",
            cert.display(),
            key_file.display()
        ))
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(bad)?;
    let mut config = match verifier(api, provider)? {
        None => builder.with_no_client_auth(),
        Some(verifier) => builder.with_client_cert_verifier(verifier),
    }
    .with_single_cert(chain, key)
    .map_err(bad)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Some(Arc::new(config)))
}

fn verifier(
    api: &RestApi,
    provider: Arc<rustls::crypto::CryptoProvider>,
) -> Result<Option<Arc<dyn rustls::server::danger::ClientCertVerifier>>, RestError> {
    if api.verify_client == VerifyClient::None {
        return Ok(None);
    }
    let Some(ca) = &api.cafile else {
        return Err(RestError::Settings(
            "restapi.verify_client needs restapi.cafile: the certificates that may sign clients' certificates".to_owned(),
        ));
    };
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates(ca, "restapi.cafile")?);
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let builder = match api.verify_client {
        VerifyClient::Optional => builder.allow_unauthenticated(),
        VerifyClient::None | VerifyClient::Required => builder,
    };
    let verifier = builder.build().map_err(|cause| {
        RestError::Settings(format!(
            "{} (restapi.cafile) can not be used: {cause}",
            ca.display()
        ))
    })?;
    Ok(Some(verifier))
}

fn certificates(path: &Path, setting: &str) -> Result<Vec<CertificateDer<'static>>, RestError> {
    let bad = |cause: String| {
        RestError::Settings(format!(
            "can not read certificates from {} ({setting}): {cause}",
            path.display()
        ))
    };
    let certs: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|cause| bad(cause.to_string()))?;
    if certs.is_empty() {
        return Err(bad("there is none in PEM format".to_owned()));
    }
    Ok(certs)
}

/// Shakes hands, and tells the requests whether the client has shown a certificate.
#[derive(Clone)]
pub(super) struct Acceptor(RustlsAcceptor);

impl Acceptor {
    /// With this certificate.
    pub(super) fn new(config: RustlsConfig) -> Acceptor {
        Acceptor(RustlsAcceptor::new(config))
    }
}

impl<I, S> Accept<I, S> for Acceptor
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Send + 'static,
{
    type Stream = TlsStream<I>;
    type Service = AddExtension<S, ShownCertificate>;
    type Future = Pin<Box<dyn Future<Output = io::Result<(Self::Stream, Self::Service)>> + Send>>;

    fn accept(&self, stream: I, service: S) -> Self::Future {
        let handshake = self.0.accept(stream, service);
        Box::pin(async move {
            let (stream, service) = handshake.await?;
            let shown = stream.get_ref().1.peer_certificates().is_some();
            Ok((stream, Extension(ShownCertificate(shown)).layer(service)))
        })
    }
}
