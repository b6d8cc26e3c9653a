//! Many byte strings in one frame, each moved as a whole: the same bytes as a plain `Vec<Vec<u8>>`, which serde takes byte by byte.

use std::fmt;

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub(crate) fn serialize<S: Serializer>(leaves: &[Vec<u8>], serializer: S) -> Result<S::Ok, S::Error> {
    struct Leaf<'a>(&'a [u8]);
    impl Serialize for Leaf<'_> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_bytes(self.0)
        }
    }
    serializer.collect_seq(leaves.iter().map(|leaf| Leaf(leaf)))
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Vec<u8>>, D::Error> {
    let leaves = Vec::<Leaf>::deserialize(deserializer)?;
    Ok(leaves.into_iter().map(|leaf| leaf.0).collect())
}

struct Leaf(Vec<u8>);

impl<'de> Deserialize<'de> for Leaf {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_byte_buf(Bytes).map(Self)
    }
}

struct Bytes;

impl<'de> Visitor<'de> for Bytes {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes")
    }
    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
        Ok(bytes.to_vec())
    }
    fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Vec<u8>, E> {
        Ok(bytes)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<u8>, A::Error> {
        let mut bytes = Vec::new();
        while let Some(byte) = seq.next_element()? {
            bytes.push(byte);
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{decode, encode};
    use crate::wire::Wire;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Whole(#[serde(with = "super")] Vec<Vec<u8>>);
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Plain(Vec<Vec<u8>>);
    impl Wire for Whole {}
    impl Wire for Plain {}

    #[test]
    fn the_bytes_are_those_of_a_plain_list() {
        for leaves in [vec![], vec![vec![]], vec![vec![1], vec![], (0..=255).collect(), vec![7; 3000]]] {
            let bytes = encode(&Whole(leaves.clone())).unwrap();
            assert_eq!(bytes, encode(&Plain(leaves.clone())).unwrap());
            assert_eq!(decode::<Whole>(&bytes).unwrap(), Whole(leaves));
            for end in 0..bytes.len() {
                assert!(decode::<Whole>(&bytes[..end]).is_err(), "{end} of {}", bytes.len());
            }
        }
        // A length that nothing follows is not believed.
        let mut promised = encode(&Whole(vec![vec![1]])).unwrap();
        promised[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(decode::<Whole>(&promised).is_err());
    }
}
