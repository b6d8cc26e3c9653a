//! From one round of a stage to the next.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use leben_models::{Next, Outcome as Estimate, State};
use leben_privacy::secure_sum::RoundId;
use sha2::{Digest, Sha256};

use super::{Action, Job, Step};
use crate::checkpoint::Finished;
use crate::plan::StagePlan;
use crate::record::{self, Record};
use crate::round::prepare::Preparation;
use crate::round::{self, Opened, Outcome, Round};

impl Job {
    pub(super) fn begin_stage(&mut self, now_ms: u64) {
        let Some(stage) = self.current_stage().cloned() else { return };
        let from = stage.state_from.and_then(|id| self.checkpoint.finished.get(&id)).map(|f| f.state.clone());
        let wanted = self.checkpoint.state.clone().or(from);
        let loaded = match &wanted {
            None => None,
            Some(digest) => match self.states.get(digest) {
                Some(bytes) => match State::from_bytes(bytes) {
                    Ok(state) => Some(state),
                    Err(error) => return self.fail("lost-state", error.to_string()),
                },
                None => return self.fail("lost-state", "a model state is missing from the coordinator's disk".into()),
            },
        };
        let first = match (&self.checkpoint.state, loaded) {
            (Some(_), Some(state)) => Ok(state),
            (_, from) => stage.algorithm.start(from.as_ref()),
        };
        match first {
            Ok(state) => self.begin_round(now_ms, state),
            Err(finding) => self.fail("finding", format!("stage '{}': {finding}", stage.name)),
        }
    }

    pub(super) fn begin_round(&mut self, now_ms: u64, state: State) {
        let (Some(stage), Some(directory)) = (self.current_stage().cloned(), self.directory.clone()) else { return };
        if self.suspended {
            self.say("suspended on the ledger; the next round waits".into());
            self.step = Step::Paused { state };
            return;
        }
        let hospitals_max = u16::try_from(directory.members.len()).unwrap_or(u16::MAX);
        let layout = match stage.algorithm.layout(&state, hospitals_max) {
            Ok(layout) => layout,
            Err(finding) => return self.fail("finding", format!("stage '{}': {finding}", stage.name)),
        };
        let bytes = state.to_bytes();
        let digest: [u8; 32] = Sha256::digest(&bytes).into();
        let opened = Opened {
            contract: self.plan.contract,
            round_id: RoundId { stage: stage.id, round: self.checkpoint.round },
            model_digest: digest,
            state_bytes: bytes.len() as u64,
            layout: Arc::new(layout),
            hospitals_max,
            checkpoint: self.root,
            epoch: self.checkpoint.epoch,
            directory,
        };
        self.checkpoint.started.get_or_insert_with(|| hex::encode(digest));
        self.checkpoint.state = Some(hex::encode(digest));
        // From here on the state is in the step and on the disk; a second copy here would grow with every round.
        self.forget_states();
        self.actions.push_back(Action::StoreState { digest, bytes });
        self.actions.push_back(Action::Remember(self.checkpoint.clone()));
        let preparation = self.preparation.take().unwrap_or_else(|| Preparation::new(self.checkpoint.slot + 1));
        self.say(format!("{} round {} of at most {}", stage.name, self.checkpoint.round, stage.rounds_max));
        let round = Round::new(stage.rules.clone(), opened, preparation, self.checkpoint.pinned.clone());
        self.step = Step::Run { state, round: Box::new(round) };
        if let Step::Run { round, .. } = &mut self.step {
            round.handle_timeout(now_ms, &self.roster);
        }
    }

    /// Takes what the round wants done, and its outcome when there is one.
    pub(super) fn settle_down(&mut self, now_ms: u64) {
        loop {
            let Step::Run { round, .. } = &mut self.step else { return };
            let mut actions = VecDeque::new();
            while let Some(action) = round.poll_action() {
                actions.push_back(action);
            }
            let outcome = round.poll_outcome();
            self.forward(actions);
            let Some((outcome, preparation)) = outcome else { return };
            self.preparation = Some(preparation);
            self.handle_outcome(now_ms, outcome);
        }
    }

