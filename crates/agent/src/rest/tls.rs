//! The server's side of TLS: `restapi.certfile`, `keyfile`, `cafile`, `ciphers`, `verify_client`.

use super::access::ShownCertificate;
use super::ciphers;
use super::listen::RestError;
use axum::Extension;
use axum::middleware::AddExtension;
use axum_server::accept::Accept;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use pgherd_peer::private_key;
use pgherd_wire::patroni::config::{RestApi, VerifyClient};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig,
    SignatureScheme,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, UnixTime};
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
    let chain = certificates(cert, "restapi.certfile")?;
    let key_file = api.keyfile.as_ref().unwrap_or(cert);
    let password = api.keyfile_password.as_ref();
    let key = private_key(key_file, "restapi.keyfile", password).map_err(RestError::Settings)?;
    let bad = |cause: rustls::Error| {
        RestError::Settings(format!(
            "certificate {} and key {} (restapi.certfile, restapi.keyfile) can not be used together: {cause}",
            cert.display(),
            key_file.display()
        ))
    };
    let mut provider = rustls::crypto::ring::default_provider();
    if let Some(list) = &api.ciphers {
        ciphers::restrict(&mut provider, list).map_err(RestError::Settings)?;
    }
    let provider = Arc::new(provider);
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
) -> Result<Option<Arc<dyn ClientCertVerifier>>, RestError> {
    if api.verify_client == VerifyClient::None {
        return Ok(None);
    }
    let Some(ca) = &api.cafile else {
        return Err(RestError::Settings(
            "restapi.verify_client needs restapi.cafile: the certificates that may sign clients' certificates".to_owned(),
        ));
    };
    let trusted = certificates(ca, "restapi.cafile")?;
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(trusted.iter().cloned());
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
    Ok(Some(Arc::new(Lenient {
        inner: verifier,
        trusted,
    })))
}

/// webpki's verifier with OpenSSL's leniency: a certificate that is itself in the CA file is
/// accepted (one self-signed certificate as CA, server and client certificate is common).
#[derive(Debug)]
struct Lenient {
    inner: Arc<dyn ClientCertVerifier>,
    trusted: Vec<CertificateDer<'static>>,
}

impl ClientCertVerifier for Lenient {
    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verdict = self
            .inner
            .verify_client_cert(end_entity, intermediates, now);
        match verdict {
            // webpki refuses every CA as a client (CaUsedAsEndEntity), after it looked at the time.
            Err(rustls::Error::InvalidCertificate(CertificateError::Other(_)))
                if self.trusted.iter().any(|known| known == end_entity) =>
            {
                Ok(ClientCertVerified::assertion())
            }
            other => other,
        }
    }

    fn offer_client_auth(&self) -> bool {
        self.inner.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.inner.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
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

#[cfg(test)]
mod tests {
    use super::super::tests::api;
    use super::config;
    use pgherd_wire::patroni::config::VerifyClient;
    use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
    use rustls_pki_types::pem::PemObject;
    use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
    use std::path::Path;
    use std::process::Command;
    use std::sync::Arc;
    use std::time::Duration;
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    /// Makes `<name>.pem` and `<name>.key`: self-signed, and by openssl's default a CA.
    fn certificate(directory: &Path, name: &str) {
        let line = format!(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 \
             -keyout {name}.key -out {name}.pem -subj /CN={name}"
        );
        let openssl = Command::new("openssl")
            .args(line.split_whitespace())
            .current_dir(directory)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&openssl.stderr);
        assert!(openssl.status.success(), "{said}");
    }

    /// Of the server nothing is checked here.
    #[derive(Debug)]
    struct AnyServer(Vec<SignatureScheme>);

    impl ServerCertVerifier for AnyServer {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, rustls::Error> {
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.0.clone()
        }
    }

    /// Whether the server lets a client in that shows this certificate.
    async fn lets_in(directory: &Path, ca: &str, shown: &str) -> bool {
        let at = |name: &str| directory.join(name);
        let mut settings = api(false);
        settings.certfile = Some(at("all.pem"));
        settings.keyfile = Some(at("all.key"));
        settings.cafile = Some(at(ca));
        settings.verify_client = VerifyClient::Required;
        let server = TlsAcceptor::from(config(&settings).unwrap().unwrap());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let schemes = provider
            .signature_verification_algorithms
            .supported_schemes();
        let chain = CertificateDer::pem_file_iter(at(&format!("{shown}.pem"))).unwrap();
        let key = PrivateKeyDer::from_pem_file(at(&format!("{shown}.key"))).unwrap();
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyServer(schemes)))
            .with_client_auth_cert(chain.map(Result::unwrap).collect(), key)
            .unwrap();
        let (near, far) = tokio::io::duplex(64 * 1024);
        let name = ServerName::try_from("localhost").unwrap();
        let connector = TlsConnector::from(Arc::new(client));
        let (_, accepted) = tokio::join!(connector.connect(name, near), server.accept(far));
        accepted.is_ok_and(|stream| stream.get_ref().1.peer_certificates().is_some())
    }

    /// Patroni's documents make one self-signed certificate for everything.
    #[tokio::test]
    async fn one_certificate_may_be_ca_server_and_client() {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path();
        for name in ["all", "other"] {
            certificate(at, name);
        }
        assert!(lets_in(at, "all.pem", "all").await);
        assert!(!lets_in(at, "all.pem", "other").await);

        // Its time counts all the same.
        let mut settings = api(false);
        settings.cafile = Some(at.join("all.pem"));
        settings.verify_client = VerifyClient::Required;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = super::verifier(&settings, provider).unwrap().unwrap();
        let all = CertificateDer::from_pem_file(at.join("all.pem")).unwrap();
        let now = UnixTime::now();
        let late = UnixTime::since_unix_epoch(Duration::from_secs(now.as_secs() + 3 * 86400));
        assert!(verifier.verify_client_cert(&all, &[], now).is_ok());
        let refused = verifier.verify_client_cert(&all, &[], late).unwrap_err();
        assert!(refused.to_string().contains("expired"), "{refused}");
    }
}
