//! Hashing with a domain, and HKDF-SHA256 for one 32-byte key (RFC 5869).

use hkdf::HkdfExtract;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

/// SHA-256 over a domain string and length-prefixed fields: injective, so two different inputs never meet.
pub(crate) struct Digest(Sha256);

impl Digest {
    pub fn new(domain: &[u8]) -> Self {
        Digest(Sha256::new()).field(domain)
    }

    pub fn field(mut self, bytes: &[u8]) -> Self {
        self.0.update((bytes.len() as u64).to_be_bytes());
        self.0.update(bytes);
        self
    }

    pub fn u64(mut self, value: u64) -> Self {
        self.0.update(value.to_be_bytes());
        self
    }

    pub fn finish(self) -> [u8; 32] {
        self.0.finalize().into()
    }
}

/// The first 32 bytes of HKDF-SHA256(salt, ikm, info), where `info` is the concatenation of its parts.
///
/// One output block is `HMAC(PRK, info || 0x01)` and HKDF-Extract is `HMAC(salt, ikm)`, so both steps are written
/// with the extract half, which cannot fail. The RFC's own vectors hold this down (`tests/known_answers.rs`).
pub(crate) fn derive(salt: &[u8], ikm: &[u8], info: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    let mut extract = HkdfExtract::<Sha256>::new(Some(salt));
    extract.input_ikm(ikm);
    let (mut prk, _) = extract.finalize();
    let mut expand = HkdfExtract::<Sha256>::new(Some(&prk));
    for part in info {
        expand.input_ikm(part);
    }
    expand.input_ikm(&[1]);
    let (mut block, _) = expand.finalize();
    let mut out = Zeroizing::new([0u8; 32]);
    out.copy_from_slice(&block);
    zeroize::Zeroize::zeroize(prk.as_mut_slice());
    zeroize::Zeroize::zeroize(block.as_mut_slice());
    out
}

#[cfg(test)]
mod tests {
    use super::derive;

    /// RFC 5869 appendix A.1 and A.3: first 32 bytes of OKM.
    #[test]
    fn rfc_5869_first_block() {
        let ikm = [0x0b; 22];
        let salt: Vec<u8> = (0..=0x0c).collect();
        let info: Vec<u8> = (0xf0..=0xf9).collect();
        let okm = derive(&salt, &ikm, &[&info[..4], &info[4..]]);
        assert_eq!(hex::encode(*okm), "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf");
        let okm = derive(&[], &ikm, &[]);
        assert_eq!(hex::encode(*okm), "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d");
    }
}
