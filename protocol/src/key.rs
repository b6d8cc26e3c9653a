//! How a key looks to a person.

use sha2::{Digest, Sha256};

/// The fingerprint of an ed25519 public key: the first 16 bytes of SHA-256 over its 32 bytes, in hex, in groups of four
/// digits. Two people compare it over the telephone; finding another key with the same one costs 2^128 tries.
pub fn fingerprint(key: &[u8; 32]) -> String {
    let digest = Sha256::digest(key);
    let groups: Vec<String> = digest.chunks(2).take(8).map(hex::encode).collect();
    groups.join("-")
}

#[cfg(test)]
mod tests {
    use super::fingerprint;

    // printf '\0%.0s' {1..32} | sha256sum
    #[test]
    fn is_the_start_of_sha256() {
        assert_eq!(fingerprint(&[0; 32]), "6668-7aad-f862-bd77-6c8f-c18b-8e9f-8e20");
    }
}
