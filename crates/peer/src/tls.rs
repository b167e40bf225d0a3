//! TLS towards other agents, by Patroni's rule: with a client certificate the server's chain is
//! checked, but (if insecure) not its name; without one an insecure client checks nothing.

use crate::key::private_key;
use crate::{PeerError, PeerOptions};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use std::path::Path;
use std::sync::Arc;

/// What is checked of a server's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Check {
    ChainAndName,
    Chain,
    Nothing,
}

/// The client side of TLS for these options.
pub(crate) fn config(options: &PeerOptions) -> Result<ClientConfig, PeerError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let check = match (options.insecure, options.cert.is_some()) {
        (false, _) => Check::ChainAndName,
        (true, true) => Check::Chain,
        (true, false) => Check::Nothing,
    };
    let trusted = match (&options.cacert, check) {
        (_, Check::Nothing) => Vec::new(),
        (Some(path), _) => certificates(path, "ctl.cacert (or restapi.cafile)")?,
        (None, _) => rustls_native_certs::load_native_certs().certs,
    };
    let verifier = Verifier::new(provider.clone(), trusted, check)?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| PeerError::Options(format!("can not set up TLS: {error}")))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let Some(cert) = &options.cert else {
        return Ok(builder.with_no_client_auth());
    };
    let chain = certificates(cert, "ctl.certfile")?;
    let key_file = options.key.as_ref().unwrap_or(cert);
    let key = private_key(key_file, "ctl.keyfile", options.key_password.as_ref())
        .map_err(PeerError::Options)?;
    builder.with_client_auth_cert(chain, key).map_err(|error| {
        PeerError::Options(format!(
            "certificate {} and key {} (ctl.certfile, ctl.keyfile) can not be used together: {error}",
            cert.display(),
            key_file.display()
        ))
    })
}

fn certificates(path: &Path, setting: &str) -> Result<Vec<CertificateDer<'static>>, PeerError> {
    let refuse = |cause: String| {
        PeerError::Options(format!(
            "can not read certificates from {} ({setting}): {cause}",
            path.display()
        ))
    };
    let certs: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| refuse(error.to_string()))?;
    if certs.is_empty() {
        return Err(refuse("there is none in PEM format".to_owned()));
    }
    Ok(certs)
}

/// webpki's verifier with OpenSSL's leniency: a certificate that is itself in the CA file is
/// accepted (one self-signed certificate as CA, server and client certificate is common).
#[derive(Debug)]
struct Verifier {
    provider: Arc<CryptoProvider>,
    inner: Option<Arc<WebPkiServerVerifier>>,
    trusted: Vec<CertificateDer<'static>>,
    check: Check,
}

impl Verifier {
    fn new(
        provider: Arc<CryptoProvider>,
        trusted: Vec<CertificateDer<'static>>,
        check: Check,
    ) -> Result<Verifier, PeerError> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(trusted.iter().cloned());
        let inner = if check == Check::Nothing || roots.is_empty() {
            None
        } else {
            let built =
                WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
                    .build();
            Some(
                built
                    .map_err(|error| PeerError::Options(format!("can not set up TLS: {error}")))?,
            )
        };
        Ok(Verifier {
            provider,
            inner,
            trusted,
            check,
        })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.check == Check::Nothing {
            return Ok(ServerCertVerified::assertion());
        }
        let Some(inner) = &self.inner else {
            return Err(CertificateError::UnknownIssuer.into());
        };
        let verdict =
            inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match verdict {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if self.check == Check::Chain => Ok(ServerCertVerified::assertion()),
            // webpki refuses every CA as a server (CaUsedAsEndEntity) before it looks at the name.
            Err(rustls::Error::InvalidCertificate(CertificateError::Other(_)))
                if self
                    .trusted
                    .iter()
                    .any(|cert| cert.as_ref() == end_entity.as_ref()) =>
            {
                if self.check == Check::ChainAndName {
                    verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
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
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            cert,
            dss,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            cert,
            dss,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
