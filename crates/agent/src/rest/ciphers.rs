//! `restapi.ciphers`: which cipher suites of TLS 1.2 are offered, in OpenSSL's language (ciphers(1)), which Patroni
//! hands on to Python. It says nothing about TLS 1.3, whose suites are all offered, there as here.

use rustls::CipherSuite;
use rustls::crypto::CryptoProvider;

/// OpenSSL's name of a suite, and the words that select it.
type Suite = (CipherSuite, &'static str, &'static [&'static str]);

const EVERY: &[&str] = &[
    "ALL", "DEFAULT", "HIGH", "TLSv1.2", "ECDH", "ECDHE", "EECDH", "kECDHE", "kEECDH",
];

/// All that can be offered, the strongest first.
const SUITES: &[Suite] = &[
    (
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        &["ECDSA", "aECDSA", "AES", "AESGCM", "AES256", "FIPS"],
    ),
    (
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        "ECDHE-RSA-AES256-GCM-SHA384",
        &["aRSA", "AES", "AESGCM", "AES256", "FIPS"],
    ),
    (
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        &["ECDSA", "aECDSA", "CHACHA20"],
    ),
    (
        CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
        "ECDHE-RSA-CHACHA20-POLY1305",
        &["aRSA", "CHACHA20"],
    ),
    (
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        &["ECDSA", "aECDSA", "AES", "AESGCM", "AES128", "FIPS"],
    ),
    (
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        "ECDHE-RSA-AES128-GCM-SHA256",
        &["aRSA", "AES", "AESGCM", "AES128", "FIPS"],
    ),
];

/// Leaves of TLS 1.2 what `list` selects, in its order.
///
/// # Errors
/// It selects nothing that there is.
pub(crate) fn restrict(provider: &mut CryptoProvider, list: &str) -> Result<(), String> {
    let selected = selected(list);
    if selected.is_empty() {
        let all: Vec<&str> = SUITES.iter().map(|(_, name, _)| *name).collect();
        return Err(format!(
            "restapi.ciphers: {list:?} selects none of the cipher suites of TLS 1.2 that there are: {}",
            all.join(":")
        ));
    }
    let present = std::mem::take(&mut provider.cipher_suites);
    let (newer, older): (Vec<_>, Vec<_>) = present.into_iter().partition(|it| it.tls13().is_some());
    let wanted = selected.iter().filter_map(|(suite, ..)| {
        let found = older.iter().find(|it| it.suite() == *suite);
        found.copied()
    });
    provider.cipher_suites = newer.into_iter().chain(wanted).collect();
    Ok(())
}

/// What OpenSSL would select of [`SUITES`], in its order.
fn selected(list: &str) -> Vec<Suite> {
    let mut chosen: Vec<Suite> = Vec::new();
    let mut barred: Vec<Suite> = Vec::new();
    let words = list.split([':', ',', ' ', ';']);
    // `@STRENGTH` and `@SECLEVEL` sort and bar nothing here: the order is that of strength.
    for word in words.filter(|word| !word.is_empty() && !word.starts_with('@')) {
        let (sign, word) = match word.split_at_checked(1) {
            Some((sign @ ("!" | "-" | "+"), word)) => (sign, word),
            _ => ("", word),
        };
        let meant = |suite: &Suite| word.split('+').all(|part| is(suite, part));
        match sign {
            "!" => {
                chosen.retain(|suite| !meant(suite));
                barred.extend(SUITES.iter().filter(|suite| meant(suite)));
            }
            "-" => chosen.retain(|suite| !meant(suite)),
            // To the end of the list.
            "+" => chosen.sort_by_key(meant),
            _ => {
                let new = SUITES.iter().filter(|suite| meant(suite));
                let new: Vec<Suite> = new
                    .filter(|suite| !chosen.contains(suite) && !barred.contains(suite))
                    .copied()
                    .collect();
                chosen.extend(new);
            }
        }
    }
    chosen
}

/// Whether this word selects the suite.
fn is((_, name, words): &Suite, word: &str) -> bool {
    *name == word || words.contains(&word) || EVERY.contains(&word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::crypto::ring::default_provider;

    /// By the first letters of what a name differs in: E or R for the key, 2 and 1 for AES, C for ChaCha.
    fn short(list: &str) -> String {
        let letters = selected(list).into_iter().map(|(_, name, _)| {
            let key = if name.contains("ECDSA") { "E" } else { "R" };
            let cipher = match name {
                _ if name.contains("AES256") => "2",
                _ if name.contains("AES128") => "1",
                _ => "C",
            };
            format!("{key}{cipher}")
        });
        letters.collect::<Vec<_>>().join(" ")
    }

    /// As `openssl ciphers -s -tls1_2 LIST`, of those that there are.
    #[test]
    fn lists_are_read_as_openssl_reads_them() {
        for (list, expected) in [
            ("ECDHE-RSA-AES128-GCM-SHA256", "R1"),
            (
                "ECDHE+AESGCM:ECDHE+CHACHA20:!aNULL:!MD5",
                "E2 R2 E1 R1 EC RC",
            ),
            (
                "ECDH+AESGCM:DH+AESGCM:ECDH+AES256:RSA+AES:!DSS",
                "E2 R2 E1 R1",
            ),
            ("HIGH:!AES128", "E2 R2 EC RC"),
            ("HIGH:-AES128:AES", "E2 R2 EC RC E1 R1"),
            ("HIGH:+CHACHA20", "E2 R2 E1 R1 EC RC"),
            ("!ECDSA:ALL", "R2 RC R1"),
            ("aRSA AES256, DHE-RSA-AES256-SHA", "R2 RC R1 E2"),
            ("DEFAULT:@SECLEVEL=2", "E2 R2 EC RC E1 R1"),
            ("AES256-SHA:RC4", ""),
            ("TLS_AES_256_GCM_SHA384", ""),
            ("", ""),
        ] {
            assert_eq!(short(list), expected, "{list}");
        }
    }

    #[test]
    fn the_newer_protocol_keeps_its_suites() {
        let names = |provider: &CryptoProvider| -> Vec<CipherSuite> {
            provider.cipher_suites.iter().map(|it| it.suite()).collect()
        };
        let mut provider = default_provider();
        let newer = provider
            .cipher_suites
            .iter()
            .filter(|it| it.tls13().is_some())
            .count();
        restrict(&mut provider, "CHACHA20:ECDHE-ECDSA-AES256-GCM-SHA384").unwrap();
        assert!(newer > 0);
        assert_eq!(
            names(&provider)[newer..],
            [
                CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
                CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
                CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
            ]
        );
        let mut provider = default_provider();
        let all = provider.cipher_suites.len();
        restrict(&mut provider, "ALL").unwrap();
        assert_eq!(
            provider.cipher_suites.len(),
            all,
            "every suite of the library is known here"
        );
        let error = restrict(&mut provider, "AES256-SHA").unwrap_err();
        assert!(error.contains("ECDHE-RSA-AES128-GCM-SHA256") && error.contains("AES256-SHA"));
        assert_eq!(provider.cipher_suites.len(), all);
    }
}