    pub(super) fn forward(&mut self, actions: VecDeque<round::Action>) {
        for action in actions {
            match action {
                round::Action::Send { seat, order } => {
                    let hospital = self.roster.name(seat).to_owned();
                    self.actions.push_back(Action::Send { hospital, order });
                }
                round::Action::Remember { slot, pinned } => {
                    self.checkpoint.slot = self.checkpoint.slot.max(slot);
                    if pinned.is_some() {
                        self.checkpoint.pinned = pinned;
                    }
                    self.actions.push_back(Action::Remember(self.checkpoint.clone()));
                }
                round::Action::Fix { slot, survivors, transcript } => {
                    let Some(stage) = self.current_stage().map(|stage| stage.id) else { continue };
                    let survivors = survivors.iter().map(|seat| self.roster.name(*seat).to_owned()).collect();
                    let round = self.checkpoint.round;
                    self.ask_once(Some(Record::RoundClose { stage, round, slot, survivors, transcript }));
                }
                round::Action::Fold { slot, seat } => self.actions.push_back(Action::Fold { slot, seat }),
                round::Action::Discard { slot, summed } => self.actions.push_back(Action::Discard { slot, summed }),
            }
        }
        self.sequence += 1;
    }

    fn handle_outcome(&mut self, now_ms: u64, outcome: Outcome) {
        let Step::Run { state, .. } = std::mem::replace(&mut self.step, Step::Start) else { return };
        let Some(stage) = self.current_stage().cloned() else { return };
        let (sum, survivors, transcript) = match outcome {
            Outcome::Summed { sum, survivors, transcript } => (sum, survivors, transcript),
            Outcome::Failed { reason } => {
                return self.fail("too-few-hospitals", format!("stage '{}': {reason}", stage.name));
            }
        };
        let next = match stage.algorithm.combine(&state, &sum) {
            Ok(next) => next,
            Err(finding) => return self.fail("finding", format!("stage '{}': {finding}", stage.name)),
        };
        drop(sum);
        self.checkpoint.pinned = None;
        self.checkpoint.transcripts = record::chain_transcript(&self.checkpoint.transcripts, &transcript);
        match next {
            Next::Round(next) => {
                drop(state);
                self.checkpoint.trace.extend(stage.algorithm.loss(&next));
                if self.checkpoint.round >= stage.rounds_max {
                    let rounds = stage.rounds_max;
                    return self.fail(
                        "rounds-used-up",
                        format!("stage '{}' used up the {rounds} rounds that the terms allow", stage.name),
                    );
                }
                self.checkpoint.round += 1;
                self.begin_round(now_ms, next);
            }
            Next::Done(outcome, last) => self.finish_stage(&stage, outcome, &last, &survivors),
        }
    }

    fn finish_stage(&mut self, stage: &StagePlan, outcome: Estimate, last: &State, survivors: &[u16]) {
        let bytes = last.to_bytes();
        let digest: [u8; 32] = Sha256::digest(&bytes).into();
        let finished = Finished {
            state: hex::encode(digest),
            started_from: self.checkpoint.started.clone().unwrap_or_default(),
            rounds: self.checkpoint.round,
            outcome,
            hospitals: survivors.iter().map(|seat| self.roster.name(*seat).to_owned()).collect(),
            trace: self.checkpoint.trace.clone(),
            transcripts: self.checkpoint.transcripts.clone(),
        };
        self.say(format!("stage '{}' is done after {} rounds", stage.name, self.checkpoint.round));
        self.checkpoint.finished.insert(stage.id, finished);
        if self.plan.stages.iter().any(|later| later.state_from == Some(stage.id)) {
            self.states.insert(hex::encode(digest), bytes.clone());
        }
        self.actions.push_back(Action::StoreState { digest, bytes });
        self.actions.push_back(Action::Remember(self.checkpoint.clone()));
        self.step = Step::Receipt;
        self.ask_once(record::receipt(&self.plan, &self.checkpoint, stage.id));
    }

    /// Keeps only the bytes that a later stage starts from.
    fn forget_states(&mut self) {
        let later = self.plan.stages.iter().skip(self.checkpoint.stage + 1).filter_map(|stage| stage.state_from);
        let needed: BTreeSet<&String> =
            later.filter_map(|id| self.checkpoint.finished.get(&id)).map(|finished| &finished.state).collect();
        self.states.retain(|digest, _| needed.contains(digest));
    }
}
