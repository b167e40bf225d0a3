//! Private keys in PEM files, also encrypted ones (PKCS#8 with PBES2, RFC 5958 and 8018, as OpenSSL 1.1 and newer write them), for both sides of TLS.

use pgherd_wire::patroni::config::Secret;
use pkcs8::{EncryptedPrivateKeyInfoRef, SecretDocument};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use std::path::Path;

const BEGIN: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----";
const END: &str = "-----END ENCRYPTED PRIVATE KEY-----";

/// The private key in a PEM file, which `setting` names; if it is encrypted, `password` opens it, the value of the
/// setting of the same name with `_password`.
///
/// # Errors
/// What is wrong with it, for people.
pub fn private_key(
    path: &Path,
    setting: &str,
    password: Option<&Secret>,
) -> Result<PrivateKeyDer<'static>, String> {
    let pem = std::fs::read(path).map_err(|error| error.to_string());
    pem.and_then(|pem| read(&pem, setting, password))
        .map_err(|cause| {
            format!(
                "can not read a private key from {} ({setting}): {cause}",
                path.display()
            )
        })
}

fn read(
    pem: &[u8],
    setting: &str,
    password: Option<&Secret>,
) -> Result<PrivateKeyDer<'static>, String> {
    // Certificates in the same file may have names in any encoding beside them.
    let text = String::from_utf8_lossy(pem);
    if let Some(block) = block(&text) {
        let Some(password) = password else {
            return Err(format!(
                "it is encrypted, and {setting}_password is not set"
            ));
        };
        return decrypt(block, password)
            .map_err(|error| format!("it can not be opened with {setting}_password: {error}"));
    }
    let old = |line: &str| line.starts_with("Proc-Type:") && line.contains("ENCRYPTED");
    if text.lines().any(old) {
        return Err(
            "it is encrypted in OpenSSL's old format, which is not supported: `openssl pkcs8 -topk8 -in KEY -out NEW` \
             writes the present one"
                .to_owned(),
        );
    }
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| format!("{error}; it must be PEM"))
}

/// The first encrypted key.
fn block(text: &str) -> Option<&str> {
    let (begin, rest) = (text.find(BEGIN)?, text.find(END)?);
    text.get(begin..rest + END.len())
}

fn decrypt(block: &str, password: &Secret) -> Result<PrivateKeyDer<'static>, pkcs8::Error> {
    let (_, document) = SecretDocument::from_pem(block)?;
    let encrypted = EncryptedPrivateKeyInfoRef::try_from(document.as_bytes())?;
    let key = encrypted.decrypt(password.expose())?;
    Ok(PrivateKeyDer::Pkcs8(key.as_bytes().to_vec().into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One key for nothing but this, by OpenSSL 3: plain, and encrypted with the password `correct`, its key derived
    /// with PBKDF2 and with scrypt.
    const PLAIN: &str = "\
-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIAa7KrZx9e7vhGQgJIxixw/5JjVj3ejoRLdo2jap5k3b
-----END PRIVATE KEY-----
";
    const PBKDF2: &str = "\
-----BEGIN ENCRYPTED PRIVATE KEY-----
MIGbMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAgd20wGh/FQzwICCAAw
DAYIKoZIhvcNAgkFADAdBglghkgBZQMEASoEEAkgjY+bdADERtgl9uybEtkEQE2z
14/MVnTd8hBddVLp9mDz+6HfscMHFn0AsYeBIo9Fyh4iO3VnAw02QQZID0z1m0me
FIQ5vxQISknBLHLJqdw=
-----END ENCRYPTED PRIVATE KEY-----
";
    const SCRYPT: &str = "\
-----BEGIN ENCRYPTED PRIVATE KEY-----
MIGTME8GCSqGSIb3DQEFDTBCMCEGCSsGAQQB2kcECzAUBAiUwjgBlTChRgICBAAC
AQgCAQEwHQYJYIZIAWUDBAEqBBDtQsDdhe4DmhHQiSRYA9kyBECTjR5aVd6uFWVD
yg6zQPTIOV89qiXv99vIcEWUdANUG+GFoUH4SufYu79xWbAVzDk2Zi5aGFJzgc57
IPT2QV/V
-----END ENCRYPTED PRIVATE KEY-----
";

    fn key(pem: &str, password: Option<&str>) -> Result<Vec<u8>, String> {
        let password = password.map(Secret::new);
        let key = read(pem.as_bytes(), "ctl.keyfile", password.as_ref())?;
        Ok(key.secret_der().to_vec())
    }

    #[test]
    fn encrypted_keys_are_opened_with_their_password() {
        let plain = key(PLAIN, None).unwrap();
        let beside = format!("subject=CN = n1\n{PLAIN}").replace("PRIVATE KEY", "CERTIFICATE");
        for pem in [PLAIN, PBKDF2, SCRYPT] {
            for pem in [
                pem.to_owned(),
                beside.clone() + pem,
                pem.replace('\n', "\r\n"),
            ] {
                assert_eq!(key(&pem, Some("correct")), Ok(plain.clone()), "{pem}");
            }
        }
    }

    #[test]
    fn what_cannot_be_opened_says_why() {
        let old = PLAIN.replace(
            "KEY-----\nMC",
            "KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nMC",
        );
        let broken = PBKDF2.replace("MIGb", "AAAA");
        for (pem, password, expected) in [
            (PBKDF2, None, "ctl.keyfile_password is not set"),
            (
                PBKDF2,
                Some("wrong"),
                "can not be opened with ctl.keyfile_password",
            ),
            (
                SCRYPT,
                Some(""),
                "can not be opened with ctl.keyfile_password",
            ),
            (old.as_str(), Some("correct"), "openssl pkcs8 -topk8"),
            (
                broken.as_str(),
                Some("correct"),
                "can not be opened with ctl.keyfile_password",
            ),
            ("nothing", Some("correct"), "it must be PEM"),
        ] {
            let error = key(pem, password).unwrap_err();
            assert!(error.contains(expected), "{error}");
            assert!(
                !error.contains("wrong") && !error.contains("correct"),
                "{error}"
            );
        }
    }
}
