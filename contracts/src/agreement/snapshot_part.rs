//! What only grows in a state, and the contracts, one by one. What was written once is right for ever, so that a snapshot adds what
//! is new: an ended contract, a deposit's receipt, an action that could still be sent again.
//!
//! ```text
//! 0  length  JSON                        a contract that has not ended
//! 1  id  index  length  JSON             one that has, as the entry at this index left it; a later one of the same id replaces it
//! 2  receipt                             a deposit
//! 3  index  from when  payload           an action, and from when it may be forgotten
//! ```

use super::contract::Contract;
use super::hash::Hash32;
use super::kept::{Kept, Packed, Run};
use super::seen::{Record, Seen};
use super::snapshot::SnapshotError;
use super::state::State;
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Arc;

/// How much of what only grows was written: everything that came later is new.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Marks {
    index: u64,
    receipts: usize,
}

impl Marks {
    pub(super) fn of(state: &State) -> Self {
        Self { index: state.next_index, receipts: state.receipts.len() }
    }
}

/// What is new in a state. Cheap to take: what is large is shared with the state.
#[derive(Debug)]
pub(super) struct News {
    ended: Vec<Arc<Packed>>,
    receipts: Vec<Hash32>,
    seen: Vec<Record>,
}

impl News {
    pub(super) fn since(marks: &Marks, state: &State) -> Self {
        Self {
            ended: state.contracts.ended_since(marks.index).cloned().collect(),
            receipts: state.receipts.since(marks.receipts).to_vec(),
            seen: state.seen.since(marks.index).collect(),
        }
    }

    /// As files, none of them much longer than `bytes_max`; each record lies in one of them.
    pub(super) fn files(&self, bytes_max: usize) -> Vec<Vec<u8>> {
        let mut out = Writer { bytes_max, full: Vec::new(), last: Vec::new() };
        for packed in &self.ended {
            out.put(&[&[1], &packed.id.0, &be(packed.index), &len(packed.json()), packed.json()]);
        }
        for receipt in &self.receipts {
            out.put(&[&[2], &receipt.0]);
        }
        for (index, forget_ms, payload) in &self.seen {
            out.put(&[&[3], &be(*index), &be(*forget_ms), &payload.0]);
        }
        out.full.extend(Some(out.last).filter(|last| !last.is_empty()));
        out.full
    }
}

/// Contracts that have not ended.
pub(super) fn open(contracts: &[Arc<Contract>]) -> Result<Vec<u8>, SnapshotError> {
    let mut out = Vec::new();
    for contract in contracts {
        let json = serde_json::to_vec(contract).map_err(|_| SnapshotError::Damaged("a contract has no JSON"))?;
        out.push(0);
        out.extend_from_slice(&len(&json));
        out.extend_from_slice(&json);
    }
    Ok(out)
}

struct Writer {
    bytes_max: usize,
    full: Vec<Vec<u8>>,
    last: Vec<u8>,
}

impl Writer {
    fn put(&mut self, record: &[&[u8]]) {
        record.iter().for_each(|part| self.last.extend_from_slice(part));
        if self.last.len() >= self.bytes_max {
            self.full.push(std::mem::take(&mut self.last));
        }
    }
}

fn be(number: u64) -> [u8; 8] {
    number.to_be_bytes()
}

fn len(bytes: &[u8]) -> [u8; 8] {
    be(bytes.len() as u64)
}

enum One {
    Open(Range<usize>),
    Ended(Packed),
    Receipt(Hash32),
    Seen(Record),
}

/// Puts back what lies in these files, in this order; behind it the state is whole.
pub(super) fn join(state: &mut State, files: Vec<Vec<u8>>) -> Result<(), SnapshotError> {
    let now_ms = state.now_ms;
    let read: Vec<(Vec<One>, Vec<Kept>)> =
        files.into_par_iter().map(|file| records(file, now_ms)).collect::<Result<_, _>>()?;
    let mut seen = Vec::new();
    for (records, open) in read {
        for one in records {
            match one {
                One::Ended(packed) => state.contracts.join(Kept::Ended(Arc::new(packed))),
                One::Receipt(receipt) => state.receipts.insert(receipt),
                One::Seen(record) => seen.push(record),
                One::Open(_) => {}
            }
        }
        open.into_iter().for_each(|kept| state.contracts.join(kept));
    }
    state.seen = Seen::from(seen);
    Ok(())
}

fn records(file: Vec<u8>, now_ms: u64) -> Result<(Vec<One>, Vec<Kept>), SnapshotError> {
    let file = Arc::new(file);
    let (mut rest, mut found) = (Reader::new(&file), Vec::new());
    while !rest.is_empty() {
        match rest.record(&file)? {
            One::Seen((_, forget_ms, _)) if forget_ms < now_ms => {}
            one => found.push(one),
        }
    }
    let open: Vec<Range<usize>> =
        found.iter().filter_map(|one| if let One::Open(range) = one { Some(range.clone()) } else { None }).collect();
    let read = |range: Range<usize>| {
        let contract = serde_json::from_slice(file.get(range).unwrap_or_default());
        contract.map(|contract: Contract| Kept::Open(Arc::new(contract)))
    };
    let open = open.into_par_iter().map(read).collect::<Result<_, _>>();
    Ok((found, open.map_err(|_| SnapshotError::Damaged("a contract cannot be read"))?))
}

/// Reads what a snapshot is made of.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, at: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], SnapshotError> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(SnapshotError::Damaged("it ends early"))?;
        (self.rest, self.at) = (rest, self.at.saturating_add(len));
        Ok(taken)
    }

    pub(super) fn chunk<const N: usize>(&mut self) -> Result<[u8; N], SnapshotError> {
        self.take(N)?.try_into().map_err(|_| SnapshotError::Damaged("it ends early"))
    }

    pub(super) fn number(&mut self) -> Result<u64, SnapshotError> {
        self.chunk().map(u64::from_be_bytes)
    }

    pub(super) fn run(&mut self) -> Result<&'a [u8], SnapshotError> {
        let len = usize::try_from(self.number()?).map_err(|_| SnapshotError::Damaged("it ends early"))?;
        self.take(len)
    }

    fn range(&mut self) -> Result<Range<usize>, SnapshotError> {
        let len = self.run()?.len();
        Ok(self.at.saturating_sub(len)..self.at)
    }

    fn record(&mut self, file: &Arc<Vec<u8>>) -> Result<One, SnapshotError> {
        Ok(match self.chunk()? {
            [0] => One::Open(self.range()?),
            [1] => {
                let (id, index) = (Hash32(self.chunk()?), self.number()?);
                One::Ended(Packed::new(id, index, Run::new(file.clone(), self.range()?)))
            }
            [2] => One::Receipt(Hash32(self.chunk()?)),
            [3] => One::Seen((self.number()?, self.number()?, Hash32(self.chunk()?))),
            _ => return Err(SnapshotError::Damaged("it holds something unknown")),
        })
    }
}
