//! Taking up the log at a start: from the snapshot, or from the first entry.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use ed25519_dalek::SigningKey;
use leben_contracts::agreement::Recorded;
use leben_contracts::agreement::snapshot::Snapshots;
use leben_contracts::agreement::state::State;
use leben_contracts::ledger::entry::Entry;
use leben_contracts::ledger::follow::Follower;
use leben_contracts::ledger::merkle::Hash;
use leben_contracts::ledger::note::{KeyType, Note, NoteSigner, VerifierKey};
use leben_contracts::ledger::policy::{Policy, UnknownSigners};
use leben_contracts::ledger::prepare;
use leben_contracts::ledger::sequencer::{Sequencer, TurnPoint};
use leben_contracts::ledger::store::{LogReader, LogStore};
use leben_contracts::ledger::turn::Turns;

use super::author::Author;
use super::clock::now_ms;
use super::door::Door;
use super::fatal::Fatal;
use super::ledger::{Callers, Final, no_policy};
use super::metrics::Metrics;
use super::sequence::{Sequence, broken};
use crate::drift;
use crate::finality::Finality;
use crate::roll_call::RollCall;

/// Entries replayed at a time.
const STEP: u64 = 512;

/// The log, replayed.
struct Replayed {
    follower: Follower<Recorded>,
    certain: State,
    snapshots: Snapshots,
    /// Every quorum that may have made a checkpoint final which this folder does not know: the one of the published size and
    /// those of everything committed since.
    policies: Vec<Policy>,
    /// Whether what is published is known to be final.
    is_final: bool,
    /// The policy in force at the published size.
    policy: Option<Policy>,
    /// The policy before the last published entry, if that one is a turn which is not known to be final.
    before: Option<Policy>,
    /// Turns that are not final yet.
    points: VecDeque<TurnPoint>,
}

/// The state after some part of the log that is final.
fn take_up(snapshots: &mut Snapshots, store: &LogStore, origin: &str, published: u64) -> State {
    match snapshots.load(origin, &store.reader(), store.size(), published) {
        Ok(Some(state)) => state,
        Ok(None) => State::new(origin),
        Err(error) => {
            tracing::warn!(%error, "the snapshot is not used; the ledger is replayed from its first entry");
            State::new(origin)
        }
    }
}

fn replay(store: &LogStore, origin: &str, published: u64) -> Result<Replayed, Fatal> {
    let (size, reader) = (store.size(), store.reader());
    let mut snapshots = Snapshots::new(store.state_dir());
    let mut certain = take_up(&mut snapshots, store, origin, published);
    let taken_up = certain.next_index();
    let mut policies = Vec::from_iter(certain.witness_policy().filter(|_| taken_up == published));
    let (mut points, mut turns) = (VecDeque::new(), Turns::new(certain.witness_policy()));
    let (mut policy, mut before) = (certain.witness_policy(), None);
    // A snapshot is only made of what is final.
    let is_final = taken_up == published || store.final_turn().map_err(broken)? >= published;
    let mut follower = Follower::resume(origin, taken_up, certain.now_ms(), Recorded::new(certain.clone()));
    let prepared = |range: Range<u64>, keys: &State| {
        Ok::<_, Fatal>(prepare::entries(&reader.entries(range, size).map_err(broken)?, keys))
    };
    let (mut from, step) = (taken_up, |from: u64| from..size.min(from + STEP));
    let mut next = prepared(step(from), &certain)?;
    while from < size {
        let here = step(from);
        from = here.end;
        let mut take = |index: u64, entry: Entry| {
            follower.apply(&entry).map_err(broken)?;
            let turn = turns.step(&entry.action().kind, || follower.replay().state().witness_policy());
            if index + 1 >= published
                && let Some(policy) = turns.policy()
                && policies.last() != Some(policy)
            {
                policies.push(policy.clone());
            }
            if index + 1 == published {
                policy = turns.policy().cloned();
            }
            let Some(turn) = turn else { return Ok(()) };
            if index + 1 == published {
                before = turn.old.filter(|_| !is_final);
            } else if index >= published {
                let root = reader.root_at(index + 1, size).map_err(broken)?;
                points.push_back(TurnPoint { size: index + 1, root, policy: turn.new });
            }
            Ok::<_, Fatal>(())
        };
        // While these are taken in their order, the signatures of the next are verified.
        let (taken, ahead) = rayon::join(
            || here.zip(next).try_for_each(|(index, entry)| take(index, entry.map_err(broken)?)),
            || prepared(step(from), &certain),
        );
        taken?;
        next = ahead?;
        // Those whom that turn sends away have to say that they hold it, and are let in by the keys of before it.
        while let Some(applied) = follower.replay_mut().take(published - u64::from(before.is_some())) {
            certain.follow(applied).map_err(broken)?;
        }
    }
    Ok(Replayed { follower, certain, snapshots, policies, is_final, policy, before, points })
}

