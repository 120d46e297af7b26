//! What agents and coordinators know each other by, made by openssl.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Two signers, and a certificate of this host by each of them.
pub struct Certificates {
    directory: PathBuf,
}

impl Certificates {
    /// Makes them in a directory.
    pub fn new(directory: &Path) -> Self {
        fs::create_dir_all(directory).unwrap();
        let made = Self {
            directory: directory.to_owned(),
        };
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
        fs::write(made.path("names"), "subjectAltName=IP:127.0.0.1\n").unwrap();
        for signer in ["ours", "other"] {
            made.openssl(&format!(
                "req -x509 {key} -days 2 -subj /CN={signer} -keyout {signer}.key -out {signer}.crt"
            ));
            made.openssl(&format!(
                "req {key} -subj /CN=by-{signer} -keyout by-{signer}.key -out by-{signer}.csr"
            ));
            made.openssl(&format!(
                "x509 -req -in by-{signer}.csr -CA {signer}.crt -CAkey {signer}.key -CAcreateserial -days 2 \
                 -extfile names -out by-{signer}.crt"
            ));
        }
        made
    }

    fn openssl(&self, line: &str) {
        let mut openssl = Command::new("openssl");
        openssl
            .args(line.split_whitespace())
            .current_dir(&self.directory);
        let output = openssl.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{line}: {said}");
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}
