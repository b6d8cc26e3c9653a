//! A hospital with its whole agent: its own copy of the ledger, its consent, its signatures, and its part in jobs.

use std::collections::BTreeMap;

use leben_contracts::ledger::checkpoint::Checkpoint;
use leben_contracts::ledger::evidence::ForkEvidence;
use leben_contracts::ledger::note::Note;
use leben_contracts::ledger::witness::WitnessRecord;
use leben_models::Table;
use leben_privacy::secure_sum::Journal;
use leben_protocol::frame::{ContractId, JobReport, Report, UploadReply};
use leben_worker::agent::{Action, Agent, Setup, Standing, StoredJob};
use leben_worker::budget::Budgets;
use leben_worker::gossip::{EVERY_MS, Source};
use leben_worker::mirror::{Mirror, MirrorKeys};
use leben_worker::participate::Work;
use leben_worker::refusal::{Reason, Refusal};

use crate::agreement;
use crate::deal::Deal;
use crate::hospital::{Down, Out, Up, Upload, compute};
use crate::log::{compare, log_vkey};
use crate::truth::Truth;

/// What survives the process.
#[derive(Default)]
pub struct Disk {
    leaves: Vec<Vec<u8>>,
    head: Option<Note>,
    record: Option<WitnessRecord>,
    certificate: Option<Note>,
    seeds: BTreeMap<ContractId, [u8; 32]>,
    /// The journals of its jobs.
    pub journals: BTreeMap<ContractId, Journal>,
    standings: BTreeMap<ContractId, Standing>,
    /// The proof that the log has forked, if one was found.
    pub fork: Option<Box<ForkEvidence>>,
}

impl Disk {
    /// Entries under the certificate that would outlive the process.
    pub fn certified_size(&self) -> u64 {
        self.certificate.as_ref().map_or(0, |note| Checkpoint::of(note).unwrap().size)
    }
}

/// One hospital.
pub struct Member {
    /// Its seat, from 1.
    pub seat: u16,
    /// Its name.
    pub name: String,
    /// Its disk.
    pub disk: Disk,
    /// Its audit log: event, code and words.
    pub audit: Vec<String>,
    /// Slots for which its file is not the one that the round was first computed on.
    pub changed_slots: u32,
    table: Table,
    process: Option<Process>,
}

struct Process {
    agent: Agent,
    work: Option<Box<Work>>,
    upload: Option<(ContractId, Upload)>,
}

impl Member {
    /// A hospital with its rows, not started yet.
    pub fn new(seat: u16, table: Table) -> Member {
        let name = agreement::hospital(seat);
        Member { seat, name, disk: Disk::default(), audit: Vec::new(), changed_slots: 0, table, process: None }
    }

    /// The process starts, with what is on its disk.
    pub fn start(&mut self, deal: &Deal, seed: [u8; 32]) {
        let key = |what| agreement::key(&self.name, what);
        let keys = MirrorKeys { witness: key("witness"), validator: key("validator") };
        let mut mirror = Mirror::new(&log_vkey(), &self.name, keys, self.disk.record.clone()).unwrap();
        mirror.restore(&self.disk.leaves, self.disk.certificate.clone()).unwrap();
        let stored = |(id, seed): (&ContractId, &[u8; 32])| {
            let journal = self.disk.journals.get(id).cloned().unwrap_or_default();
            (*id, StoredJob { seed: Some((*seed).into()), journal, pinned: false })
        };
        let agent = Agent::new(Setup {
            party: agreement::id(&self.name),
            party_key: key("party"),
            declared: deal.declared(),
            mirror,
            standings: self.disk.standings.clone(),
            jobs: self.disk.seeds.iter().map(stored).collect(),
            budgets: Budgets::default(),
            seed,
        });
        self.process = Some(Process { agent, work: None, upload: None });
    }

    /// The process dies.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// Whether it runs.
    pub fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// Entries in its copy of the ledger, those of them that are certified, and the size it cosigned last: what it says first on a new link.
    pub fn holds(&self) -> (u64, u64, u64) {
        self.process.as_ref().map_or((0, 0, 0), |process| {
            let mirror = process.agent.mirror();
            (mirror.size(), mirror.certified_size(), mirror.signed_size())
        })
    }

    /// Entries of its copy that are final.
    pub fn certified_size(&self) -> u64 {
        self.process.as_ref().map_or(0, |process| process.agent.mirror().certified_size())
    }

    /// Why it signs nothing more.
    pub fn halted(&self) -> Option<String> {
        self.process.as_ref().and_then(|process| process.agent.mirror().halted().map(ToString::to_string))
    }

    /// What its status warns of.
    pub fn worries(&self, now_ms: u64) -> Vec<String> {
        self.process.as_ref().map_or_else(Vec::new, |process| process.agent.status(now_ms).worries)
    }

    /// Addresses that it asks for views.
    pub fn configure_gossip(&mut self, addresses: Vec<String>) {
        self.process.iter_mut().for_each(|process| process.agent.configure_gossip(addresses.clone(), EVERY_MS));
    }

    /// What it shows at its `listen_view`.
    pub fn view(&self, now_ms: u64) -> Option<String> {
        self.process.as_ref().and_then(|process| process.agent.shown_view(now_ms))
    }

    /// What an address showed, if it answered.
    pub fn handle_view(&mut self, now_ms: u64, address: &str, view: Option<String>) {
        let Some(process) = &mut self.process else { return };
        match view {
            Some(view) => process.agent.handle_view(now_ms, Source::Address(address.to_owned()), view.as_bytes()),
            None => process.agent.handle_no_view(),
        }
    }

