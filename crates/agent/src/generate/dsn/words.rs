//! The words of a connection string, taken apart as libpq does it, and strictly: each key is one that
//! libpq has, and nothing is left over. An error has the place (the characters are counted) and none
//! of the text.

use std::collections::BTreeMap;
use std::iter::Peekable;

use anyhow::{Error, Result, anyhow};

/// Keys that libpq knows (PostgreSQL 18).
const KEYS: &[&str] = &[
    "application_name",
    "channel_binding",
    "client_encoding",
    "connect_timeout",
    "dbname",
    "fallback_application_name",
    "gssdelegation",
    "gssencmode",
    "gsslib",
    "host",
    "hostaddr",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "krbsrvname",
    "load_balance_hosts",
    "max_protocol_version",
    "min_protocol_version",
    "oauth_client_id",
    "oauth_client_secret",
    "oauth_issuer",
    "oauth_scope",
    "options",
    "passfile",
    "password",
    "port",
    "replication",
    "scram_client_key",
    "scram_server_key",
    "ssl_max_protocol_version",
    "sslcert",
    "sslcompression",
    "sslcrl",
    "sslcrldir",
    "sslkey",
    "sslkeylogfile",
    "sslmode",
    "sslnegotiation",
    "sslpassword",
    "sslrootcert",
    "sslsni",
    "target_session_attrs",
    "tcp_user_timeout",
    "user",
];

/// Keys that it knows as well, and that would be followed by nobody here: another server would be
/// looked at, or this one with less care than was asked for.
const NOT_FOLLOWED: &[&str] = &[
    "require_auth",
    "requirepeer",
    "service",
    "servicefile",
    "ssl_min_protocol_version",
    "sslcertmode",
];

/// Reads `key=value` pairs or a `postgres://` URL; empty values are left out of those.
///
/// # Errors
/// What cannot be understood.
pub(super) fn pairs(text: &str) -> Result<BTreeMap<String, String>> {
    for scheme in ["postgres://", "postgresql://"] {
        if let Some(rest) = text.strip_prefix(scheme) {
            let at = scheme.len() + 1;
            return from_url(Piece { at, text: rest });
        }
    }
    from_words(text)
}

fn wrong(at: usize, what: &str) -> Error {
    anyhow!("--dsn: character {at}: {what}")
}

fn no_pair(at: usize) -> Error {
    wrong(
        at,
        "expected KEY=VALUE, or postgres://USER@HOST:PORT/DATABASE as a whole; a value with blanks stands in '...'",
    )
}

fn known(at: usize, key: &str) -> Result<()> {
    if NOT_FOLLOWED.contains(&key) {
        let what = format!("{key} is not followed here: leave it out, and name the host itself");
        return Err(wrong(at, &what));
    }
    match KEYS.contains(&key) {
        true => Ok(()),
        false => Err(wrong(at, "libpq knows no such key")),
    }
}

/// What libpq takes for a blank.
fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c')
}

/// `host=db1 password='a b'`
fn from_words(text: &str) -> Result<BTreeMap<String, String>> {
    let mut pairs = BTreeMap::new();
    let mut chars = (1..).zip(text.chars()).peekable();
    loop {
        skip_blanks(&mut chars);
        let Some((at, _)) = chars.peek().copied() else {
            return Ok(pairs);
        };
        let mut key = String::new();
        while let Some((_, c)) = chars.next_if(|(_, c)| *c != '=' && !is_blank(*c)) {
            key.push(c);
        }
        skip_blanks(&mut chars);
        if key.is_empty() || chars.next_if(|(_, c)| *c == '=').is_none() {
            return Err(no_pair(at));
        }
        known(at, &key)?;
        skip_blanks(&mut chars);
        pairs.insert(key, value(&mut chars)?);
    }
}

fn skip_blanks(chars: &mut Peekable<impl Iterator<Item = (usize, char)>>) {
    while chars.next_if(|(_, c)| is_blank(*c)).is_some() {}
}

