//! Certificates for tests, made by the `openssl` program: one authority, one certificate for
//! 127.0.0.1 that serves as server and client.

use crate::process;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Files of one authority and one key pair, in PEM.
#[derive(Clone, Debug)]
pub struct Pki {
    /// The authority's certificate.
    pub ca: PathBuf,
    /// Certificate of server and client.
    pub cert: PathBuf,
    /// Its key, mode 0600, of the unprivileged user.
    pub key: PathBuf,
}

const EXTENSIONS: &str = "subjectAltName=IP:127.0.0.1,DNS:localhost\n\
     extendedKeyUsage=serverAuth,clientAuth\nbasicConstraints=CA:FALSE\n";

impl Pki {
    /// Makes the files in a new directory `dir`.
    ///
    /// # Panics
    /// When `openssl` is not there or refuses.
    pub fn new(dir: &Path) -> Pki {
        fs::create_dir_all(dir).expect("make the directory of certificates");
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
        let ca = "-keyout ca.key -out ca.pem -days 30 -subj /CN=test-authority";
        openssl(dir, &format!("req -x509 {key} {ca}"));
        openssl(
            dir,
            &format!("req {key} -keyout node.key -out node.csr -subj /CN=node"),
        );
        fs::write(dir.join("extensions"), EXTENSIONS).expect("write a file");
        let sign = "-CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -extfile extensions";
        openssl(dir, &format!("x509 -req -in node.csr -out node.pem {sign}"));
        let pki = Pki {
            ca: dir.join("ca.pem"),
            cert: dir.join("node.pem"),
            key: dir.join("node.key"),
        };
        fs::set_permissions(&pki.key, fs::Permissions::from_mode(0o600)).expect("chmod");
        process::give(&pki.key);
        pki
    }

    /// The key once more, encrypted with this password (without blanks).
    ///
    /// # Panics
    /// When `openssl` refuses.
    pub fn encrypted_key(&self, password: &str) -> PathBuf {
        let encrypted = self.key.with_extension("encrypted");
        let dir = self.key.parent().expect("a file has a directory");
        let files = format!("-in {} -out {}", self.key.display(), encrypted.display());
        openssl(
            dir,
            &format!("pkcs8 -topk8 {files} -passout pass:{password}"),
        );
        fs::set_permissions(&encrypted, fs::Permissions::from_mode(0o600)).expect("chmod");
        process::give(&encrypted);
        encrypted
    }
}

fn openssl(dir: &Path, args: &str) {
    let output = Command::new("openssl")
        .args(args.split(' '))
        .current_dir(dir)
        .output();
    let output = output.expect("run openssl");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {args}: {text}");
}
