//! A view of the ledger by contract, kept in sled: for finding an entry without replaying.
//!
//! May be lost: yes, it is rebuilt from the flat files at the next start. Rolled back: the same. Forged: what it names is
//! looked up in the log itself. Grows by some 50 bytes an entry. sled acknowledges writes that a crash then loses, which
//! is why nothing but what can be rebuilt may ever be here.

use std::path::PathBuf;

use super::fatal::Fatal;
use super::ledger::Ledger;

const SIZE: &[u8] = b"size";

fn broken(error: sled::Error) -> Fatal {
    Fatal::Ledger(format!("the index: {error}; delete the folder state/index, it is rebuilt"))
}

/// Follows the final part of the ledger until the ledger ends.
pub async fn keep(dir: PathBuf, ledger: Ledger) -> Result<(), Fatal> {
    let mut finals = ledger.watch_final();
    let index = tokio::task::block_in_place(|| Index::open(dir))?;
    loop {
        tokio::task::block_in_place(|| index.follow(&ledger))?;
        if finals.changed().await.is_err() {
            return Ok(());
        }
    }
}

/// The view.
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

    /// Takes in what became final since the last time. The size is written last, so that a crash repeats work at most.
    pub fn follow(&self, ledger: &Ledger) -> Result<(), Fatal> {
        let from = self.size()?;
        let size = ledger.final_size();
        if from > size {
            self.db.clear().map_err(broken)?;
            return self.follow(ledger);
        }
        for (index, contract) in ledger.contracts_of(from..size)? {
            let key = [contract.as_bytes(), b"/", &index.to_be_bytes()].concat();
            self.db.insert(key, &[]).map_err(broken)?;
        }
        self.db.insert(SIZE, &size.to_be_bytes()).map_err(broken)?;
        Ok(())
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
}
