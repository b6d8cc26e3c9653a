//! The receipt that lies beside a result: every entry of its contract, each with a proof, so that anybody can check offline
//! what was agreed, what ran, and that this is the result it gave.

use leben_contracts::agreement::body::Body;
use leben_contracts::agreement::hash::{ContractId, Hash32};
use leben_contracts::ledger::entry::Entry;
use serde::{Deserialize, Serialize};

/// Largest receipt, in bytes.
pub const RECEIPT_BYTES_MAX: usize = 16 << 20;

/// Without these there is no result: what was asked, that it was agreed, what came of it.
const REQUIRED: [&str; 3] = ["Propose", "Arm", "Deliver"];

/// `receipt.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// Format version, 1.
    pub v: u32,
    /// Origin of the log.
    pub origin: String,
    /// The contract.
    pub contract: ContractId,
    /// What its signatories signed.
    pub terms_hash: Hash32,
    /// What the ledger holds of the result.
    pub result_commitment: Hash32,
    /// The contract's entries in the order of the log.
    pub entries: Vec<Item>,
}

/// One entry of the contract.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Item {
    /// Its index.
    pub index: u64,
    /// Its kind.
    pub kind: String,
    /// Its exact bytes: a file beside the receipt.
    pub entry: String,
    /// Its proof (C2SP tlog-proof): a file beside the receipt.
    pub proof: String,
}

impl Item {
    /// Names the two files of an entry.
    pub fn new(index: u64, kind: &str) -> Item {
        let base = format!("entries/{index:06}-{kind}");
        Item { index, kind: kind.to_owned(), entry: format!("{base}.json"), proof: format!("{base}.tlog-proof") }
    }
}

impl Receipt {
    /// Reads a receipt.
    ///
    /// # Errors
    /// In words: what is wrong with it.
    pub fn from_bytes(bytes: &[u8]) -> Result<Receipt, String> {
        let receipt: Receipt = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if receipt.v != 1 {
            return Err(format!("it has version {}, this program knows 1", receipt.v));
        }
        for item in &receipt.entries {
            if *item != Item::new(item.index, &item.kind) || item.kind.contains(['/', '.']) {
                return Err(format!("the files of entry {} have other names than they should", item.index));
            }
        }
        if !receipt.entries.is_sorted_by(|one, next| one.index < next.index) {
            return Err("its entries are not in the order of the log, each once".into());
        }
        match REQUIRED.iter().find(|kind| receipt.entries.iter().all(|item| item.kind != **kind)) {
            Some(kind) => Err(format!("it lists no {kind} entry")),
            None => Ok(receipt),
        }
    }

    /// Whether an entry belongs to this contract and says what the receipt says. Returns what it says.
    ///
    /// # Errors
    /// In words: what differs.
    pub fn check_entry(&self, entry: &Entry) -> Result<Body, String> {
        let action = entry.action();
        let body = Body::parse(&action.kind, &action.body).map_err(|error| error.to_string())?;
        let own = match &body {
            Body::Propose(_) => Hash32(entry.envelope().payload_hash()) == self.contract,
            _ => action.contract.as_deref() == Some(self.contract.to_string().as_str()),
        };
        if !own {
            return Err("it belongs to another contract".into());
        }
        match &body {
            Body::Deliver(deliver) if deliver.result_commitment != self.result_commitment => {
                Err("the ledger commits to another result than the receipt".into())
            }
            Body::Arm(arm) if arm.terms_hash != self.terms_hash => {
                Err("other terms were armed than the receipt names".into())
            }
            _ => Ok(body),
        }
    }

    /// Whether these are the result's bytes.
    ///
    /// # Errors
    /// In words.
    pub fn check_result(&self, bundle: &[u8]) -> Result<(), String> {
        if commitment(bundle) == self.result_commitment {
            return Ok(());
        }
        Err("is not the result that the ledger commits to: it was changed after it was delivered".into())
    }
}

/// What the ledger holds of a result, see [`leben_models::bundle::commitment`].
pub fn commitment(bundle: &[u8]) -> Hash32 {
    Hash32(leben_models::bundle::commitment(bundle))
}