fn value(chars: &mut Peekable<impl Iterator<Item = (usize, char)>>) -> Result<String> {
    let quote = chars.next_if(|(_, c)| *c == '\'');
    let mut value = String::new();
    loop {
        match (chars.next(), quote) {
            (Some((_, '\'')), Some(_)) | (None, None) => return Ok(value),
            (Some((_, '\\')), _) => value.extend(chars.next().map(|(_, c)| c)),
            (Some((_, c)), None) if is_blank(c) => return Ok(value),
            (Some((_, c)), _) => value.push(c),
            (None, Some((at, _))) => return Err(wrong(at, "the quote is not closed")),
        }
    }
}

/// A piece of the string, and the number of its first character.
#[derive(Clone, Copy)]
struct Piece<'t> {
    at: usize,
    text: &'t str,
}

impl<'t> Piece<'t> {
    /// What stands before and after the first of these characters.
    fn split(self, mark: char) -> Option<(Piece<'t>, Piece<'t>)> {
        Some(self.halves(self.text.split_once(mark)?))
    }

    /// The same at the last one.
    fn rsplit(self, mark: char) -> Option<(Piece<'t>, Piece<'t>)> {
        Some(self.halves(self.text.rsplit_once(mark)?))
    }

    fn halves(self, (before, after): (&'t str, &'t str)) -> (Piece<'t>, Piece<'t>) {
        let behind = self.at + before.chars().count() + 1;
        let piece = |at, text| Piece { at, text };
        (piece(self.at, before), piece(behind, after))
    }
}

/// `user:password@host:port/database?key=value`
fn from_url(rest: Piece<'_>) -> Result<BTreeMap<String, String>> {
    let (rest, query) = rest.split('?').map_or((rest, None), |(a, b)| (a, Some(b)));
    let (authority, database) = rest.split('/').map_or((rest, None), |(a, b)| (a, Some(b)));
    let (login, address) = match authority.rsplit('@') {
        Some((login, address)) => (Some(login), address),
        None => (None, authority),
    };
    let (user, password) = match login.and_then(|login| login.split(':')) {
        Some((user, password)) => (Some(user), Some(password)),
        None => (login, None),
    };
    let (host, port) = host_and_port(address)?;
    let mut pairs = BTreeMap::new();
    let mut put = |key: &str, piece: Piece<'_>| {
        let value = decoded(piece)?;
        if !value.is_empty() {
            pairs.insert(key.to_owned(), value);
        }
        anyhow::Ok(())
    };
    for (key, piece) in [
        ("user", user),
        ("password", password),
        ("host", Some(host)),
        ("port", port),
        ("dbname", database),
    ] {
        piece.map(|piece| put(key, piece)).transpose()?;
    }
    let mut rest = query;
    while let Some(query) = rest {
        let (pair, more) = query
            .split('&')
            .map_or((query, None), |(a, b)| (a, Some(b)));
        rest = more;
        if pair.text.is_empty() {
            continue;
        }
        let (key, value) = pair.split('=').ok_or_else(|| no_pair(pair.at))?;
        known(key.at, key.text)?;
        put(key.text, value)?;
    }
    Ok(pairs)
}

/// `host:port`, `[::1]:port`
fn host_and_port(address: Piece<'_>) -> Result<(Piece<'_>, Option<Piece<'_>>)> {
    let Some((_, inner)) = address
        .split('[')
        .filter(|(before, _)| before.text.is_empty())
    else {
        return Ok(match address.rsplit(':') {
            Some((host, port)) => (host, Some(port)),
            None => (address, None),
        });
    };
    let Some((host, behind)) = inner.split(']') else {
        return Err(wrong(address.at, "the bracket is not closed"));
    };
    match behind.split(':') {
        Some((nothing, port)) if nothing.text.is_empty() => Ok((host, Some(port))),
        None if behind.text.is_empty() => Ok((host, None)),
        _ => Err(wrong(behind.at, "expected a colon and the port")),
    }
}

fn decoded(piece: Piece<'_>) -> Result<String> {
    let what = "expected two hexadecimal digits after each % of this part, and UTF-8 in the end";
    let wrong = || wrong(piece.at, what);
    let digit = |byte: Option<u8>| {
        let digit = char::from(byte?).to_digit(16)?;
        u8::try_from(digit).ok()
    };
    let mut bytes = Vec::new();
    let mut rest = piece.text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let (Some(high), Some(low)) = (digit(rest.next()), digit(rest.next())) else {
            return Err(wrong());
        };
        bytes.push(high * 16 + low);
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}
