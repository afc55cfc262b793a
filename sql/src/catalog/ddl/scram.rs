//! SCRAM-SHA-256 verifiers (RFC 5803), as `pg_authid.rolpassword` holds them.

use sha2::{Digest, Sha256};

/// Rounds of hashing, Postgres' default.
pub const ITERATIONS: u32 = 4096;
/// Bytes of a salt.
pub const SALT_BYTES: usize = 16;
const BLOCK_BYTES: usize = 64;

/// HMAC-SHA-256 (RFC 2104).
pub fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut padded = [0; BLOCK_BYTES];
    if key.len() > BLOCK_BYTES {
        padded[..32].copy_from_slice(&Sha256::digest(key));
    } else {
        padded[..key.len()].copy_from_slice(key);
    }
    let mut inner = Sha256::new_with_prefix(padded.map(|byte| byte ^ 0x36));
    parts.iter().for_each(|part| inner.update(part));
    let mut outer = Sha256::new_with_prefix(padded.map(|byte| byte ^ 0x5c));
    outer.update(inner.finalize());
    outer.finalize().into()
}

/// The salted password: `Hi` of RFC 5802.
pub fn salted_password(password: &str, salt: &[u8], iterations: u32) -> [u8; 32] {
    let mut block = hmac(password.as_bytes(), &[salt, &1u32.to_be_bytes()]);
    let mut result = block;
    for _ in 1..iterations {
        block = hmac(password.as_bytes(), &[&block]);
        result.iter_mut().zip(block).for_each(|(sum, byte)| *sum ^= byte);
    }
    result
}

/// The stored key and the server key of a salted password.
pub fn keys(salted: &[u8; 32]) -> ([u8; 32], [u8; 32]) {
    let client = hmac(salted, &[b"Client Key"]);
    (Sha256::digest(client).into(), hmac(salted, &[b"Server Key"]))
}

/// `SCRAM-SHA-256$<iterations>:<salt>$<stored key>:<server key>` of a password. The salt comes from outside
/// and must be random.
pub fn verifier(password: &str, salt: &[u8]) -> String {
    let (stored, server) = keys(&salted_password(password, salt, ITERATIONS));
    format!("SCRAM-SHA-256${ITERATIONS}:{}${}:{}", base64(salt), base64(&stored), base64(&server))
}

/// Whether a text is a verifier already: PASSWORD takes those as they are.
pub fn is_verifier(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("SCRAM-SHA-256$") else { return false };
    let Some((head, keys)) = rest.split_once('$') else { return false };
    let well_formed = |text: &str, length: usize| {
        text.len() == length && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte))
    };
    head.split_once(':')
        .is_some_and(|(count, salt)| count.parse::<u32>().is_ok_and(|count| count > 0) && !salt.is_empty())
        && keys.split_once(':').is_some_and(|(stored, server)| well_formed(stored, 44) && well_formed(server, 44))
}

/// Base64 with padding (RFC 4648).
pub fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for digit in 0..4 {
            if digit <= chunk.len() {
                text.push(char::from(ALPHABET[(word >> (18 - 6 * digit)) as usize & 63]));
            } else {
                text.push('=');
            }
        }
    }
    text
}
