//! A frame for tests, needing no feature.

use leben_protocol::wire::Wire;
use serde::{Deserialize, Serialize};

/// A frame of the tests' own, with one of everything that frames are made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Note {
    Text(String),
    Bytes(Vec<u8>),
    Table(Vec<Vec<u32>>),
    Maybe { key: [u8; 32], at_ms: Option<u64>, yes: bool, real: f64 },
}

impl Wire for Note {}