    /// The link is up or gone.
    pub fn handle_link(&mut self, up: bool) -> Vec<Out> {
        let Some(process) = &mut self.process else { return Vec::new() };
        match (up, &process.upload) {
            (true, Some((_, upload))) => vec![Out::Send(upload.hello())],
            (true, None) => Vec::new(),
            (false, _) => {
                process.agent.handle_unlinked();
                Vec::new()
            }
        }
    }

    /// A message of the coordinator, or `None`: time passed.
    pub fn handle(&mut self, now_ms: u64, contract: &ContractId, down: Option<Down>, truth: &mut Truth) -> Vec<Out> {
        let Some(process) = &mut self.process else { return Vec::new() };
        let mut out = Vec::new();
        match down {
            None => process.agent.handle_timeout(now_ms),
            Some(Down::Order(order)) => process.agent.handle_order(now_ms, order),
            Some(Down::State(bytes)) => process.agent.handle_state(now_ms, contract, &bytes),
            Some(Down::Appended { key, answer }) => process.agent.handle_appended(now_ms, &key, answer.map_err(Some)),
            Some(Down::Reply { slot, reply }) => process.handle_reply(now_ms, slot, &reply, &mut out),
        }
        self.settle(now_ms, truth, &mut out);
        out
    }

    /// The local half is done.
    pub fn handle_computed(&mut self, now_ms: u64, truth: &mut Truth) -> Vec<Out> {
        let Some(process) = &mut self.process else { return Vec::new() };
        let Some(work) = process.work.take() else { return Vec::new() };
        let (contract, slot, mut out) = (work.contract, work.slot, Vec::new());
        let computed = match self.changed_slots.checked_sub(1) {
            None => compute(*work, self.seat, &self.table, truth),
            Some(left) => {
                self.changed_slots = left;
                Err(Refusal::new(Reason::RowsChanged, "the rows changed since this round was first computed"))
            }
        };
        match computed {
            Ok(masked) => {
                let upload = Upload::new(slot, masked);
                out.push(Out::Send(upload.hello()));
                process.upload = Some((contract, upload));
            }
            Err(refusal) => process.agent.handle_unworkable(now_ms, &contract, slot, &refusal),
        }
        self.settle(now_ms, truth, &mut out);
        out
    }

    fn settle(&mut self, now_ms: u64, truth: &mut Truth, out: &mut Vec<Out>) {
        let Some(process) = &mut self.process else { return };
        let disk = &mut self.disk;
        while let Some(action) = process.agent.poll_action() {
            match action {
                Action::StoreEntries { entries, note } => {
                    disk.leaves.extend(entries);
                    disk.head = Some(note);
                }
                Action::StoreRecord(record) => disk.record = Some(*record),
                Action::StoreCertificate { note, .. } => disk.certificate = Some(note),
                Action::StoreJobSeed { contract, seed } => drop(disk.seeds.insert(contract, *seed)),
                Action::StoreJournal { contract, journal } => drop(disk.journals.insert(contract, journal)),
                Action::StoreStanding { contract, standing } => drop(disk.standings.insert(contract, standing)),
                // Its terms name no mechanism.
                Action::StoreBudget(_) | Action::CheckCohorts(..) => {}
                // Nor for a review.
                Action::FetchReview { .. } | Action::StoreReview { .. } => {}
                Action::ForgetJob { contract } => drop(disk.seeds.remove(&contract)),
                // Simulated hospitals keep the keys they have.
                Action::PromoteKeys => {}
                Action::Report(report) => {
                    if let Report::Job { report: JobReport::Revealed(reveal), .. } = &report {
                        truth.note_reveal(reveal);
                    }
                    out.push(Out::Send(Up::Report(report)));
                }
                Action::Append { key, envelope } => out.push(Out::Send(Up::Append { key, envelope })),
                Action::FetchState { digest, .. } => out.push(Out::Send(Up::Fetch(digest))),
                Action::Work(work) => {
                    (process.upload, process.work) = (None, Some(work));
                    out.push(Out::Compute);
                }
                Action::Trailer { trailer, .. } => {
                    out.extend(process.upload.as_mut().map(|(_, upload)| Out::Send(upload.handle_trailer(*trailer))));
                }
                Action::Cancel { slot, .. } => {
                    process.work.take_if(|work| work.slot == slot);
                    process.upload.take_if(|(_, upload)| upload.slot() == slot);
                }
                Action::Audit(entry) => self.audit.push(format!("{} {:?} {}", entry.event, entry.code, entry.words)),
                Action::CompareView { source, size } => {
                    let head = disk.head.as_ref().expect("a copy with entries");
                    process.agent.handle_compared(now_ms, &source, compare(&disk.leaves, head, size));
                }
                Action::FetchView(address) => out.push(Out::FetchView(address)),
                Action::StoreFork(evidence) => disk.fork = Some(evidence),
                Action::StoreEvidence(evidence) => panic!("an honest log, and yet: {evidence}"),
                Action::Unlink(reject) => panic!("an honest coordinator, and yet: {reject}"),
            }
        }
    }
}

impl Process {
    fn handle_reply(&mut self, now_ms: u64, slot: u64, reply: &UploadReply, out: &mut Vec<Out>) {
        let Some((contract, upload)) = self.upload.as_mut().filter(|(_, upload)| upload.slot() == slot) else { return };
        match reply {
            UploadReply::From { next_index, .. } => {
                out.extend(upload.rest(*next_index).into_iter().map(Out::Send));
                if let Some(root) = upload.ask_root() {
                    self.agent.handle_streamed(now_ms, contract, slot, root);
                }
            }
            UploadReply::Stored | UploadReply::Rejected(_) => self.upload = None,
        }
    }
}
