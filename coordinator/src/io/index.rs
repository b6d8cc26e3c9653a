//! A view of the ledger by contract and by payload, kept in sled: for finding an entry without replaying.
//!
//! May be lost: yes, it is rebuilt from the flat files at the next start. Rolled back: the same. Forged: what it names is
//! looked up in the log itself. Grows by some 150 bytes an entry. sled acknowledges writes that a crash then loses, which
//! is why nothing but what can be rebuilt may ever be here.

use std::path::PathBuf;

use super::fatal::Fatal;
use super::ledger::Ledger;

const SIZE: &[u8] = b"size";
/// Before a payload hash; a contract's key begins with a hex digit.
const PAYLOAD: &[u8] = b"p/";
/// Entries read at a time.
const STEP: u64 = 4096;

fn broken(error: sled::Error) -> Fatal {
    Fatal::Ledger(format!("the index: {error}; delete the folder state/index, it is rebuilt"))
}

/// Follows the final part of the ledger until the ledger ends.
pub async fn keep(dir: PathBuf, ledger: Ledger) -> Result<(), Fatal> {
    let mut finals = ledger.watch_final();
    let index = tokio::task::block_in_place(|| Index::open(dir))?;
    let _lent = Lent::new(&ledger, &index);
    loop {
        tokio::task::block_in_place(|| index.follow(&ledger))?;
        if finals.changed().await.is_err() {
            return Ok(());
        }
    }
}

/// The index in the ledger's hands, taken back when whoever keeps it ends: sled's lock is on the folder for as long as anybody has it.
struct Lent(Ledger);

impl Lent {
    fn new(ledger: &Ledger, index: &Index) -> Lent {
        ledger.set_index(Some(index.clone()));
        Lent(ledger.clone())
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.0.set_index(None);
    }
}

/// The view.
#[derive(Clone)]
pub struct Index {
    db: sled::Db,
}

impl Index {
    /// Opens it; one that cannot be read is thrown away.
    pub fn open(dir: PathBuf) -> Result<Index, Fatal> {
        match sled::open(&dir) {
            Ok(db) => Ok(Index { db }),
            Err(error) => {
                tracing::warn!(%error, "the index is unreadable and is rebuilt");
                std::fs::remove_dir_all(&dir)?;
                sled::open(&dir).map(|db| Index { db }).map_err(broken)
            }
        }
    }

    /// Takes in what became final since the last time. A step's size is written after it, so that a crash repeats work at most.
    pub fn follow(&self, ledger: &Ledger) -> Result<(), Fatal> {
        let from = self.size()?;
        let size = ledger.final_size();
        if from > size {
            self.db.clear().map_err(broken)?;
            return self.follow(ledger);
        }
        for from in (from..size).step_by(usize::try_from(STEP).unwrap_or(usize::MAX)) {
            let to = size.min(from.saturating_add(STEP));
            let mut batch = sled::Batch::default();
            for listed in ledger.list(from..to)? {
                let index = listed.index.to_be_bytes();
                batch.insert([PAYLOAD, &listed.payload].concat(), &index);
                if let Some(contract) = &listed.contract {
                    batch.insert([contract.as_bytes(), b"/", &index].concat(), &[]);
                }
            }
            self.db.apply_batch(batch).map_err(broken)?;
            self.db.insert(SIZE, &to.to_be_bytes()).map_err(broken)?;
        }
        Ok(())
    }

    /// Where an action was recorded, by its payload hash.
    pub fn find(&self, payload: &[u8; 32]) -> Result<Option<u64>, Fatal> {
        let index = self.db.get([PAYLOAD, payload].concat()).map_err(broken)?;
        Ok(index.and_then(|bytes| bytes.as_ref().try_into().ok()).map(u64::from_be_bytes))
    }

    /// Entries taken in.
    pub fn size(&self) -> Result<u64, Fatal> {
        let size = self.db.get(SIZE).map_err(broken)?;
        Ok(size.and_then(|bytes| bytes.as_ref().try_into().ok()).map_or(0, u64::from_be_bytes))
    }

    /// Indices of a contract's entries, in order.
    pub fn entries_of(&self, contract: &str) -> Result<Vec<u64>, Fatal> {
        let mut found = Vec::new();
        for entry in self.db.scan_prefix([contract.as_bytes(), b"/"].concat()) {
            let (key, _) = entry.map_err(broken)?;
            let tail = key.len().checked_sub(8).and_then(|at| key.get(at..));
            found.extend(tail.and_then(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes));
        }
        Ok(found)
    }

    /// Everything in it, in order, a key and its value on a line.
    #[cfg(test)]
    pub(super) fn content(&self) -> Result<Vec<String>, Fatal> {
        let line = |(key, value): (sled::IVec, sled::IVec)| format!("{} {}", hex::encode(key), hex::encode(value));
        self.db.iter().map(|pair| pair.map(line).map_err(broken)).collect()
    }
}