/// The published checkpoint. It was cosigned when it was published: what is not, any more, was changed since.
fn published_note(reader: &LogReader, policy: &Policy, observers: &[VerifierKey]) -> Result<Note, Fatal> {
    let note = reader.checkpoint().map_err(broken)?;
    // An outside witness that the settings name no longer may still stand on it; then the policy beside it has its key.
    let beside = reader.policy().map_err(broken)?;
    let listed = beside.iter().flat_map(Policy::observers).chain(observers);
    policy.with_observers(listed).evaluate(&note, UnknownSigners::Refuse).map_err(|error| {
        let path = reader.dir().join("checkpoint");
        broken(format!("{} is damaged: {error}; copy it from a hospital's mirror/public", path.display()))
    })?;
    Ok(policy.with_observers(observers).known_lines(&note))
}

fn root_of(reader: &LogReader, certain: u64, size: u64) -> Result<Hash, Fatal> {
    match certain {
        0 => Ok([0; 32]),
        _ => reader.root_at(certain, size).map_err(broken),
    }
}

impl Sequence {
    /// Takes up the log, from the snapshots that come back where they are of use. What is published was final or becomes it: it is what
    /// the state is of, and is acknowledged once it is known to be final. The rest goes to the witnesses again.
    pub(super) fn recover(
        store: LogStore,
        log_key: SigningKey,
        origin: &str,
        author: Author,
        metrics: Arc<Metrics>,
        batch_max: usize,
        observers: Vec<VerifierKey>,
    ) -> Result<(Sequence, Final, Snapshots), Fatal> {
        let signer = NoteSigner::new(origin, KeyType::Ed25519, log_key).map_err(broken)?;
        let log: VerifierKey = signer.vkey().clone();
        let (size, reader) = (store.size(), store.reader());
        let published = store.published().map_or(0, |head| head.size);
        let Replayed { follower, certain, snapshots, policies, is_final, policy, before, points: turns } =
            replay(&store, origin, published)?;
        let policy = policy.map_or_else(|| no_policy(&log), Ok)?;
        let note = (published > 0).then(|| published_note(&reader, &policy, &observers)).transpose()?;
        let finality = match note {
            Some(note) if !is_final => Finality::resume(note, policy, before).map_err(broken)?,
            note => Finality::new(published, note.map(|note| note.to_string()), policy),
        };
        let root = root_of(&reader, certain.next_index(), size)?;
        let final_part = Final { state: certain, root };
        let builder = store.builder().map_err(broken)?;
        let sequencer = Sequencer::new(signer, builder, follower).map_err(broken)?;
        let callers = Callers::default();
        drift::check(sequencer.state().state().now_ms(), now_ms())?;
        let door = Door::new(RollCall::new(policies), metrics.clone());
        let sequence = Sequence {
            store,
            sequencer,
            log,
            author,
            finality: finality.with_observers(observers),
            final_size: if is_final { published } else { 0 },
            turns,
            callers,
            door,
            metrics,
            batch_max,
            index: Arc::default(),
            snapshot: None,
        };
        Ok((sequence, final_part, snapshots))
    }
}
